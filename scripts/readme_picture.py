"""The picture of the README: how a model scores right and wrong chains after VFT, and what each loss makes of that.

`python scripts/readme_picture.py runs/quickstart` after `make quickstart` writes docs/images/scores.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aft.report.build import build_report
from aft.report.canvas import canvas, name_rows
from aft.report.measures import MEASURES
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
    measure = MEASURES["task_accuracy"]
    accuracy = {m["name"]: measure.kind.factor * m[measure.name].mean for m in report["models"] if m[measure.name]}
    scores = read_scores(known.run, ROWS, report["seeds"])
    title = "How likely the model finds the same right and wrong chains of thought"
    larger = {"font.size": 11.0, "axes.titlesize": 12.0, "legend.fontsize": 10.0}
    with canvas(known.output, 4.2, style=larger) as figure:
        axes = figure.subplots()
        draw_scores(axes, list(ROWS), scores, title=title, empty="no chains were scored")
        name_rows(axes, [f"{label}\n{accuracy[name]:.0f} % answered right" for name, label in ROWS.items()])
    print(f"wrote {known.output}")


if __name__ == "__main__":
    main()
