"""A report dictionary as report.csv: one row for every model, seed and measure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

from .read import FAMILIES, MEASURES, OPTIONAL_MEASURES

HEADINGS = ("model", "seed", "measure", "value", "low", "high", "n")
# measures of a family are named after its member: vote@8, pass@8, accuracy:algebra
NAMES = {"vote": "vote@", "pass": "pass@", "categories": "accuracy:"}


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
        found = [(measure, model[measure]) for measure in (*MEASURES, *OPTIONAL_MEASURES)]
        found += [(NAMES[family] + name, entry) for family in FAMILIES for name, entry in model[family].items()]
        for seed in map(str, model["seeds"]):
            for measure, entry in found:
                value = (entry or {"by_seed": {}})["by_seed"].get(seed)
                if value is not None:
                    number = math.inf if value.get("infinite") else value["value"]
                    yield [model["name"], seed, measure, number, value["low"], value["high"], value["n"]]
            versus = (model["vs_vft"] or {"by_seed": {}})["by_seed"].get(seed)
            if versus is not None:
                ends = [versus["bootstrap_low"], versus["bootstrap_high"]]
                yield [model["name"], seed, "vs_vft", versus["mean"], *ends, versus["n"]]
