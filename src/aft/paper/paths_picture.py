"""The picture of sampled paths: for each run pass@k and votes over the paths, and accuracy over sampled tokens."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from ..report.canvas import WIDTH, canvas
from ..report.measures import SHARE
from ..shown import shown_line
from ..stats.estimate import Estimate
from .page import Page

_STYLES = ("-", "--", "-.", ":")  # more methods than colours


def draw_paths(page: Page, path: Path) -> None:
    """Draw into the PNG file `path`. Needs matplotlib."""
    runs = [curves for curves in page.curves if curves.models]
    labels = list(dict.fromkeys(curve.label for curves in runs for curve in curves.models))
    with canvas(path, 1.0 + 2.6 * len(runs), width=WIDTH) as figure:
        axes = figure.subplots(max(1, len(runs)), 3, squeeze=False)
        for row, curves in zip(axes, runs, strict=False):
            for curve in curves.models:
                at = labels.index(curve.label)
                style = {"color": f"C{at % 10}", "linestyle": _STYLES[at // 10 % len(_STYLES)], "marker": "."}
                label = shown_line(curve.label)
                for axis, values in zip(row, (curve.passed, curve.vote), strict=False):
                    xs, means = _points(values)
                    axis.plot(xs, means, label=label, **style)
                xs, means = _points(curve.vote)
                row[2].plot([x * curve.path_tokens for x in xs], means, **style)
                if curve.greedy.mean is not None:
                    greedy = SHARE.factor * curve.greedy.mean
                    row[2].plot([curve.answer_tokens], [greedy], color=style["color"], marker="*", markersize=9)
            for axis, title, unit in zip(
                row,
                ("pass@k (%)", "majority vote (%)", "vote (%), ★ greedy answer"),
                ("k paths", "paths", "sampled tokens of a question"),
                strict=True,
            ):
                axis.set_xscale("log", base=2)
                axis.set_xlabel(unit)
                axis.set_title(textwrap.fill(shown_line(f"{curves.run}: {title}"), 40), fontsize="small")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")


def _points(values: Mapping[int, Estimate]) -> tuple[list[int], list[float]]:
    known = [(size, SHARE.factor * found.mean) for size, found in sorted(values.items()) if found.mean is not None]
    return [size for size, _ in known], [mean for _, mean in known]
