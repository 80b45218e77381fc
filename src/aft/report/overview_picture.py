"""The picture of a report: accuracies, how each model scores the pool's right and wrong chains, and training curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..stats.estimate import Estimate
from .canvas import (
    DASHES,
    INK,
    RIGHT,
    WRONG,
    bands,
    canvas,
    legend,
    name_rows,
    panel_title,
    part_title,
    rows_height,
    rule,
)
from .measures import LOGGED_SHARE, MEASURES
from .read import Curves
from .score_panel import ScoresByModel, draw_scores

MARKED = [(measure, measure.mark) for measure in MEASURES.values() if measure.mark]
FELL, ACTIVE = INK, "#0072B2"


def draw_report(
    report: Mapping[str, Any],
    pool_scores: ScoresByModel,
    curves: Curves,
    path: Path | None,
    take_svg: Callable[[str], object] | None = None,
) -> None:
    """Draw the three panels into the PNG file `path`, and as SVG for `take_svg`. A panel without data says so."""
    names = [model["name"] for model in report["models"]]
    shown = [name for name in names if name in curves]
    heights = (rows_height(len(names)), 0.8 + 2.5 * _curve_grid(shown)[0] if shown else 0.3)
    with canvas(path, sum(heights), take_svg=take_svg) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=heights)
        left, right = top.subplots(1, 2, sharey=True, width_ratios=(1, 1.5))
        _draw_accuracies(left, report["models"])
        title = "b  Scores of the same right and wrong chains"
        draw_scores(right, names, pool_scores, title=title, empty="no pool was scored")
        name_rows(left, names)
        _draw_curves(bottom, names, curves)


def _draw_accuracies(axes: Any, models: Sequence[Mapping[str, Any]]) -> None:
    shown = [(measure, mark) for measure, mark in MARKED if any(_estimate(model, measure.name) for model in models)]
    for position, (measure, mark) in enumerate(shown):
        offset = 0.22 * (position - (len(shown) - 1) / 2)
        found = {row: value for row, model in enumerate(models) if (value := _estimate(model, measure.name))}
        axes.errorbar(
            [measure.kind.factor * value.mean for value in found.values()],
            [row + offset for row in found],
            xerr=np.array([_error(value) for value in found.values()]).reshape(-1, 2).T * measure.kind.factor,
            fmt=mark.marker,
            color=mark.color,
            markersize=4.0,
            elinewidth=1.4,
            label=mark.label,
        )
    axes.set_title("a  Accuracy", pad=20)
    bands(axes, len(models))
    axes.margins(x=0.08)
    axes.set_xlabel("%")
    if shown:
        legend(axes, "right")  # may reach over the names' column, never into the next panel


def _estimate(model: Mapping[str, Any], measure: str) -> Any:
    """The estimate of a measure; None where it has no finite mean."""
    found: Estimate | None = model[measure]
    return None if found is None or found.mean is None else found


def _error(value: Any) -> tuple[float, float]:
    """Lengths of the error bar to the left and to the right."""
    if value.sd is not None:
        return value.sd, value.sd
    if value.low is None or value.high is None:
        return 0.0, 0.0
    return max(0.0, value.mean - value.low), max(0.0, value.high - value.mean)


def _curve_grid(names: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of the training panels: at most five side by side, fewer where names are long."""
    columns = min(5, len(names), max(1, 120 // (4 + max(map(len, names)))))
    return math.ceil(len(names) / columns), columns


def _draw_curves(figure: Any, names: Sequence[str], curves: Curves) -> None:
    """For each method its scores and, below, two shares. Thick lines are means over seeds, thin ones single seeds."""
    shown = [name for name in names if name in curves]
    title = "c  Mean scores in training" if shown else "c  No training has logged scores"
    part_title(figure, title)
    if not shown:
        return
    figure.legend(handles=_curve_handles(), loc="upper right", ncols=4, bbox_to_anchor=(1.0, 1.0), handlelength=1.6)
    rows, columns = _curve_grid(shown)
    grid = figure.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=(2, 1) * rows)
    for position in range(rows * columns):
        row, column = divmod(position, columns)
        scores, shares = grid[2 * row, column], grid[2 * row + 1, column]
        if position >= len(shown):
            scores.set_visible(False)
            shares.set_visible(False)
            continue
        by_name = curves[shown[position]]
        _draw_curve(scores, by_name.get("positive", {}), RIGHT)
        _draw_curve(scores, by_name.get("negative", {}), WRONG)
        _draw_curve(shares, by_name.get("both_fell", {}), FELL, factor=LOGGED_SHARE.factor)
        _draw_curve(shares, by_name.get("active", {}), ACTIVE, factor=LOGGED_SHARE.factor, linestyle=DASHES)
        panel_title(scores, shown[position])
        shares.set_ylim(-4, 104)
        shares.set_yticks((0, 50, 100))
        for axes in (scores, shares):
            rule(axes)
            axes.tick_params(labelleft=column == 0)
        shares.tick_params(labelbottom=position + columns >= len(shown))  # only under the lowest panel of a column
    _share_limits([grid[2 * (position // columns), position % columns] for position in range(len(shown))])
    several = any(len(by_seed) > 1 for name in shown for by_seed in curves[name].values())
    figure.supxlabel("step (thick: mean over seeds; thin: each seed)" if several else "step", fontsize=9)
    for row in range(rows):
        grid[2 * row, 0].set_ylabel("nats/token", fontsize=8.5)
        grid[2 * row + 1, 0].set_ylabel("%", fontsize=8.5)


def _curve_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=RIGHT, label="right chains"),
        Line2D([], [], color=WRONG, label="wrong chains"),
        Line2D([], [], color=FELL, label="questions on which both fell (%)"),
        Line2D([], [], color=ACTIVE, linestyle=DASHES, label="wrong chains at boundary (%)"),
    ]


def _share_limits(panels: Sequence[Any]) -> None:
    """Give all panels the same score axis, which reaches at least 0."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(0.0, *(high for _, high in limits)))


def _draw_curve(
    axes: Any, by_seed: Mapping[int, Mapping[int, float]], color: str, *, factor: float = 1, linestyle: Any = "-"
) -> None:
    """A line for each seed and one for their mean, with a gap where a value is nan and a dot between two gaps."""
    if not by_seed:
        return
    for points in by_seed.values():
        steps = sorted(points)
        axes.plot(steps, [factor * points[step] for step in steps], color=color, linewidth=0.7, alpha=0.35)
    # only steps that all seeds have logged: a mean over changing seeds would jump
    common = sorted(set.intersection(*(set(points) for points in by_seed.values())))
    means = [factor * float(np.mean([points[step] for points in by_seed.values()])) for step in common]
    axes.plot(common, means, color=color, linewidth=1.8, linestyle=linestyle)
    known = [False, *(not math.isnan(mean) for mean in means), False]
    alone = [at for at in range(len(means)) if known[at : at + 3] == [False, True, False]]
    axes.plot([common[at] for at in alone], [means[at] for at in alone], ".", color=color, markersize=3)
