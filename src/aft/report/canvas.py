"""The frame of every picture: figure, style, sizes, rows of models, legend, and the text of an empty panel.

matplotlib is optional (the `plots` extra) and loaded only to draw. It opens no window and keeps no global state.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..json_files import write_bytes
from ..shown import shown, shown_line

WIDTH, DPI = 10.0, 200  # inches, dots per inch: legible when shown 1000 pixels wide
STYLE: Mapping[str, Any] = {
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "svg.hashsalt": "aft",  # the same picture has the same names inside
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
# Okabe and Ito's colours: told apart with any colour vision, and in grey by their lightness
RIGHT, WRONG, REFERENCE = "#009E73", "#D55E00", "#0072B2"
INK, GREY = "#222222", "#777777"
DASHES = (0, (4, 3))


def missing_library() -> str | None:
    """One line that says why no picture can be drawn; None if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return "No picture: matplotlib is not installed. Install the `plots` extra: pip install 'aft[plots]'"
    return None


@contextlib.contextmanager
def canvas(
    path: Path | None,
    height: float,
    *,
    width: float = WIDTH,
    style: Mapping[str, float] | None = None,
    take_svg: Callable[[str], object] | None = None,
) -> Iterator[Any]:
    """A figure of `width` × `height` inches, written to the PNG file `path` at the end. `style` changes `STYLE`.

    `take_svg` gets the figure as SVG.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({**STYLE, **(style or {})}):
        figure: Any = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        content, vectors = io.BytesIO(), io.StringIO()
        if path is not None:
            figure.savefig(content, format="png")
        if take_svg is not None:
            figure.savefig(vectors, format="svg", metadata={"Date": None})
    if path is not None:
        write_bytes(path, content.getvalue())
    if take_svg is not None:
        take_svg(vectors.getvalue())


def rows_height(count: int) -> float:
    """Inches of a panel with a row for each of `count` models."""
    return 1.35 + 0.45 * count


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Write the names on the left, the first on top. A long name is wrapped unless it has line breaks."""
    axes.tick_params(labelleft=True)
    names = [shown(name) for name in names]
    axes.set_yticks(range(len(names)), [name if "\n" in name else textwrap.fill(name, 20) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def bands(axes: Any, count: int) -> None:
    """Draw a faint band behind every second row, so that a row can be followed across panels."""
    for row in range(0, count, 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.tick_params(axis="y", length=0)


def legend(axes: Any, side: str, handles: Sequence[Any] | None = None) -> None:
    """Draw the legend on one line between title and axes. The layout does not make room for it."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    box = axes.legend(
        handles=handles,
        loc=f"lower {side}",
        bbox_to_anchor=(0.0 if side == "left" else 1.0, 1.0),
        ncols=len(handles),
        borderaxespad=0.0,
        borderpad=0.2,
        handlelength=1.3,
    )
    box.set_in_layout(False)


def part_title(figure: Any, text: str) -> None:
    """Write the title of a group of panels."""
    figure.suptitle(shown_line(text), x=0.005, ha="left", fontsize=10, fontweight="bold")


def panel_title(axes: Any, text: str) -> None:
    """Write the title of a small panel."""
    axes.set_title(shown_line(text), fontsize=9, fontweight="normal", loc="center")


def rule(axes: Any) -> None:
    """Draw faint horizontal lines."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)


def say_nothing(axes: Any, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.set_xticks([])
    axes.text(0.5, 0.5, shown(text), transform=axes.transAxes, ha="center", va="center", color=GREY)
