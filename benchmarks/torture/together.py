"""Starts a second command in the folder of a run that is at work."""

from __future__ import annotations

import functools
import random
import signal
import threading
from pathlib import Path

from . import judges
from .commands import LAUNCHED, Running
from .folders import differences
from .judges_table import good
from .verdict import Ended, Result, done, flaws, last_line, refused, result
from .workshop import CONFIG, OTHER, Case, Workshop

IN_USE = 4
_FIRST = ("--config", str(CONFIG), "--stage", "pretrain")


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Equal and different runs, one stage, a launcher's process, commands that only read, and what a kill left."""
    if quick:
        return [Case("labelling twice", _labels)]
    delays = [0.0, 0.3, 1.0, *(chance.uniform(1.0, 8.0) for _ in range(3))]
    made = []
    for delay in delays:
        for name, arguments in (("equal", ()), ("different", (OTHER,))):
            made.append(Case(f"{name} run after {delay:.1f} s", functools.partial(_second, delay, arguments, False)))
    for delay in delays[2:4]:
        made.append(Case(f"launched by hand after {delay:.1f} s", functools.partial(_second, delay, (OTHER,), True)))
    made += [Case(f"{name} while it runs", functools.partial(_reader, name)) for name in ("aft-report", "--dry-run")]
    for name in ("SIGKILL", "SIGTERM"):
        for moment in (0.3, 0.6):
            told = f"again at once after {name} of the conductor at {moment:.0%}"
            made.append(Case(told, functools.partial(_again, name, moment)))
    return made


def _labels(shop: Workshop, folder: Path) -> Result:
    """Labelling by a slow judge, and the same command once the judge is asked."""
    shop.copy(shop.uncut().run, folder)
    asked = threading.Event()
    with judges.server((0.5, good(7)), None, asked) as port:
        command = ("aft-label", *judges.ARGUMENTS, "label.ratings.timeout=60")
        first = Running(folder, *command, environment=judges.environment(port))
        first.wait(60.0, until=asked.is_set)
        second = shop.forks.run(folder, *command, extra=judges.environment(port), limit=60.0)
        found = [] if asked.is_set() and first.is_running else ["the first was not at work"]
        first.kill()
    return result(found + flaws(second) + refused(second, {IN_USE}))


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
