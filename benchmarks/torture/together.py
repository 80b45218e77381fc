"""Starts a second command in the folder of a run that is at work."""

from __future__ import annotations

import functools
import random
import signal
from pathlib import Path

from .commands import LAUNCHED, Running
from .folders import differences
from .verdict import Ended, Result, done, flaws, last_line, refused, result
from .workshop import CONFIG, OTHER, Case, Workshop

IN_USE = 4
_FIRST = ("--config", str(CONFIG), "--stage", "pretrain")


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Equal and different runs, one stage, a launcher's process, commands that only read, and what a kill left."""
    delays = [2.0] if quick else [0.0, 0.3, 1.0, *(chance.uniform(1.0, 8.0) for _ in range(3))]
    made = []
    for delay in delays:
        for name, arguments in (("equal", ()), ("different", (OTHER,))):
            made.append(Case(f"{name} run after {delay:.1f} s", functools.partial(_second, delay, arguments, False)))
    if not quick:
        made += [
            Case(f"launched by hand after {delay:.1f} s", functools.partial(_second, delay, (OTHER,), True))
            for delay in delays[2:4]
        ]
        made += [
            Case(f"{name} while it runs", functools.partial(_reader, name)) for name in ("aft-report", "--dry-run")
        ]
        made += [
            Case(f"again at once after {name} of the conductor", functools.partial(_again, name, moment))
            for name in ("SIGKILL", "SIGTERM")
            for moment in (0.3, 0.6)
        ]
    return made


def _second(delay: float, arguments: tuple[str, ...], launched: bool, shop: Workshop, folder: Path) -> Result:
    uncut, other = shop.uncut(), shop.other() if arguments else shop.uncut()
    first = Running(folder, "aft-train", *_FIRST)
    first.wait(delay)
    extra = LAUNCHED if launched else {}
    second = Running(folder, "aft-train", *_FIRST, *arguments, environment=extra)
    overlapped = first.is_running
    ended = [first.end(), second.end()]
    found = [flaw for one in ended for flaw in flaws(one)]
    base = folder / "run"
    right = [differences(_base(uncut.expected), base, "base"), differences(_base(other.expected), base, "base")]
    codes = [one.code for one in ended]
    if codes == [0, IN_USE]:
        found += refused(ended[1], {IN_USE}) + right[0]
    elif codes == [IN_USE, 0]:
        found += refused(ended[0], {IN_USE}) + right[1]
    elif codes == [0, 0] and (not arguments or (not overlapped and (base / "replaced").exists())):
        found += right[1]
    else:
        found.append(f"exit codes {codes[0]} and {codes[1]}: {last_line(_failed(ended))}")
    return result(found)


def _failed(ended: list[Ended]) -> Ended:
    return next((one for one in ended if one.code), ended[1])


def _base(expected: dict[str, str]) -> dict[str, str]:
    return {path: value for path, value in expected.items() if path.startswith("base/")}


def _reader(name: str, shop: Workshop, folder: Path) -> Result:
    """A command that only reads: it may find nothing to show, and the run goes on."""
    uncut = shop.uncut()
    first = Running(folder, "aft-train", "--config", str(CONFIG))
    found = []
    for _ in range(3):
        first.wait(uncut.seconds / 4)
        if name == "aft-report":
            ended = shop.command(folder, "aft-report", "run")
            found += flaws(ended) + (refused(ended, {1, 2, 3}) if ended.code else [])
        else:
            ended = shop.command(folder, "aft-train", "--config", str(CONFIG), name)
            found += flaws(ended) + done(ended)
    ended = first.end()
    return result(found + flaws(ended) + done(ended) + differences(uncut.expected, folder / "run"))


def _again(name: str, moment: float, shop: Workshop, folder: Path) -> Result:
    """The same command in the moment in which the conductor was killed: refused, or the folder is taken over."""
    uncut = shop.uncut()
    first = Running(folder, "aft-train", "--config", str(CONFIG))
    first.wait(uncut.seconds * moment)
    first.send(getattr(signal, name), everyone=False)
    if name != "SIGKILL":
        first.wait(60.0)
    ended = Running(folder, "aft-train", "--config", str(CONFIG)).end()
    found = flaws(ended)
    first.kill()
    if ended.code == IN_USE:
        found += refused(ended, {IN_USE})
        ended = Running(folder, "aft-train", "--config", str(CONFIG)).end()
        found += flaws(ended)
    return result(found + done(ended) + differences(uncut.expected, folder / "run"))
