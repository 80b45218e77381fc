"""Copies what was measured from runs/ into docs/results: for each table and run a page to read, and a JSON file.

`python scripts/collect_results.py` takes what `make tables`, `make quickstart`, the grid behind its learning rates and
the GSM8K run have written. It leaves the page of a run that is absent or incomplete. `--page` adds a table from another
folder. `make figures` then writes the tables of README.md and docs/results.md from these pages. Each JSON file has the
digests of the manifests behind its figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aft.json_files import read_json, write_json, write_text
from aft.markdown import markdown
from aft.report.build import build_report
from aft.report.measures import MEASURES
from aft.report.page import markdown_page
from aft.report.spread import amount
from aft.run.digest import digest_file
from aft.run.folder import METRICS, TRAINER_STATE, RunFolder, Unit
from aft.stats.estimate import to_json

Page = tuple[str, str, Any]  # its name, the Markdown, what is behind it
# page -> the run's folder, and whether every pair of its models is compared, which is long where there are many
REPORTS = {
    "quickstart": ("quickstart", True),
    "grid": ("arithmetic-grid", False),
    "gsm8k-tiny": ("gsm8k-tiny-cpu", False),
    "from-prefix": ("arithmetic-from-prefix", True),
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (runs)")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder of the pages (docs/results)")
    parser.add_argument(
        "--page", nargs="+", default=[], metavar="NAME=TABLE.md", help="further tables, each with its name here"
    )
    known = parser.parse_args()
    further = [_named(text, parser) for text in known.page]
    made: set[str] = set()
    for name, text, results in (*collect(known.runs), *further):
        if name in made:
            parser.error(f"--page {name}: another page has that name")
        made.add(name)
        write_text(known.output / f"{name}.md", text.strip() + "\n")
        write_json(known.output / f"{name}.json", results)
        print(f"wrote {known.output / name}.md and .json")
    for page in sorted(known.output.glob("*.md")):
        if page.stem not in made:
            print(f"left as it is: {page}; {known.runs} has no such result, or not the whole")


def collect(runs: Path) -> Iterator[Page]:
    """Every page that these runs have."""
    for scale in sorted(runs.glob("tables/*")):
        yield from _tables(scale)
    for name, (folder, compare) in REPORTS.items():
        if any((unit.folder / METRICS).exists() for unit in RunFolder(runs / folder).units("evaluate")):
            report = build_report(runs / folder, compare=compare)
            if not any(model["missing_seeds"] for model in report["models"]):
                yield name, markdown_page(report), to_json(report)
    folders = sorted(runs.glob("vft-*"))
    trained = [unit for folder in folders for unit in RunFolder(folder).units("vft") if unit.manifest.exists()]
    if trained:
        yield "vft-rates", *_vft_rates(trained, runs)


def _named(text: str, parser: argparse.ArgumentParser) -> Page:
    name, _, file = text.partition("=")
    path = Path(file)
    plain = name not in ("", ".", "..") and Path(name).name == name
    if not plain or path.suffix != ".md" or not (path.is_file() and path.with_suffix(".json").is_file()):
        parser.error(
            f"--page {text}: expected NAME=TABLE.md, a table of scripts/ or of aft-report with its .json beside it"
        )
    return name, *_table(path.parent, path.stem)


def _tables(folder: Path) -> Iterator[Page]:
    """The tables of one scale."""
    for path in sorted(folder.glob("*.json")):
        if "grid" not in _json(path):
            yield f"{folder.name}-{path.stem}", *_table(folder, path.stem)


def _table(folder: Path, stem: str) -> tuple[str, Any]:
    """A table with the grids of learning rates that were written beside it, as STEM-GRID.md and .json."""
    beside = {path.stem: _json(path) for path in sorted(folder.glob("*.json"))}
    tables = [name for name in beside if "grid" not in beside[name]]
    own = [
        name
        for name in beside
        if "grid" in beside[name] and max(filter(name.startswith, tables), key=len, default="") == stem
    ]
    pages = [_text(folder / f"{name}.md").strip() for name in (stem, *own)]
    return "\n\n".join(pages), {**beside[stem], "grids": [beside[name] for name in own]}


def _vft_rates(trained: list[Unit], runs: Path) -> tuple[str, Any]:
    """VFT by learning rate: its best validation accuracy over the epochs, and the step of it."""
    results = []
    for unit in trained:
        manifest, log = _json(unit.manifest), _json(unit.folder / TRAINER_STATE)
        files = (unit.manifest, unit.folder / TRAINER_STATE)
        results.append(
            {
                "learning_rate": manifest["inputs"]["config"]["vft"]["training"]["learning_rate"],
                "seed": unit.seed,
                "task_accuracy": log["best_metric"],
                "step": log["best_global_step"],
                "commit": manifest["git_revision"],
                "manifests": {path.relative_to(runs).as_posix(): digest_file(path) for path in files},
            }
        )
    results.sort(key=lambda result: (result["learning_rate"], result["seed"]))
    kind = MEASURES["task_accuracy"].kind
    rows = [
        [
            f"{found['learning_rate']:g}",
            str(found["seed"]),
            amount(found["task_accuracy"], kind, brief=True),
            str(found["step"]),
            str(found["commit"]),
        ]
        for found in results
    ]
    title = "# VFT by learning rate\n\nThe best of its epochs by greedy accuracy on validation questions.\n\n"
    return title + markdown(["learning rate", "seed", "validation accuracy (%)", "step", "commit"], rows), results


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) or {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
