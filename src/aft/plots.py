"""The picture of a report: accuracies, how each model scores the pool's right and wrong chains, and training curves.

matplotlib is optional (the `plots` extra) and loaded only to draw; no window, no global state.
"""

from __future__ import annotations

import importlib.util
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PoolScores = Mapping[str, tuple[Sequence[float], Sequence[float]]]
Curves = Mapping[str, Mapping[str, Mapping[int, Mapping[int, float]]]]

# Okabe and Ito's colours: told apart with any colour vision, and in grey by their lightness
RIGHT, WRONG = "#009E73", "#D55E00"
MEASURES = (
    ("task_accuracy", "task", "o", "#222222"),
    ("assessment_accuracy", "assessment (own)", "D", "#0072B2"),
    ("pool_assessment_accuracy", "assessment (pool)", "s", "#CC79A7"),
)
WIDTH, DPI = 10.0, 200  # inches, dots per inch: legible when shown 1000 pixels wide
STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.2,
}
DASHES = (0, (4, 3))
CUT = 1.0  # per cent of a model's chains that may lie beyond the left edge of the score axis; they are counted there
TICKS = (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)


def missing_library() -> str | None:
    """Why no picture can be drawn, as one line; None if it can."""
    if importlib.util.find_spec("matplotlib") is None:
        return "No picture: matplotlib is not installed. Install the `plots` extra: pip install 'aft[plots]'"
    return None


def draw_report(report: Mapping[str, Any], pool_scores: PoolScores, curves: Curves, path: Path) -> None:
    """Draw the three panels into the PNG file `path`. A panel without data says so."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [model["name"] for model in report["models"]]
    shown = [name for name in names if name in curves]
    heights = (1.35 + 0.45 * len(names), 0.6 + 1.8 * _curve_grid(shown)[0] if shown else 0.3)
    with rc_context(STYLE):
        figure: Any = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        top, bottom = figure.subfigures(2, 1, height_ratios=heights)
        left, right = top.subplots(1, 2, sharey=True, width_ratios=(1, 1.5))
        _draw_accuracies(left, report["models"])
        _draw_scores(right, names, pool_scores)
        left.set_yticks(range(len(names)), [textwrap.fill(name, 20) for name in names])
        left.set_ylim(len(names) - 0.5, -0.5)  # the first model on top
        _draw_curves(bottom, names, curves)
        figure.savefig(path, format="png")


def _draw_accuracies(axes: Any, models: Sequence[Mapping[str, Any]]) -> None:
    measures = [entry for entry in MEASURES if any(_mean(model, entry[0]) is not None for model in models)]
    for position, (measure, label, marker, color) in enumerate(measures):
        offset = 0.22 * (position - (len(measures) - 1) / 2)
        rows = [row for row, model in enumerate(models) if _mean(model, measure) is not None]
        values = [models[row][measure] for row in rows]
        axes.errorbar(
            [100 * value["mean"] for value in values],
            [row + offset for row in rows],
            xerr=np.array([_error(value) for value in values]).reshape(-1, 2).T * 100,
            fmt=marker,
            color=color,
            markersize=4.0,
            elinewidth=1.4,
            label=label,
        )
    axes.set_title("a  Accuracy", pad=20)
    _rows(axes, len(models))
    axes.margins(x=0.08)
    axes.set_xlabel("%")
    if measures:
        _legend(axes, "right")  # may reach over the names' column, never into the next panel


def _mean(model: Mapping[str, Any], measure: str) -> float | None:
    return None if model[measure] is None else model[measure]["mean"]


def _error(value: Mapping[str, Any]) -> tuple[float, float]:
    """Length of the error bar to the left and to the right."""
    if value["sd"] is not None:
        return value["sd"], value["sd"]
    if value["low"] is None or value["high"] is None:
        return 0.0, 0.0
    return max(0.0, value["mean"] - value["low"]), max(0.0, value["high"] - value["mean"])


def _legend(axes: Any, side: str, handles: Sequence[Any] | None = None) -> None:
    """Entries side by side between the title and the axes, without a say in the layout."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    legend = axes.legend(
        handles=handles,
        loc=f"lower {side}",
        bbox_to_anchor=(0.0 if side == "left" else 1.0, 1.0),
        ncols=len(handles),
        borderaxespad=0.0,
        borderpad=0.2,
        handlelength=1.3,
    )
    legend.set_in_layout(False)


