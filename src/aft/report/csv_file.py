"""A report dictionary as report.csv: one row for every model, seed and measure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..markdown import csv_text
from .measures import FAMILIES, MEASURED

HEADINGS = ("model", "seed", "measure", "value", "low", "high", "n")


def csv_report(report: Mapping[str, Any]) -> str:
    """The rows as CSV with a heading. Numbers keep all their digits; a cell without a number is empty."""
    return csv_text(HEADINGS, report_rows(report))


def report_rows(report: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The rows in the order of `HEADINGS`, of a report as `read_report` or `build_report` return it."""
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
