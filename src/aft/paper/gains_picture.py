"""The picture of gains over VFT by size of the base model: a row of panels for data, one for k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..markdown import ABSENT
from ..report.canvas import GREY, REFERENCE, RIGHT, WRONG, canvas, panel_title, rule, say_nothing
from ..report.measures import POINTS
from ..shown import shown_line
from ..stats.estimate import Estimate
from .cells import Cell
from .gains import GAIN

_COLORS = {"VFT, further steps": GREY, "RFT": REFERENCE, "AFT BC": WRONG, "RFT + AFT BC": RIGHT}
Points = Mapping[str, Sequence[tuple[float, Estimate]]]  # method -> (million parameters, gain)


def panels(found: Sequence[Cell]) -> list[Mapping[str, Points]]:
    """Rows of panels, one by amount of data and one by k: title -> method -> its points in the order of size."""
    data: dict[str, dict[str, list[tuple[float, Estimate]]]] = {}
    ks: dict[str, dict[str, list[tuple[float, Estimate]]]] = {}
    for cell in sorted(
        (cell for cell in found if not cell.row[0].startswith(ABSENT)), key=lambda cell: float(cell.row[0])
    ):
        gain = cell.values.get(GAIN)
        if gain is not None and gain.mean is not None:
            size, alone, k = cell.row
            row, title = (ks if " of " in k else data), f"{alone} answers alone, k = {k}"
            row.setdefault(title, {}).setdefault(cell.column, []).append((float(size), gain))
    return [data, ks]


def draw_gains(found: Sequence[Cell], title: str, axis: str, path: Path) -> None:
    """Draw gain over size into the PNG file `path`: a row of panels for data, one for k. Needs matplotlib."""
    rows = [row for row in panels(found) if row]
    with canvas(path, 0.9 + 3.0 * max(len(rows), 1)) as figure:
        if not rows:
            say_nothing(figure.subplots(), "no gain over VFT of a model whose parameters are known")
            return
        figure.suptitle(title, x=0.005, ha="left", fontweight="bold")
        handles: dict[str, Any] = {}
        for part, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
            every = part.subplots(1, len(row), sharex=True, sharey=True, squeeze=False)[0]
            # panels of a row share their axis, so each has the ticks of all
            sizes = sorted({x for lines in row.values() for line in lines.values() for x, _ in line})
            for axes, (name, lines) in zip(every, row.items(), strict=True):
                panel_title(axes, name)
                handles |= _draw_panel(axes, lines, sizes)
                axes.set_xlabel(axis)
            every[0].set_ylabel("gain over VFT (points)")
        figure.legend(handles.values(), map(shown_line, handles), loc="outside lower center", ncols=len(handles) or 1)


def _draw_panel(axes: Any, lines: Points, sizes: Sequence[float]) -> dict[str, Any]:
    """Bars: intervals over questions. Small marks: seeds. Methods stand side by side at each size."""
    rule(axes)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    drawn = {}
    for place, (method, line) in enumerate(lines.items()):
        aside = 1.06 ** (place - (len(lines) - 1) / 2)
        color = _COLORS.get(method, GREY)
        xs = [x * aside for x, _ in line]
        means = [_points(gain.mean) for _, gain in line]
        below = [_points(gain.mean) - _points(gain.mean if gain.low is None else gain.low) for _, gain in line]
        above = [_points(gain.mean if gain.high is None else gain.high) - _points(gain.mean) for _, gain in line]
        drawn[method] = axes.errorbar(
            xs, means, yerr=[below, above], color=color, marker="o", markersize=4, linewidth=1, capsize=2
        )
        for x, (_, gain) in zip(xs, line, strict=True):
            seeds = [_points(seed.mean) for seed in gain.by_seed.values() if seed.mean is not None]
            axes.plot([x] * len(seeds), seeds, linestyle="none", marker="_", markersize=7, color=color, alpha=0.7)
    return drawn


def _points(value: float | None) -> float:
    return POINTS.factor * (value or 0.0)
