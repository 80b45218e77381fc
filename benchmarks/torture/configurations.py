"""Configurations that cannot be meant: each is refused with exit code 2, in one go, before anything is made."""

from __future__ import annotations

import functools
import random
from pathlib import Path

from .configurations_table import FILES, OVERRIDES
from .verdict import Result, flaws, refused, result
from .workshop import CONFIG, Case, Workshop

WRONG = 2
_LIMIT = 90.0  # seconds; a run that works for so long was not refused


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every bad value of a key, and every bad file. The command's own code runs in a fork, without its imports."""
    if quick:
        return [Case("model=null", functools.partial(_override, ("model=null",))), _file("a list")]
    made = [Case(" ".join(given)[:100], functools.partial(_override, given)) for given in OVERRIDES]
    return made + [_file(name) for name in FILES]


def _override(given: tuple[str, ...], shop: Workshop, folder: Path) -> Result:
    return _refused(shop, folder, str(CONFIG), given)


def _file(name: str) -> Case:
    def run(shop: Workshop, folder: Path) -> Result:
        for file, content in FILES[name].items():
            if file.endswith("/"):
                (folder / file).mkdir(parents=True)
            else:
                (folder / file).write_bytes(content)
        return _refused(shop, folder, "given.yaml", ())

    return Case(name, run)


def _refused(shop: Workshop, folder: Path, config: str, given: tuple[str, ...]) -> Result:
    before = set(folder.rglob("*"))
    # a plan may be shown although this machine could not follow it
    plan = shop.command(folder, "aft-train", "--config", config, "--dry-run", *given, limit=_LIMIT)
    found = flaws(plan) + (refused(plan, {WRONG}) if plan.code else [])
    if plan.code is not None:
        ended = shop.command(folder, "aft-train", "--config", config, *given, limit=_LIMIT)
        found += flaws(ended) + refused(ended, {WRONG})
    made = [path for path in set(folder.rglob("*")) - before if not path.is_relative_to(folder / "run")]
    return result(found + [f"made {path.relative_to(folder)}" for path in made[:1]])
