"""A report dictionary as report.csv: one row for every model, seed and measure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

from .measures import FAMILIES, MEASURED

HEADINGS = ("model", "seed", "measure", "value", "low", "high", "n")


def csv_text(report: Mapping[str, Any]) -> str:
    """The rows as CSV with a heading. Numbers keep all their digits; a cell without a number is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADINGS)
    for row in _rows(report):
        writer.writerow(["" if cell is None else cell for cell in row])
    return text.getvalue()


def _rows(report: Mapping[str, Any]) -> Iterator[list[Any]]:
    for model in report["models"]:
        found = [(measure.name, model[measure.name]) for measure in MEASURED]
        found += [(family.prefix + name, entry) for family in FAMILIES for name, entry in model[family.name].items()]
        for seed in model["seeds"]:
            for measure, entry in found:
                value = entry and entry.by_seed.get(seed)
                if value is not None:
                    mean = math.inf if value.infinite else value.mean
                    yield [model["name"], seed, measure, mean, value.low, value.high, value.n]
            versus = (model["vs_vft"] or {"by_seed": {}})["by_seed"].get(str(seed))
            if versus is not None:
                ends = [versus["bootstrap_low"], versus["bootstrap_high"]]
                yield [model["name"], seed, "vs_vft", versus["mean"], *ends, versus["n"]]
