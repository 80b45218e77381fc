"""Tables of text, in Markdown, as CSV and for a terminal. Text from outside cannot act in them: see `shown`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from .shown import shown, shown_line

ABSENT = "–"
# an escaped character, a code span, the beginning of HTML, the middle of a link or an image
_ACTIVE = re.compile(r"\\[\\`]|(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)|<|\](?=[(\[])")
_TARGET = re.compile(r"^(\[[^\]]*\]):")  # it would name the target of links elsewhere in the page
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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


def inline(text: str) -> str:
    """A text from outside as one line of Markdown. It is shown, and its HTML, links and images do nothing."""
    line = " ".join(shown(text).split())
    line = _ACTIVE.sub(lambda match: {"<": "&lt;", "]": "]\\"}.get(match[0], match[0]), line)
    return _TARGET.sub(r"\1\\:", line)


def code(text: str) -> str:
    """A text from outside as a code span of Markdown, on one line."""
    line = shown_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A Markdown table. The first column is left-aligned; the others are right-aligned if they hold `numbers`.

    Cells are made `inline`. Bars inside cells are escaped.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_cell, cells)) + " |"

    rule = "| --- |" + (" ---: |" if numbers else " --- |") * (len(headings) - 1)
    return "\n".join([line(headings), rule, *map(line, rows)])


def _cell(text: str) -> str:
    # a backslash before a bar would take the place of the bar's own
    return re.sub(r"(\\*)\|", lambda bar: f"{bar[1] * 2}\\|", inline(text))


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with a heading. Numbers keep all their digits; None is an empty cell; texts are shown on one line.

    A text that a spreadsheet would read as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow([_csv_cell(cell) for cell in row])
    return text.getvalue()


def _csv_cell(cell: Any) -> Any:
    if not isinstance(cell, str):
        return "" if cell is None else cell
    return ("'" if cell.startswith(_FORMULA) else "") + shown_line(cell)


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded columns, for a terminal. Cells must be short and without bars."""
    rows = [[shown_line(cell) for cell in row] for row in rows]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(headings) - 1)]
    padded = [[pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
