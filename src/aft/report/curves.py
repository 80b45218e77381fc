"""What alignment has logged about the scores of right and wrong chains: curves to draw, last values for a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..json_files import read_json
from ..run.folder import TRAINER_STATE, RunFolder, Unit

# what is read of the training log, and the names of it here
KEYS = {
    "positive": "scores/positive",
    "negative": "scores/negative",
    "positive_drift": "scores/positive_drift",
    "negative_drift": "scores/negative_drift",
    "both_fell": "groups/both_fell",
    "active": "constraint/active_fraction",
}

Curves = dict[str, dict[str, dict[int, dict[int, float]]]]


def read_curves(run_folder: Path, models: Iterable[str], seeds: Iterable[int]) -> Curves:
    """Model -> a name of `KEYS` -> seed -> {step: value} as training logged it, where it did."""
    curves: Curves = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            for entry in _log(run_folder, model, seed):
                for name, key in KEYS.items():
                    if key in entry and "step" in entry:
                        by_seed = curves.setdefault(model, {}).setdefault(name, {})
                        by_seed.setdefault(seed, {})[int(entry["step"])] = float(entry[key])
    return curves


def read_displacement(run_folder: Path, models: Iterable[str], seeds: Iterable[int]) -> dict[str, dict[str, Any]]:
    """Model -> seed -> {a name of `KEYS`: its last logged value, "stopped": why training ended early or None}.

    Only where training has logged how far scores moved.
    """
    found: dict[str, dict[str, Any]] = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            logged = [entry for entry in _log(run_folder, model, seed) if KEYS["positive_drift"] in entry]
            if logged:
                manifest = read_json(_unit(run_folder, model, seed).manifest) or {}
                last = {name: float(logged[-1][key]) for name, key in KEYS.items() if key in logged[-1]}
                found.setdefault(model, {})[str(seed)] = {**last, "stopped": manifest.get("stopped")}
    return found


def _unit(run_folder: Path, model: str, seed: int) -> Unit:
    return RunFolder(run_folder).unit("align", seed, model)


def _log(run_folder: Path, model: str, seed: int) -> list[dict[str, Any]]:
    state = read_json(_unit(run_folder, model, seed).folder / TRAINER_STATE)
    log: list[dict[str, Any]] = (state or {}).get("log_history", [])
    return log
