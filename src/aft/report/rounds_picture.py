"""The picture rounds.png: accuracy, pass@k, validation accuracy and distinct right chains over the rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .canvas import GREY, INK, canvas, panel_title, rule
from .measures import CHAINS, SHARE

# Okabe and Ito's colours, by the order of the methods
_COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"
CAPTION = (
    "Each method over its rounds. Bars: standard deviation over seeds, or with one seed the 95 % interval over"
    " questions. A ring marks the round that is the final model of most seeds."
)


def draw_rounds(
    rows: Sequence[Mapping[str, Any]], path: Path | None, take_svg: Callable[[str], object] | None = None
) -> None:
    """Draw a panel for each measure that a round has into the PNG file `path`, and as SVG for `take_svg`."""
    k = next((row["pass"]["k"] for row in rows if row["pass"]), None)
    panels = [("task accuracy (%)", _of("task_accuracy"), SHARE.factor)]
    panels += [(f"pass@{k} (%)", lambda row: row["pass"] and row["pass"]["estimate"], SHARE.factor)] if k else []
    panels += [("validation accuracy (%)", _of("validation"), SHARE.factor)]
    panels += [("distinct right chains a question", _of("distinct_right"), CHAINS.factor)]
    panels = [panel for panel in panels if any(row["round"] and panel[1](row) for row in rows)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with canvas(path, 3.4, take_svg=take_svg) as figure:
        for axes, (title, read, factor) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for position, method in enumerate(methods):
                own = [row for row in rows if row["method"] == method]
                _draw_method(axes, own, position, len(methods), read, factor)
            axes.set_xlabel("round")
            axes.set_xticks(sorted({row["round"] for row in rows if row["round"]}))
            panel_title(axes, title)
            rule(axes)
        handles = figure.axes[0].get_legend_handles_labels()[0]
        figure.legend(handles=handles, loc="outside upper left", ncols=max(1, len(methods)))


def _of(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row.get(key)


def _draw_method(
    axes: Any, rows: Sequence[Mapping[str, Any]], position: int, methods: int, read: Any, factor: float
) -> None:
    points = [(row, found) for row in rows if row["round"] and (found := read(row)) and found.mean is not None]
    if not points:
        return
    shift = 0.08 * (position - (methods - 1) / 2)  # intervals of different methods stand side by side
    colour = _COLOURS[position % len(_COLOURS)]
    places, means = [row["round"] + shift for row, _ in points], [factor * found.mean for _, found in points]
    errors = [[factor * side for side in _error(found)] for _, found in points]
    axes.errorbar(
        places,
        means,
        yerr=[[low for low, _ in errors], [high for _, high in errors]],
        color=colour,
        marker=_MARKERS[position % len(_MARKERS)],
        markersize=4.0,
        linewidth=1.2,
        elinewidth=1.0,
        label=rows[0]["method"],
    )
    finals = [name for row in rows if row["round"] is None for name in row["final"].values()]
    chosen = max(finals, key=finals.count, default=None)
    for place, mean, (row, _) in zip(places, means, points, strict=True):
        if row["model"] == chosen:
            axes.plot([place], [mean], "o", markersize=10, markerfacecolor="none", markeredgecolor=GREY)


def _error(found: Any) -> tuple[float, float]:
    """Lengths of the bar below and above the mean."""
    if found.sd is not None:
        return found.sd, found.sd
    if found.low is None or found.high is None:
        return 0.0, 0.0
    return max(0.0, found.mean - found.low), max(0.0, found.high - found.mean)