def _rows(axes: Any, count: int) -> None:
    """Faint bands behind every second model, to follow a row across both panels."""
    for row in range(0, count, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.tick_params(axis="y", length=0)


def _draw_scores(axes: Any, names: Sequence[str], pool_scores: PoolScores) -> None:
    """Per model, the distribution of the pool's right chains above its line and of the wrong ones below."""
    axes.set_title("b  Scores of the same right and wrong chains", pad=20)
    _rows(axes, len(names))
    axes.tick_params(labelleft=False)
    finite = {
        name: [np.asarray(side, dtype=float)[np.isfinite(side)] for side in pool_scores[name]]
        for name in names
        if name in pool_scores
    }
    sides = [side for pair in finite.values() for side in pair if side.size]
    if not sides:
        _say_nothing(axes, "no pool was scored")
        return
    low = _stretch(min(np.percentile(side, CUT) for side in sides)) * 1.03 - 1e-3
    grid = np.linspace(low, 0.0, 500)
    for row, name in enumerate(names):
        for side, color, sign in zip(finite.get(name, ()), (RIGHT, WRONG), (-1, 1), strict=False):
            if side.size:
                edge = row + sign * 0.44 * _density(_stretch(side), grid)
                axes.fill_between(grid, row, edge, color=color, alpha=0.75, linewidth=0)
                axes.plot([_stretch(np.median(side))] * 2, [row, row + sign * 0.44], color="#222222", linewidth=1.4)
    for side, color in zip(finite.get("vft", ()), (RIGHT, WRONG), strict=False):
        if side.size:
            axes.axvline(_stretch(np.median(side)), color=color, linewidth=1.0, linestyle=DASHES, zorder=1)
    axes.set_xlim(low, 0.0)
    ticks = _score_ticks(low)
    axes.set_xticks(_stretch(ticks), [f"{tick:g}".replace("-", "−") for tick in ticks])
    total = sum(len(side) for pair in pool_scores.values() for side in pair)
    outside = total - sum(int((_stretch(side) >= low).sum()) for side in sides)
    axes.set_xlabel(f"nats per token, square-root scale ({outside:,} of {total:,} scores lie further left)")
    _score_legend(axes, "vft" in finite)


def _stretch(scores: Any) -> Any:
    """Position on the score axis: a square root widens the region near 0, where trained models crowd."""
    return -np.sqrt(np.maximum(0.0, -np.asarray(scores, dtype=float)))


def _score_ticks(low: float) -> Any:
    """Round scores at least a tenth of the axis (from `low` to 0, as positions) apart."""
    chosen: list[float] = []
    for tick in TICKS:
        position = _stretch(-tick)
        if position >= low and (not chosen or _stretch(chosen[-1]) - position >= -0.1 * low):
            chosen.append(-float(tick))
    return np.asarray(chosen) + 0.0  # no negative zero


def _density(values: Any, grid: Any) -> Any:
    """Smoothed histogram over an even grid, highest point 1 (Gaussian kernel, Silverman's rule, at least one step)."""
    step = grid[1] - grid[0]
    counts, _ = np.histogram(values, bins=len(grid), range=(grid[0] - step / 2, grid[-1] + step / 2))
    width = max(step, 0.9 * values.std() * values.size**-0.2)
    reach = np.arange(-math.ceil(4 * width / step), math.ceil(4 * width / step) + 1)
    smooth = np.convolve(counts, np.exp(-0.5 * (reach * step / width) ** 2), mode="full")
    smooth = smooth[len(reach) // 2 : len(reach) // 2 + len(grid)]
    return smooth / smooth.max()


def _score_legend(axes: Any, has_vft: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=RIGHT, label="right chains"), Patch(color=WRONG, label="wrong chains")]
    handles.append(Line2D([], [], color="#222222", linewidth=1.4, label="median"))
    if has_vft:
        handles.append(Line2D([], [], color="#777777", linewidth=1.0, linestyle=DASHES, label="median under VFT"))
    _legend(axes, "left", handles)


def _curve_grid(names: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of the training panels: at most five side by side, fewer where names are long."""
    columns = min(5, len(names), max(1, 120 // (4 + max(map(len, names)))))
    return math.ceil(len(names) / columns), columns


def _draw_curves(figure: Any, names: Sequence[str], curves: Curves) -> None:
    """One small panel per method, all on the same score axis: thick the mean over seeds, thin each seed."""
    shown = [name for name in names if name in curves]
    title = "c  Mean score of right and wrong chains in training" if shown else "c  No training has logged scores"
    figure.suptitle(title, x=0.005, ha="left", fontsize=10, fontweight="bold")
    if not shown:
        return
    rows, columns = _curve_grid(shown)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for position, axes in enumerate(grid.flat):
        if position >= len(shown):
            axes.set_visible(False)
            continue
        for side, color in (("positive", RIGHT), ("negative", WRONG)):
            _draw_curve(axes, curves[shown[position]].get(side, {}), color)
        axes.set_title(shown[position], fontsize=9, fontweight="normal", loc="center")
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.tick_params(labelbottom=position + columns >= len(shown))  # the lowest of its column
    grid[0, 0].set_ylim(top=max(0.0, grid[0, 0].get_ylim()[1]))
    several = any(len(by_seed) > 1 for name in shown for by_seed in curves[name].values())
    figure.supxlabel("step (thick: mean over seeds; thin: each seed)" if several else "step", fontsize=9)
    figure.supylabel("nats per token", fontsize=9)


def _draw_curve(axes: Any, by_seed: Mapping[int, Mapping[int, float]], color: str) -> None:
    if not by_seed:
        return
    for points in by_seed.values():
        steps = sorted(points)
        axes.plot(steps, [points[step] for step in steps], color=color, linewidth=0.7, alpha=0.35)
    # a mean over other seeds at every step would jump: only steps that all seeds have logged
    common = sorted(set.intersection(*(set(points) for points in by_seed.values())))
    means = [float(np.mean([points[step] for points in by_seed.values()])) for step in common]
    axes.plot(common, means, color=color, linewidth=1.8)


def _say_nothing(axes: Any, text: str) -> None:
    axes.set_xticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")
