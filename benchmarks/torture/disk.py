"""A disk that fills up, refuses to be written, or goes away; then space again, and the same command."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .commands import Running
from .folders import differences
from .verdict import SKIPPED, Result, done, flaws, refused, result
from .workshop import CONFIG, Case, Workshop

DISK = 5
_COMMAND = ("aft-train", "--config", str(CONFIG))


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Small disks of sizes up to that of the run, a limit on the size of files, read-only folders, folders that go."""
    if quick:
        return [Case("files of at most 20 KiB in sampling", _limited_stage)]
    sizes = [16, *(round(chance.uniform(part, part + 1) * 4500 / 11) for part in range(11))]
    made = [Case(f"a disk of {size} KiB", functools.partial(_small, size)) for size in sizes]
    limits = [2, 20, 80, 93, 150, 190]
    made += [Case(f"files of at most {size} KiB", functools.partial(_limited, size)) for size in limits]
    return [
        *made,
        Case("a read-only disk from the start", functools.partial(_read_only, 0.0)),
        Case("a read-only disk in the middle", functools.partial(_read_only, 0.5)),
        Case("the folder is removed early", functools.partial(_gone, 0.4)),
        Case("the folder is removed late", functools.partial(_gone, 0.8)),
        Case("the folder is a file", _file),
        Case("the folder lies below a file", _below_file),
    ]


@contextlib.contextmanager
def _disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A disk of its own with `size` KiB in the folder, or None where none may be mounted."""
    place = folder / "disk"
    place.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "torture", str(place)]
    if os.name != "posix" or subprocess.run(asked, capture_output=True).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def unmount_below(folder: Path) -> None:
    """Takes away the disks that a killed torture left in the folder."""
    mounts = Path("/proc/mounts")
    for line in mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []:
        place = line.split()[1]
        if Path(place).is_relative_to(folder.resolve()):
            subprocess.run(["umount", "--lazy", place], check=False)


def _again(options: str, place: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


_UNMOUNTED = Result(SKIPPED, "no disk can be mounted here")


def _small(size: int, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    with _disk(folder, size) as place:
        if place is None:
            return _UNMOUNTED
        ended = Running(place, *_COMMAND).end()
        found = flaws(ended) + (refused(ended, {DISK}) if ended.code else [])
        _again("size=64m", place)
        ended = Running(place, *_COMMAND).end()
        return result(found + flaws(ended) + done(ended) + differences(uncut.expected, place / "run"))


def _limited(size: int, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 1024, size * 1024))

    ended = Running(folder, *_COMMAND, preexec_fn=limit).end()
    found = flaws(ended) + (refused(ended, {DISK}) if ended.code else [])
    ended = Running(folder, *_COMMAND).end()
    return result(found + flaws(ended) + done(ended) + differences(uncut.expected, folder / "run"))


def _limited_stage(shop: Workshop, folder: Path) -> Result:
    """One stage in a fork, whose file of completions does not fit."""
    uncut = shop.uncut()
    run = shop.copy(uncut.run, folder)
    for stage in ("sample", "label", "align", "evaluate"):
        shutil.rmtree(run / "seed-0" / stage)
    ended = shop.stage(folder, "sample", fsize=20 * 1024)
    found = flaws(ended) + refused(ended, {DISK})
    ended = shop.stage(folder, "sample")
    expected = {path: value for path, value in uncut.expected.items() if path.startswith("seed-0/sample/")}
    return result(found + flaws(ended) + done(ended) + differences(expected, run, "seed-0/sample"))


def _read_only(share: float, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    with _disk(folder, 65536) as place:
        if place is None:
            return _UNMOUNTED
        if share:
            running = Running(place, *_COMMAND)
            running.wait(uncut.seconds * share)
            running.kill()
        _again("ro", place)
        ended = Running(place, *_COMMAND).end()
        found = flaws(ended) + refused(ended, {DISK})
        _again("rw", place)
        ended = Running(place, *_COMMAND).end()
        return result(found + flaws(ended) + done(ended) + differences(uncut.expected, place / "run"))


def _gone(share: float, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    running = Running(folder, *_COMMAND)
    running.wait(uncut.seconds * share)
    shutil.rmtree(folder / "run", ignore_errors=True)
    ended = running.end()
    found = flaws(ended)
    if ended.code:
        found += refused(ended, {1, 3, DISK})
    ended = Running(folder, *_COMMAND).end()
    return result(found + flaws(ended) + done(ended) + differences(uncut.expected, folder / "run"))


def _file(shop: Workshop, folder: Path) -> Result:
    (folder / "run").write_text("mine", encoding="utf-8")
    ended = shop.command(folder, *_COMMAND)
    kept = (folder / "run").is_file() and (folder / "run").read_text(encoding="utf-8") == "mine"
    return result(flaws(ended) + refused(ended, {1, 2, DISK}) + ([] if kept else ["the file was overwritten"]))


def _below_file(shop: Workshop, folder: Path) -> Result:
    (folder / "file").write_text("mine", encoding="utf-8")
    ended = shop.command(folder, *_COMMAND, "output_dir=file/run")
    return result(flaws(ended) + refused(ended, {1, 2, DISK}))
