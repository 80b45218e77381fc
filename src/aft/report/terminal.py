"""The main table of a report as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .columns import columns, estimate
from .measures import SHARE
from .page import spread_caption
from .spread import model_number, number
from .verdict import verdict, warnings

Column = tuple[str, Sequence[str]]  # heading, cells
WIDTH = 100  # characters


def summary_table(report: Mapping[str, Any]) -> str:
    """The main table as aligned plain text, at most 100 characters wide, its caption, what is missing, the verdict."""
    models = report["models"]
    shown = [
        (measure.short, [model_number(model, measure, brief=True) for model in models])
        for measure in columns(report)
        if any(estimate(model, measure) is not None for model in models)
    ]
    names = ("method", [model["name"] for model in models])
    sizes = sorted({int(n) for model in models for n in model["vote"]})
    votes = [(f"vote@{n} %", [number(model["vote"].get(str(n)), SHARE, brief=True) for model in models]) for n in sizes]
    blocks = [*_blocks(names, shown), *(_blocks(names, votes) if votes else [])]
    notes = [spread_caption(report), *(f"missing: {line}" for line in report["missing"])]
    told = textwrap.wrap(verdict(report, str), WIDTH)
    for line in warnings(report, str):
        told += textwrap.wrap(line, WIDTH, initial_indent="- ", subsequent_indent="  ")
    picture = (report.get("picture") or {}).get("note")
    return "\n\n".join([*map(_aligned, blocks), "\n".join(notes + ([picture] if picture else [])), "\n".join(told)])


def _blocks(names: Column, columns: Sequence[Column]) -> list[list[Column]]:
    """The columns in blocks that fit the width. Each block begins with the names."""
    blocks, block, width = [], [names], _width(names)
    for column in columns:
        if width + 2 + _width(column) > WIDTH and len(block) > 1:
            blocks.append(block)
            block, width = [names], _width(names)
        block.append(column)
        width += 2 + _width(column)
    return [*blocks, block]


def _width(column: Column) -> int:
    return max(len(cell) for cell in [column[0], *column[1]])


def _aligned(block: Sequence[Column]) -> str:
    """Columns under their headings; the first to the left, numbers to the right."""
    widths = [_width(column) for column in block]
    pad: Sequence[Callable[[str, int], str]] = [str.ljust] + [str.rjust] * (len(block) - 1)
    lines = [[column[0] for column in block], ["-" * width for width in widths]]
    lines += [list(row) for row in zip(*(column[1] for column in block), strict=True)]
    return "\n".join("  ".join(p(c, w) for p, c, w in zip(pad, row, widths, strict=True)).rstrip() for row in lines)
