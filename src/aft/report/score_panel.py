"""Score distributions of right and wrong chains, one row for each model, as a panel of a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import DASHES, GREY, INK, REFERENCE, RIGHT, WRONG, bands, legend, say_nothing

# model -> (scores of right chains, of wrong chains), nats per token
ScoresByModel = Mapping[str, tuple[Sequence[float], Sequence[float]]]

CUT = 1.0  # per cent of a model's chains that may lie left of the score axis; the axis label counts them
TICKS = (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)


def draw_scores(
    axes: Any,
    names: Sequence[str],
    scores: ScoresByModel,
    *,
    title: str,
    empty: str,
    references: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Per model, the distribution of right chains above its line, of wrong ones below; references as an outline above.

    Without any finite score the panel says `empty`.
    """
    axes.set_title(title, pad=20)
    bands(axes, len(names))
    axes.tick_params(labelleft=False)
    finite = {name: [_finite(side) for side in scores[name]] for name in names if name in scores}
    outlines = {name: _finite((references or {})[name]) for name in names if name in (references or {})}
    sides = [side for side in (*(s for pair in finite.values() for s in pair), *outlines.values()) if side.size]
    if not sides:
        say_nothing(axes, empty)
        return
    low = _stretch(min(np.percentile(side, CUT) for side in sides)) * 1.03 - 1e-3
    grid = np.linspace(low, 0.0, 500)
    for row, name in enumerate(names):
        for side, color, sign in zip(finite.get(name, ()), (RIGHT, WRONG), (-1, 1), strict=False):
            if side.size:
                edge = row + sign * 0.44 * _density(_stretch(side), grid)
                axes.fill_between(grid, row, edge, color=color, alpha=0.75, linewidth=0)
                axes.plot([_stretch(np.median(side))] * 2, [row, row + sign * 0.44], color=INK, linewidth=1.4)
        if name in outlines and outlines[name].size:
            height = _density(_stretch(outlines[name]), grid)
            outline = np.where(height > 0.01, row - 0.44 * height, np.nan)  # no line where the density is 0
            axes.plot(grid, outline, color=REFERENCE, linewidth=1.1)
    if references is None:
        for side, color in zip(finite.get("vft", ()), (RIGHT, WRONG), strict=False):
            if side.size:
                axes.axvline(_stretch(np.median(side)), color=color, linewidth=1.0, linestyle=DASHES, zorder=1)
    axes.set_xlim(low, 0.0)
    ticks = _score_ticks(low)
    axes.set_xticks(_stretch(ticks), [f"{tick:g}".replace("-", "−") for tick in ticks])
    given = [*(side for pair in scores.values() for side in pair), *(references or {}).values()]
    total = sum(map(len, given))
    outside = total - sum(int((_stretch(side) >= low).sum()) for side in sides)
    axes.set_xlabel(f"nats per token, square-root scale ({outside:,} of {total:,} scores lie further left)")
    _score_legend(axes, has_vft=references is None and "vft" in finite, has_references=bool(outlines))


def _finite(scores: Sequence[float]) -> Any:
    values = np.asarray(scores, dtype=float)
    return values[np.isfinite(values)]


def _stretch(scores: Any) -> Any:
    """Position on the score axis. A square root widens the region near 0, where most scores of trained models lie."""
    return -np.sqrt(np.maximum(0.0, -np.asarray(scores, dtype=float)))


def _score_ticks(low: float) -> Any:
    """Round scores as ticks, at least a tenth of the axis apart. The axis goes from position `low` to 0."""
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


def _score_legend(axes: Any, *, has_vft: bool, has_references: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=RIGHT, label="right chains"), Patch(color=WRONG, label="wrong chains")]
    handles.append(Line2D([], [], color=INK, linewidth=1.4, label="median"))
    if has_references:
        handles.append(Line2D([], [], color=REFERENCE, linewidth=1.1, label="references"))
    if has_vft:
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=DASHES, label="median under VFT"))
    legend(axes, "left", handles)
