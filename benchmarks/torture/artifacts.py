"""Damages every file of a finished run: it is named before anything is made of it, and made again when asked."""

from __future__ import annotations

import functools
import random
import shutil
import zlib
from pathlib import Path

from .damage import UNSEEN, WAYS
from .folders import differences
from .verdict import Ended, Result, done, flaws, refused, result
from .workshop import CONFIG, Case, Workshop

DAMAGED = 3
# no later stage reads these, and no number is in them
_NEVER_READ = {"README.md", "training_args.bin", "environment.json"}
# of the whole run: every command writes them anew, or says why not
_MADE_ANEW = (
    *("config.yaml", "data.json", "report.json", "report.csv", "report.md", "report.html"),
    *("report.png", "calibration.png"),
)
_UNITS = ("base", "vft", "sample", "label", "align/rft", "align/bcl", "evaluate/vft", "evaluate/bcl")
# the files of the finished run of run.yaml, so that the cases are known before it ran
_CHECKPOINT = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "trainer_state.json")
_EVALUATION = (
    *("metrics.json", "predictions.jsonl", "completions.jsonl", "pool.jsonl", "assessment_questions.jsonl"),
    *("references.jsonl", "own-0000.jsonl", "training_scores.jsonl"),
)
_FILES = {
    **dict.fromkeys(("base", "vft", "align/rft"), _CHECKPOINT),
    "align/bcl": (*_CHECKPOINT, "initial_scores.json"),
    "sample": ("completions.jsonl",),
    "label": ("groups.jsonl", "pool.jsonl", "counts.json"),
    **dict.fromkeys(("evaluate/vft", "evaluate/bcl"), _EVALUATION),
}


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every artifact damaged in every way, and one repair for each unit."""
    if quick:
        return [Case("sample/completions.jsonl emptied, then aft-label", _no_samples)]
    made = []
    for unit in _UNITS:
        for name in (*_FILES[unit], "manifest.json"):
            for way in (*WAYS, *(UNSEEN if name != "manifest.json" else ())):
                made.append(Case(f"{unit}/{name} {way}", functools.partial(_damage, f"{unit}/{name}", way)))
    made += [
        Case(f"{name} {way}", functools.partial(_damage_whole, name, way))
        for name in _MADE_ANEW
        for way in ("truncated", "emptied", "removed")
    ]
    made += [Case(f"{unit} repaired", functools.partial(_repair, unit)) for unit in _UNITS]
    return made


def _path(run: Path, name: str) -> Path:
    return run / name if name.startswith("base/") else run / "seed-0" / name


def _damage_file(path: Path, way: str) -> bytes | None:
    """Damages a file. Returns what is then in it, or None."""
    (WAYS | UNSEEN)[way](path, random.Random(zlib.crc32(f"{path.name} {way}".encode())))
    return path.read_bytes() if path.exists() else None


def _damage(name: str, way: str, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    run = shop.copy(uncut.run, folder)
    path = _path(run, name)
    left = _damage_file(path, way)
    found = _is_named(shop.command(folder, "aft-verify", "run"), name)
    arguments = ("--config", str(CONFIG), *(("--verify",) if way in UNSEEN else ()))
    ended = shop.command(folder, "aft-train", *arguments)
    found += flaws(ended)
    if ended.code == 0:  # made again, which may only end in the same bits
        found += differences(uncut.expected, run)
    else:
        found += _is_named(ended, name)
        if (path.read_bytes() if path.exists() else None) != left:
            found.append("the damaged file was overwritten")
    return result(found)


def _no_samples(shop: Workshop, folder: Path) -> Result:
    """The stage that reads the file refuses it, and so does the check of the whole folder."""
    name = "sample/completions.jsonl"
    run = shop.copy(shop.uncut().run, folder)
    _damage_file(_path(run, name), "emptied")
    shutil.rmtree(run / "seed-0" / "label")
    ended = shop.command(folder, "aft-label", "--config", str(CONFIG))
    return result(_is_named(ended, name) + _is_named(shop.command(folder, "aft-verify", "run"), name))


def _is_named(ended: Ended, name: str) -> list[str]:
    unit = name.rpartition("/")[0]
    if ended.code == 0:
        return ["not noticed"]
    found = flaws(ended) + refused(ended, {DAMAGED})
    return found if name.split("/")[-1] in ended.text or unit in ended.text else [*found, "the file was not named"]


def _damage_whole(name: str, way: str, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    run = shop.copy(uncut.run, folder)
    _damage_file(run / name, way)
    ended = shop.command(folder, "aft-train", "--config", str(CONFIG))
    found = flaws(ended)
    if ended.code == 0:
        return result(found + differences(uncut.expected, run))
    return result(found + refused(ended, {DAMAGED}))


def _repair(unit: str, shop: Workshop, folder: Path) -> Result:
    uncut = shop.uncut()
    run = shop.copy(uncut.run, folder)
    name = f"{unit}/{_FILES[unit][0]}"
    left = _damage_file(_path(run, name), "a bit flipped")
    ended = shop.command(folder, "aft-train", "--config", str(CONFIG), "--repair")
    kept = [path for path in (run / "replaced").rglob(Path(name).name) if path.read_bytes() == left]
    found = flaws(ended) + done(ended) + differences(uncut.expected, run)
    return result(found + ([] if kept else ["the damaged file was not kept in replaced/"]))
