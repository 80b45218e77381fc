"""The picture calibration.png: how each model scores right, wrong and reference chains, and what its scores tell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..stats.intervals import wilson
from .canvas import DASHES, GREY, INK, canvas, name_rows, panel_title, part_title, rows_height, rule, say_nothing
from .score_panel import ScoresByModel, draw_scores

PARTS = 10
PANELS_IN_A_ROW = 5


def draw_calibration(
    names: Sequence[str],
    own: ScoresByModel,
    references: Mapping[str, Sequence[float]],
    pool: ScoresByModel,
    path: Path | None,
    take_svg: Callable[[str], object] | None = None,
) -> None:
    """Draw two panels into the PNG file `path`, and as SVG for `take_svg`: score distributions, and share of right
    chains by score.

    `own`: scores of chains that each model wrote itself; `pool`: of the same chains for all. Both (right, wrong).
    """
    shown = [name for name in names if name in pool and sum(map(len, pool[name])) >= PARTS]
    rows = math.ceil(len(shown) / PANELS_IN_A_ROW)
    heights = (rows_height(len(names)), 0.6 + 1.7 * rows if shown else 0.6)
    with canvas(path, sum(heights), take_svg=take_svg) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=heights)
        axes = top.subplots()
        title = "a  Scores of each model's own right and wrong chains, and of the references"
        draw_scores(axes, names, own, title=title, empty="no chains of its own were scored", references=references)
        name_rows(axes, names)
        part_title(bottom, "b  Share of right chains by score: the pool in ten equal parts, lowest scores left")
        if shown:
            _draw_shares(bottom, shown, pool)
        else:
            empty = bottom.subplots()
            empty.set_yticks([])
            say_nothing(empty, f"no pool of at least {PARTS} chains was scored")


def shares_by_score(right: Sequence[float], wrong: Sequence[float], parts: int = PARTS) -> list[tuple[int, int]]:
    """(right chains, chains) in each of `parts` equal parts of all chains by score, the lowest first.

    Right and wrong chains of the same score are spread evenly among each other, so that a model that gives every chain
    one score shows a level line. Scores that are not numbers count as the lowest.
    """
    count = len(right) + len(wrong)
    # chains of one score are ordered by their rank within their own side, so that right and wrong ones mix evenly
    labelled = [(score, (i + 0.5) / len(right), True) for i, score in enumerate(sorted(right, key=_rank))]
    labelled += [(score, (i + 0.5) / len(wrong), False) for i, score in enumerate(sorted(wrong, key=_rank))]
    ordered = [is_right for _, _, is_right in sorted(labelled, key=lambda item: (_rank(item[0]), item[1]))]
    edges = [round(part * count / parts) for part in range(parts + 1)]
    return [(sum(ordered[start:stop]), stop - start) for start, stop in itertools.pairwise(edges)]


def _rank(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _draw_shares(figure: Any, names: Sequence[str], pool: ScoresByModel) -> None:
    rows = math.ceil(len(names) / PANELS_IN_A_ROW)
    columns = math.ceil(len(names) / rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for position, axes in enumerate(grid.flat):
        if position >= len(names):
            axes.set_visible(False)
            continue
        right, wrong = pool[names[position]]
        parts = [(hits, size) for hits, size in shares_by_score(right, wrong) if size]
        shares = np.array([hits / size for hits, size in parts])
        bounds = np.array([wilson(hits, size) for hits, size in parts]).T
        errors = np.maximum(0.0, [shares - bounds[0], bounds[1] - shares])
        x = np.arange(1, len(parts) + 1)
        axes.errorbar(x, 100 * shares, yerr=100 * errors, fmt="o-", color=INK, markersize=3.5, elinewidth=1.1)
        overall = 100 * len(right) / (len(right) + len(wrong))
        axes.axhline(overall, color=GREY, linewidth=1.0, linestyle=DASHES)
        panel_title(axes, names[position])
        axes.set_ylim(0, 100)
        axes.set_xticks([1, PARTS])
        rule(axes)
        axes.tick_params(labelbottom=position + columns >= len(names))  # only under the lowest panel of a column
    figure.supylabel("right chains, %", fontsize=9)
    figure.supxlabel("tenth of the pool by score (dashed: share of right chains in the whole pool)", fontsize=9)
