"""A page as a picture: accuracy over the number in a series, or a mark for each row."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from ..report.overview_picture import DPI, STYLE, WIDTH
from .methods import NUMBER
from .page import Cell, Page

Line = list[tuple[Any, float, float]]  # x, mean, sd


def draw_page(page: Page, path: Path) -> None:
    """Draw into the PNG file `path`. Needs matplotlib."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = lines_of(page)
    numbers = page.spec.picture is not None
    rows = max((len(line) for line in lines.values()), default=1)
    with rc_context(STYLE):
        height = 4.0 if numbers else 1.2 + 0.35 * rows
        figure: Any = Figure(figsize=(0.7 * WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.set_title(textwrap.fill(page.spec.title.partition(":")[0], 80))
        for name, line in lines.items():
            xs, means, sds = ([point[at] for point in line] for at in range(3))
            if numbers:
                axes.errorbar(xs, means, yerr=sds, marker="o", capsize=2, label=name)
            else:
                axes.errorbar(means, xs, xerr=sds, marker="o", linestyle="none", capsize=2, label=name)
        if numbers:
            axes.set_xlabel(page.spec.picture)
            axes.set_ylabel("task accuracy (%)")
        else:
            axes.set_xlabel("task accuracy (%)")
            axes.invert_yaxis()
        if len(lines) > 1:
            figure.legend(loc="outside lower center", ncols=3)
        figure.savefig(path, format="png")


def lines_of(page: Page) -> dict[str, Line]:
    """Name -> points. Of a series a line for each run, of votes one for each row; else the rows, a colour a run."""
    lines: dict[str, Line] = {}
    for cell in page.cells:
        value = next((v for key, v in cell.values.items() if key == "task_accuracy" or key.startswith("vote@")), None)
        if value is None or value["mean"] is None:
            continue
        label = " ".join(cell.row)
        name, x = cell.run, label
        if page.spec.across == "paths":
            name, x = label, cell.column
        if page.spec.picture is not None:
            number = _number(x)
            if number is None:
                continue  # VFT beside a series that has no place for it
            x = number
        lines.setdefault(name, []).append((x, 100 * value["mean"], 100 * (value["sd"] or 0)))
    return {name: sorted(line) if page.spec.picture else line for name, line in lines.items()}


def _number(label: str) -> Any:
    return float(label) if re.fullmatch(NUMBER, label) else None


__all__ = ["Cell", "draw_page", "lines_of"]
