"""Tables in the shape of the paper's, from the report of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cells import ABSENT, markdown, number, spread

# (TAcc, AAcc, PPL) without and with the constraint, LLama-7B on GSM8K-RANK: arXiv 2309.02144, Table 4. No DPO there.
TABLE_4 = {
    "VFT": ("20.82 / 68.72 / 1.60", "the same"),
    "RRHF": ("7.51 / 87.44 / 1.80", "25.53 / 79.89 / 1.35"),
    "PRO": ("18.73 / 86.58 / 2.34", "25.82 / 80.34 / 1.45"),
    "AFT": ("7.03 / 88.89 / 7.81", "26.08 / 81.36 / 1.37"),
}
MEASURES = (
    ("TAcc (%)", "task_accuracy", 100, 1),
    ("AAcc, pool (%)", "pool_assessment_accuracy", 100, 1),
    ("PPL of own right COTs", "perplexity", 1, 3),
    ("pool score of right COTs", "pool_positive", 1, 3),
)


def table_4(report: Mapping[str, Any], rows: Mapping[str, Sequence[str]]) -> str:
    """Each loss without and with its constraint: accuracy, assessment, perplexity, drift; a Markdown table.

    `rows` maps the paper's name of a row to one model of the report, or to two: without and with the constraint.
    """
    models = {model["name"]: model for model in report["models"]}
    lines = []
    for name, pair in rows.items():
        for kind, model in zip(("without", "with") if len(pair) == 2 else ("–",), pair, strict=True):
            paper = TABLE_4.get(name, (ABSENT, ABSENT))[kind == "with"]
            lines.append([name, kind, *_cells(models[model], report), paper])
    headings = [
        "method",
        "constraint",
        *(heading for heading, *_ in MEASURES),
        "drift of right COTs",
        "drift of wrong COTs",
        "both fell (%)",
        "paper: TAcc / AAcc / PPL",
    ]
    return markdown(headings, lines)


def _cells(model: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    cells = [number(model[measure], factor, decimals) for _, measure, factor, decimals in MEASURES]
    by_seed = (report.get("displacement") or {}).get(model["name"], {})
    for measure, factor, decimals in (("positive_drift", 1, 3), ("negative_drift", 1, 3), ("both_fell", 100, 1)):
        values = [entry[measure] for entry in by_seed.values() if measure in entry]
        cells.append(spread(values, factor, decimals, signed=factor == 1))
    return cells
