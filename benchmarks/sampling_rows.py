"""Sampling, as `sampling.py` measures it, in the page's form."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from bars import Bar, table
from timing import Settings, Summary

TITLE = "Sampling"
AIMS = {4: 1.6, 16: 2.5}  # prompts at once: times faster than `generate`
DEFAULT = "ours, continuous"


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    return None if importlib.util.find_spec("sampling") else "benchmarks/sampling.py is not there"


def measure(settings: Settings) -> dict[str, Any]:
    """Rows of name, variant, prompts, tokens_per_second and ratio to `generate`; on one thread."""
    return {"rows": importlib.import_module("sampling").measure(settings.repeats)}


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary: the library's default."""
    rows = figures["rows"] if figures else []
    found = []
    for prompts, aim in AIMS.items():
        ratios = [row["ratio"] for row in rows if row["prompts"] == prompts and row["variant"] == DEFAULT]
        measure = f"sampling 6 a question against `generate`, {prompts} prompts"
        found.append(Bar(measure, "≥", aim, _summary(ratios[0]) if ratios else None))
    return found


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = [
        [
            row["name"],
            row["variant"],
            _summary(row["tokens_per_second"]).text("{:,.0f}"),
            _summary(row["ratio"]).text(unit="×"),
        ]
        for row in figures["rows"]
    ]
    text = "On one thread, whatever the others use. All ways write the same tokens."
    return text + "\n\n" + table(["measure", "way", "useful tokens per second", "against `generate`"], rows)


def _summary(value: float | Mapping[str, float]) -> Summary:
    """A median with or without its range."""
    if isinstance(value, Mapping):
        return Summary(value["median"], value["min"], value["max"])
    return Summary(value, value, value)
