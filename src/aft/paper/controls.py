"""Controls that train as much as another method, counted in sequences or response tokens: how many steps that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..config import merge
from ..run import MANIFEST, read_manifest
from .methods import CONTROLS, Control


def with_matched_steps(
    methods: Mapping[str, Mapping[str, Any]], folder: Path, seeds: Sequence[int]
) -> tuple[dict[str, Any], list[str]]:
    """The methods with the controls among them at their steps, and the names of those whose steps are not known yet.

    Those are left out: what they are matched with has to be trained first.
    """
    known, waiting = {}, []
    for name, changes in methods.items():
        if name not in CONTROLS:
            known[name] = dict(changes)
            continue
        steps = matched_steps(CONTROLS[name], folder, seeds)
        if steps is None:
            waiting.append(name)
        else:
            known[name] = merge(changes, {"training": {"max_steps": steps}})
    return known, waiting


def matched_steps(control: Control, folder: Path, seeds: Sequence[int]) -> int | None:
    """The control's steps in the run `folder`, on average over seeds; None where a manifest is not there."""
    steps = []
    for seed in seeds:
        units = folder / f"seed-{seed}" / "align"
        model = _work(units / control.model / MANIFEST, control.unit)
        own = _work(units / control.method / MANIFEST, control.unit)
        if model is None or own is None:
            return None
        steps.append(model[0] * model[1] / own[1])
    return round(fmean(steps)) if steps else None


def _work(path: Path, unit: str) -> tuple[int, float] | None:
    """Steps of a finished training, and units of one entry of a step on average."""
    found = read_manifest(path) or {}
    count = (found.get("epoch") or {}).get(unit)
    return (int(found["steps"]), count / found["entries"]) if count else None
