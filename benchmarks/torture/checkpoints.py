"""Damages every part of the last checkpoint of a cut training, then lets the training go on."""

from __future__ import annotations

import functools
import random
import shutil
import zlib
from pathlib import Path

from .commands import Running
from .damage import UNSEEN, WAYS
from .folders import differences
from .verdict import Result, flaws, refused, result
from .workshop import CONFIG, Case, Workshop

_PARTS = (
    *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json"),
    *("tokenizer.json", "training_args.bin"),
)
_REFUSED = (1, 3)


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every part in every way; the whole checkpoint; and all checkpoints."""
    if quick:
        return [Case("optimizer.pt removed", functools.partial(_damage, "optimizer.pt", "removed"))]
    made = [Case(f"{part} {way}", functools.partial(_damage, part, way)) for part in _PARTS for way in (*WAYS, *UNSEEN)]
    made += [Case(f"every checkpoint's {part} removed", functools.partial(_all, part)) for part in _PARTS[:5]]
    return [*made, Case("the last checkpoint is an empty folder", _empty)]


def _last(run: Path) -> Path:
    return max((run / "base").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _damage(part: str, way: str, shop: Workshop, folder: Path) -> Result:
    run = shop.copy(shop.cut_training(), folder)
    path = _last(run) / part
    (WAYS | UNSEEN)[way](path, random.Random(zlib.crc32(f"{part} {way}".encode())))
    return _go_on(shop, folder)


def _all(part: str, shop: Workshop, folder: Path) -> Result:
    run = shop.copy(shop.cut_training(), folder)
    for path in (run / "base").glob(f"checkpoint-*/{part}"):
        path.unlink()
    return _go_on(shop, folder)


def _empty(shop: Workshop, folder: Path) -> Result:
    last = _last(shop.copy(shop.cut_training(), folder))
    shutil.rmtree(last)
    last.mkdir()
    return _go_on(shop, folder)


def _go_on(shop: Workshop, folder: Path) -> Result:
    """The training ends with the uncut run's bits, or says why it cannot go on."""
    expected = {path: value for path, value in shop.uncut().expected.items() if path.startswith("base/")}
    if shop.quick:
        ended = shop.stage(folder, "pretrain")
    else:
        ended = Running(folder, "aft-train", "--config", str(CONFIG), "--stage", "pretrain").end()
    found = flaws(ended)
    if ended.code == 0:
        return result(found + differences(expected, folder / "run", "base"))
    return result(found + refused(ended, _REFUSED))
