"""Controls that train as much as another method, counted in sequences or response tokens: how many steps that takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ..run.folder import RunFolder
from ..run.manifest import read_manifest
from .methods import Control


def matched_steps(control: Control, folder: Path, seeds: Sequence[int]) -> int | None:
    """The control's steps in the run `folder`, on average over seeds; None where a manifest is not there."""
    steps = []
    for seed in seeds:
        model, own = (
            _work(RunFolder(folder).unit("align", seed, name).manifest, control.unit)
            for name in (control.model, control.method)
        )
        if model is None or own is None:
            return None
        steps.append(model[0] * model[1] / own[1])
    return round(fmean(steps)) if steps else None


def _work(path: Path, unit: str) -> tuple[int, float] | None:
    """Steps of a finished training, and units of one entry of a step on average."""
    found = read_manifest(path) or {}
    count = (found.get("epoch") or {}).get(unit)
    return (int(found["steps"]), count / found["entries"]) if count else None
