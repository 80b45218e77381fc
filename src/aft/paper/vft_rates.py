"""A grid of learning rates over VFT: a folder for each rate, the accuracy of each, and the grid's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..json_files import read_json
from ..markdown import inline
from ..run.digest import digest_file
from ..run.folder import TRAINER_STATE, RunFolder
from ..stats.estimate import Estimate, to_json
from .rates import table_of


def mean_accuracy(folder: Path, seeds: Sequence[int]) -> float | None:
    """Mean validation accuracy of VFT over these seeds; None where one of them is not finished."""
    found = [validation_accuracy(folder, seed) for seed in seeds]
    known = [accuracy for accuracy in found if accuracy is not None]
    return fmean(known) if known and len(known) == len(found) else None


def validation_accuracy(folder: Path, seed: int) -> float | None:
    """Validation accuracy of a run's VFT: of the checkpoint that is kept as the best, else of the last one.

    None where it is not finished.
    """
    unit = RunFolder(folder).unit("vft", seed)
    if not unit.manifest.exists():
        return None
    state = read_json(unit.folder / TRAINER_STATE) or {}
    found = [entry["eval_task_accuracy"] for entry in state.get("log_history", []) if "eval_task_accuracy" in entry]
    best = state.get("best_metric")
    return float(found[-1] if best is None else best) if found else None


def vft_grid_page(folders: Mapping[float, Path], name: str, seeds: Sequence[int]) -> tuple[str, dict[str, Any]] | None:
    """The grid as Markdown, the best rate in bold, and as JSON. `folders`: the trial at each rate.

    None if no trial has finished, or if there is only one rate.
    """
    by_rate: dict[float, Estimate] = {}
    manifests: dict[str, str] = {}
    for rate, folder in folders.items():
        found = {seed: validation_accuracy(folder, seed) for seed in seeds}
        known = {seed: Estimate(accuracy) for seed, accuracy in found.items() if accuracy is not None}
        measured = Estimate.over_seeds(known)
        if measured is not None:
            by_rate[rate] = measured
            paths = [RunFolder(folder).unit("vft", seed).manifest for seed in known]
            manifests |= {path.as_posix(): digest_file(path) for path in paths}
    if not by_rate or len(folders) < 2:
        return None
    best, table = table_of({"VFT": by_rate}, list(folders), "model")
    title = f"Validation accuracy (%) of VFT by learning rate, {name}; seeds {', '.join(map(str, seeds))}:"
    missing = [
        f"{rate:g}, seed {seed}"
        for rate in folders
        for seed in seeds
        if rate not in by_rate or seed not in by_rate[rate].by_seed
    ]
    absent = [f"Not finished: {'; '.join(missing)}."] if missing else []
    results = {
        "grid": name,
        "seeds": list(seeds),
        "accuracy": to_json({"vft": by_rate}),
        # where a trial is missing, no rate has been chosen
        "learning_rates": {} if missing else {"vft": best["VFT"]},
        "manifests": manifests,
    }
    return "\n\n".join([inline(title), *table, *absent]), results
