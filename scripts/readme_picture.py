"""The picture of the README: how a model scores right and wrong chains after VFT, and what each loss makes of that.

`python scripts/readme_picture.py runs/quickstart` after `make quickstart` writes docs/images/scores.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aft.report.build import build_report
from aft.report.overview_picture import DPI, STYLE, WIDTH
from aft.report.read import read_scores
from aft.report.score_panel import draw_scores

ROWS = {
    "vft": "VFT",
    "aft-unconstrained-5e-4": "aligned,\nno constraint",
    "aft-boundary": "aligned,\nboundary (AFT)",
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run that evaluated the models")
    parser.add_argument("--output", type=Path, default=Path("docs/images/scores.png"))
    known = parser.parse_args()
    report = build_report(known.run, compare=False)
    accuracy = {model["name"]: model["task_accuracy"]["mean"] for model in report["models"] if model["task_accuracy"]}
    scores = read_scores(known.run, ROWS, report["seeds"])
    with rc_context({**STYLE, "font.size": 11.0, "axes.titlesize": 12.0, "legend.fontsize": 10.0}):
        figure: Any = Figure(figsize=(WIDTH, 4.2), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        title = "How likely the model finds the same right and wrong chains of thought"
        draw_scores(axes, list(ROWS), scores, title=title, empty="no chains were scored")
        axes.tick_params(labelleft=True)
        labels = [f"{label}\n{100 * accuracy[name]:.0f} % answered right" for name, label in ROWS.items()]
        axes.set_yticks(range(len(ROWS)), labels)
        axes.set_ylim(len(ROWS) - 0.5, -0.5)
        figure.savefig(known.output, format="png")
    print(f"wrote {known.output}")


if __name__ == "__main__":
    main()
