"""The columns of a report's main table, and the measures that are derived from another one's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stats.estimate import Estimate
from ..stats.intervals import wilson
from .measures import COLUMNS, FEW_UNPARSED, MEASURES, Measure, has_pool


def columns(report: Mapping[str, Any]) -> list[Measure]:
    """The measures of the main table, without optional ones that no model has.

    Those of a pool are columns only if a model has scored one. The shares of parsed and ended answers are columns only
    if a model leaves more than a few answers unparsed.
    """
    models = report["models"]
    parsed = [estimate(model, MEASURES["parsed"]) for model in models]
    shares = [found.mean for over_seeds in parsed if over_seeds for found in over_seeds.by_seed.values()]
    tells = any(share is not None and share < 1 - FEW_UNPARSED for share in shares)
    return [
        measure
        for measure in COLUMNS
        if (tells or not measure.lacks)
        and (not measure.of_pool or has_pool(models))
        and (not measure.optional or any(estimate(model, measure) is not None for model in models))
    ]


def estimate(model: Mapping[str, Any], measure: Measure) -> Any:
    """A model's figure of a measure. `lacks`: the share that this count leaves over; None where it is not counted."""
    if not measure.lacks:
        return model[measure.name]
    accuracy = model["task_accuracy"]
    by_seed = {}
    for seed, found in accuracy.by_seed.items() if accuracy else ():
        count = found.beside.get(measure.lacks)
        if found.n and count is not None:
            low, high = wilson(found.n - count, found.n)
            by_seed[seed] = Estimate((found.n - count) / found.n, low=low, high=high, n=found.n)
    return Estimate.over_seeds(by_seed, one_checkpoint=len(model["checkpoints"]) == 1)
