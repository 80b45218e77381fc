"""A page as a picture: accuracy over the number in a series, or a mark for each row."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from ..report.canvas import WIDTH, canvas
from ..report.measures import MEASURES
from ..shown import shown_line
from .cells import Cell
from .gains_picture import draw_gains
from .methods import NUMBER
from .page import Page

ACCURACY = MEASURES["task_accuracy"]
Line = list[tuple[Any, float, float]]  # x, mean, sd


def draw_page(page: Page, path: Path) -> None:
    """Draw into the PNG file `path`. Needs matplotlib."""
    if page.spec.across == "gain":
        draw_gains(page.cells, page.spec.title.partition(":")[0], str(page.spec.picture), path)
        return
    lines = lines_of(page)
    numbers = page.spec.picture is not None
    rows = max((len(line) for line in lines.values()), default=1)
    height = 4.0 if numbers else 1.2 + 0.35 * rows
    with canvas(path, height, width=0.7 * WIDTH) as figure:
        axes = figure.subplots()
        axes.set_title(textwrap.fill(page.spec.title.partition(":")[0], 80))
        for name, line in lines.items():
            xs, means, sds = ([point[at] for point in line] for at in range(3))
            if numbers:
                axes.errorbar(xs, means, yerr=sds, marker="o", capsize=2, label=shown_line(name))
            else:
                axes.errorbar(means, xs, xerr=sds, marker="o", linestyle="none", capsize=2, label=shown_line(name))
        if numbers:
            axes.set_xlabel(page.spec.picture)
            axes.set_ylabel(ACCURACY.heading)
        else:
            axes.set_xlabel(ACCURACY.heading)
            axes.invert_yaxis()
        if len(lines) > 1:
            figure.legend(loc="outside lower center", ncols=3)


def lines_of(page: Page) -> dict[str, Line]:
    """Name -> points. Of a series a line for each run, of votes one for each row; else the rows, a colour a run."""
    lines: dict[str, Line] = {}
    for cell in page.cells:
        value = next((v for key, v in cell.values.items() if key == ACCURACY.name or key.startswith("vote@")), None)
        if value is None or value.mean is None:
            continue
        label = shown_line(" ".join(cell.row))
        name, x = cell.run, label
        if page.spec.across == "paths":
            name, x = label, cell.column
        if page.spec.picture is not None:
            number = _number(x)
            if number is None:
                continue  # a row without a number, such as VFT, has no place on the axis
            x = number
        factor = ACCURACY.kind.factor
        lines.setdefault(name, []).append((x, factor * value.mean, factor * (value.sd or 0)))
    return {name: sorted(line) if page.spec.picture else line for name, line in lines.items()}


def _number(label: str) -> Any:
    return float(label) if re.fullmatch(NUMBER, label) else None


__all__ = ["Cell", "draw_page", "lines_of"]
