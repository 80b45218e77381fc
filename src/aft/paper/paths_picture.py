"""The picture of sampled paths: for each run pass@k and votes over the paths, and accuracy over sampled tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..report.canvas import WIDTH, canvas
from ..report.measures import SHARE
from ..shown import shown_line
from ..stats.estimate import Estimate
from .page import Page

_COLORS = (
    *("#888888", "#222222", "#E69F00", "#D55E00", "#F0A58A", "#A0522D"),
    *("#56B4E9", "#0072B2", "#7B6FD0", "#009E73", "#8FBC3F", "#CC79A7"),
)


_TITLES = ("pass@k (%)", "majority vote (%)", "vote (%), ★ greedy")
_UNITS = ("k", "paths", "sampled tokens of a question")


def draw_paths(page: Page, path: Path) -> None:
    """Draw into the PNG file `path`. Needs matplotlib."""
    runs = [curves for curves in page.curves if curves.models]
    labels = list(dict.fromkeys(curve.label for curves in runs for curve in curves.models))
    with canvas(path, 1.0 + 2.6 * len(runs), width=WIDTH) as figure:
        axes = figure.subplots(max(1, len(runs)), 3, squeeze=False)
        for row, curves in zip(axes, runs, strict=False):
            for curve in curves.models:
                color, label = _COLORS[labels.index(curve.label) % len(_COLORS)], shown_line(curve.label)
                for axis, values in zip(row, (curve.passed, curve.vote), strict=False):
                    axis.plot(*_points(values), label=label, color=color, marker=".")
                sizes, means = _points(curve.vote)
                row[2].plot([size * curve.path_tokens for size in sizes], means, color=color, marker=".")
                if curve.greedy.mean is not None:
                    greedy = SHARE.factor * curve.greedy.mean
                    row[2].plot([curve.answer_tokens], [greedy], color=color, marker="*", markersize=9)
            sizes = sorted(curves.models[0].vote)
            tokens = [round(size * curves.models[0].path_tokens) for size in sizes]
            for axis, title, unit, ticks in zip(row, _TITLES, _UNITS, (sizes, sizes, tokens), strict=True):
                axis.set_xscale("log", base=2)
                axis.set_xticks(ticks, labels=map(str, ticks), minor=False)
                axis.set_xlabel(unit)
                axis.set_title(f"{shown_line(curves.run)}: {title}", fontsize="small")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")


def _points(values: Mapping[int, Estimate]) -> tuple[list[int], list[float]]:
    known = [(size, SHARE.factor * found.mean) for size, found in sorted(values.items()) if found.mean is not None]
    return [size for size, _ in known], [mean for _, mean in known]
