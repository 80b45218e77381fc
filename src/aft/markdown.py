"""Tables of text, in Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABSENT = "–"


def plain(value: Any) -> str:
    """A JSON value as the text of a table cell."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or ABSENT
    if isinstance(value, (bool, str)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def per_cent(count: int, total: int, decimals: int = 1) -> str:
    """A share in per cent, without the sign; empty if `total` is 0."""
    return f"{100 * count / total:.{decimals}f}" if total else ""


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A Markdown table. The first column is left-aligned; the others are right-aligned if they hold `numbers`.

    Bars inside cells are escaped.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    rule = "| --- |" + (" ---: |" if numbers else " --- |") * (len(headings) - 1)
    return "\n".join([line(headings), rule, *map(line, rows)])


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns, for a terminal. Cells must be short and without bars."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(headings) - 1)]
    padded = [[pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
