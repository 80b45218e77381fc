"""Numbers with their spread as text, and Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .intervals import mean_sd

ABSENT = "–"


def number(value: Mapping[str, Any] | None, factor: float, decimals: int, *, signed: bool = False) -> str:
    """`mean ± sd` over seeds, or `value [low, high]`, or the value and that it has no interval."""
    if value is not None and value.get("infinite"):
        return "infinite"
    if value is None or value["mean"] is None:
        return ABSENT

    def show(amount: float) -> str:
        return f"{amount * factor:{'+' if signed else ''}.{decimals}f}"

    if value.get("sd") is not None:
        return f"{show(value['mean'])} ± {value['sd'] * factor:.{decimals}f}"
    if value["low"] is not None and value["high"] is not None:
        return f"{show(value['mean'])} [{show(value['low'])}, {show(value['high'])}]"
    return f"{show(value['mean'])} (no interval)"


def spread(values: Sequence[float], factor: float, decimals: int, *, signed: bool = False) -> str:
    """`mean ± sd` of plain values, one for each seed; the value alone if there is one."""
    if not values:
        return ABSENT
    mean, sd = mean_sd(values)
    text = number({"mean": mean, "sd": sd, "low": None, "high": None}, factor, decimals, signed=signed)
    return text.removesuffix(" (no interval)")


def bootstrap(value: Mapping[str, Any] | None) -> str:
    """A paired difference in points with its bootstrap interval."""
    if value is None:
        return ABSENT
    ends = {"low": value["bootstrap_low"], "high": value["bootstrap_high"]}
    return number({"mean": value["mean"], **ends}, 100, 2, signed=True)


def plain(value: Any) -> str:
    """Any JSON value in a table's cell."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or ABSENT
    if isinstance(value, (bool, str)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is left-aligned and the others right-aligned; bars inside cells are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    rule = "| --- |" + " ---: |" * (len(headings) - 1)
    return "\n".join([line(headings), rule, *map(line, rows)])


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`markdown` for a terminal: columns are padded, and a cell is short and has no bars."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(headings) - 1)]
    padded = [[pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
