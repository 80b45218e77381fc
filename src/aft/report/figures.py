"""The figures of a report's main table as plain numbers, for whoever shows them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .columns import columns, estimate


def mean_figures(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns `MODEL/MEASURE` -> the mean over seeds, for every finite figure of the main table. Shares are 0 to 1.

    A round's model METHOD@R is called METHOD-roundR, as some trackers allow no `@`.
    """
    found = {}
    for model in report["models"]:
        name = model["name"].replace("@", "-round")
        for measure in columns(report):
            value = _of_versus(model) if measure.name == "vs_vft" else estimate(model, measure)
            if (mean := getattr(value, "mean", value)) is not None:
                found[f"{name}/{measure.name}"] = float(mean)
    return found


def _of_versus(model: Mapping[str, Any]) -> float | None:
    versus = model["vs_vft"]
    return None if versus is None else versus["mean"]


def seed_figures(report: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, float]]:
    """Returns (model, seed) -> {measure: value} with every finite figure of the main table that has one by seed."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for model in report["models"]:
        for measure in columns(report):
            value = None if measure.name == "vs_vft" else estimate(model, measure)
            for seed, of_seed in value.by_seed.items() if value is not None else ():
                if of_seed.mean is not None:
                    found.setdefault((model["name"], seed), {})[measure.name] = float(of_seed.mean)
    return found
