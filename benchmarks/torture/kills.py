"""Kills a run at random moments of all stages, runs the same command again, and compares every result."""

from __future__ import annotations

import functools
import random
import signal
from pathlib import Path

from .commands import Running
from .folders import differences
from .verdict import Result, done, flaws, result
from .workshop import CONFIG, Case, Workshop

KILLS_A_RUN = 2
_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_SHARES = (5, 2, 2, 1)  # of the kills: nothing is as hard as SIGKILL


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Fifty kills, two in a run; half of the runs lose every process, the others the conductor alone."""
    if quick:
        return [Case("SIGKILL between two checkpoints", _between)]
    runs = 25
    numbers = [name for name, share in zip(_SIGNALS, _SHARES, strict=True) for _ in range(share)]
    # one moment from each part of the run, so that few kills reach every stage
    moments = [(part + chance.random()) / (runs * KILLS_A_RUN) for part in range(runs * KILLS_A_RUN)]
    chance.shuffle(moments)
    made = []
    for run in range(runs):
        kills = []
        for moment in sorted(moments[run * KILLS_A_RUN : (run + 1) * KILLS_A_RUN]):
            kills.append(
                (moment, numbers[len(made) % len(numbers)] if not kills else chance.choice(numbers), bool(run % 2))
            )
        told = ", ".join(f"{name} at {moment:.0%}{' to all' if everyone else ''}" for moment, name, everyone in kills)
        made.append(Case(f"{run:02d} {told}", functools.partial(_kill, kills)))
    return made


def _between(shop: Workshop, folder: Path) -> Result:
    """One stage in a fork, killed once its second checkpoint is there."""
    expected = {path: value for path, value in shop.uncut().expected.items() if path.startswith("base/")}
    shop.cut_stage(folder)
    ended = shop.stage(folder, "pretrain")
    return result(flaws(ended) + done(ended) + differences(expected, folder / "run", "base"))


def _kill(kills: list[tuple[float, str, bool]], shop: Workshop, folder: Path) -> Result:
    uncut, found, passed = shop.uncut(), [], 0.0
    for moment, name, everyone in kills:
        number = getattr(signal, name)
        running = Running(folder, "aft-train", "--config", str(CONFIG))
        # what the first part of the run has done is not done again
        running.wait((moment - passed) * uncut.seconds + (2.0 if passed else 0.0))
        passed = moment
        if not running.is_running:
            running.kill()
            continue
        running.send(number, everyone=everyone)
        ended = running.end(60.0)
        # a process that was killed while it wrote has no last word
        found += [f"{name} at {moment:.0%}: {flaw}" for flaw in flaws(ended)]
        if ended.code not in (0, -number, 128 + number, None):
            found.append(f"{name} at {moment:.0%}: exit code {ended.code}, not {128 + number}")
    ended = Running(folder, "aft-train", "--config", str(CONFIG)).end()
    return result(found + flaws(ended) + done(ended) + differences(uncut.expected, folder / "run"))
