"""A page as Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ..markdown import csv_text, inline, markdown
from ..shown import shown, shown_line
from ..stats.estimate import Estimate, to_json
from .cells import TextTable
from .claims import HELD, NOT_HELD, NOT_TESTED
from .page import Page

MEANING = (
    "± sample standard deviation over seeds; [95 % interval] over questions where there is a single value. "
    "Differences in points on the same questions, [95 % paired bootstrap interval] with the seeds held fixed; * marks"
    " an interval without 0."
)
CSV_HEADINGS = ("table", "run", "row", "column", "model", "measure", "mean", "sd", "low", "high", "seeds", "paper")


def as_markdown(page: Page) -> str:
    """The whole page."""
    parts = [f"## {page.spec.title}", markdown(page.table.headings, page.table.rows), MEANING]
    if page.differences.rows:
        parts.append(markdown(page.differences.headings, page.differences.rows))
    parts += [f"### {inline(title)}\n\n{markdown(table.headings, table.rows)}" for title, table in page.further]
    if page.verdicts:
        number = f"{len(page.verdicts)} verdicts, and nothing corrects for their number"
        parts.append(f"Claims (docs/tables.md has the rule; {number}):\n\n" + claim_lines(page))
    if page.notes:
        parts.append("\n".join(f"- {inline(note)}" for note in page.notes))
    return shown("\n\n".join(parts)) + "\n"


def claim_lines(page: Page) -> str:
    """A line for each claim and run, the figures below it."""
    lines = []
    for status in (HELD, NOT_HELD, NOT_TESTED):
        for verdict in page.verdicts:
            if verdict.status == status:
                lines.append(f"- **{status}** ({inline(verdict.run)}): {inline(verdict.claim)}.")
                lines += [f"  - {inline(text)}" for text in verdict.evidence]
    return "\n".join(lines)


def as_latex(page: Page) -> str:
    """The table and its caption; needs the package `booktabs`."""
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_tex(page.spec.title)}. {_tex(MEANING)}}}",
            _tabular(page.table),
            r"\end{table}",
            "",
        ]
    )


def _tabular(table: TextTable) -> str:
    lines = [rf"  \begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}", r"    \toprule", _line(table.headings)]
    lines += [r"    \midrule", *map(_line, table.rows), r"    \bottomrule", r"  \end{tabular}"]
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return "    " + " & ".join(map(_tex, cells)) + r" \\"


_TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "β": r"$\beta$",
    "τ": r"$\tau$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in shown_line(text))


def as_csv(page: Page) -> str:
    """A row for every measure of every cell, numbers with all their digits."""
    return csv_text(CSV_HEADINGS, _rows(page))


def _rows(page: Page) -> Iterator[list[Any]]:
    for cell in page.cells:
        for measure, value in cell.values.items():
            # the best β is a plain number
            found = value if isinstance(value, Estimate) else Estimate(value)
            place = [page.spec.key, cell.run, " / ".join(cell.row), cell.column, cell.model or "", measure]
            numbers = [found.mean, found.sd, found.low, found.high]
            yield [*place, *numbers, " ".join(map(str, found.by_seed)), cell.paper]


def as_json(page: Page) -> dict[str, Any]:
    """Cells, differences, verdicts, notes and the manifests behind them."""
    return {
        "table": page.spec.key,
        "title": page.spec.title,
        "cells": [to_json(vars(cell)) for cell in page.cells],
        "differences": dataclasses.asdict(page.differences),
        **(
            {"further": [{"title": title, **dataclasses.asdict(table)} for title, table in page.further]}
            if page.further
            else {}
        ),
        "claims": [dataclasses.asdict(verdict) for verdict in page.verdicts],
        "notes": list(page.notes),
        "manifests": dict(page.manifests),
    }
