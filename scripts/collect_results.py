"""Copies what was measured from runs/ into docs/results: for each table and run a page to read, and a JSON file.

`python scripts/collect_results.py` takes what is there of `make tables`, `make losses-demo`, `make quickstart`, the
grid behind its learning rates and the GSM8K run, and leaves the pages of what is not. `--page` adds what was made in a
folder of its own. docs/results.md quotes these pages, and a test holds it to them. Each JSON file has the digests of
the manifests behind its figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aft.cells import markdown
from aft.records import write_json, write_text
from aft.report import build_report
from aft.run import MANIFEST, digest_file
from aft.tables import markdown_page

Page = tuple[str, str, Any]  # its name, the Markdown, what is behind it
# page -> the run's folder, and whether every pair of its models is compared, which is long where there are many
REPORTS = {
    "quickstart": ("quickstart", True),
    "grid": ("arithmetic-grid", False),
    "gsm8k-tiny": ("gsm8k-tiny-cpu", False),
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
    made = set()
    for name, text, results in (*collect(known.runs), *further):
        made.add(name)
        write_text(known.output / f"{name}.md", text.strip() + "\n")
        write_json(known.output / f"{name}.json", results)
        print(f"wrote {known.output / name}.md and .json")
    for page in sorted(known.output.glob("*.md")):
        if page.stem not in made:
            print(f"left as it is: {page}; {known.runs} has no such result")


def collect(runs: Path) -> Iterator[Page]:
    """Every page that these runs have."""
    for scale in sorted(runs.glob("tables/*")):
        yield from _tables(scale)
    demo = runs / "losses-demo" / "table4.json"
    if demo.exists():
        yield "losses-demo", _text(demo.with_suffix(".md")), json.loads(_text(demo))
    for name, (folder, compare) in REPORTS.items():
        if any((runs / folder).glob("seed-*/evaluate/*/metrics.json")):
            report = build_report(runs / folder, compare=compare)
            yield name, markdown_page(report), report
    if any(runs.glob("vft-*/seed-*/vft")):
        yield "vft-rates", *_vft_rates(sorted(runs.glob("vft-*")))


def _named(text: str, parser: argparse.ArgumentParser) -> Page:
    name, _, file = text.partition("=")
    path = Path(file)
    if not file or path.suffix != ".md" or not (path.is_file() and path.with_suffix(".json").is_file()):
        parser.error(
            f"--page {text}: expected NAME=TABLE.md, a table of scripts/ or of aft-report with its .json beside it"
        )
    return name, *_table(path.parent, path.stem)


def _tables(folder: Path) -> Iterator[Page]:
    """The tables of one scale."""
    for path in sorted(folder.glob("*.json")):
        yield f"{folder.name}-{path.stem}", *_table(folder, path.stem)


def _table(folder: Path, stem: str) -> tuple[str, Any]:
    """A table with the grids of learning rates that were written beside it: NAME-GRID.md, without a JSON file."""
    stems = {path.stem for path in folder.glob("*.json")}
    grids = [path for path in sorted(folder.glob("*.md")) if path.stem not in stems]
    own = [path for path in grids if max(filter(path.stem.startswith, stems), key=len, default="") == stem]
    pages = [_text(path).strip() for path in (folder / f"{stem}.md", *own)]
    return "\n\n".join(pages), json.loads(_text(folder / f"{stem}.json"))


def _vft_rates(folders: list[Path]) -> tuple[str, Any]:
    """VFT by learning rate: its best validation accuracy over the epochs, and the step of it."""
    results = []
    for manifest in (path for folder in folders for path in sorted(folder.glob(f"seed-*/vft/{MANIFEST}"))):
        training = json.loads(_text(manifest))["inputs"]["config"]["vft"]["training"]
        state = json.loads(_text(manifest.with_name("trainer_state.json")))
        results.append(
            {
                "learning_rate": training["learning_rate"],
                "seed": int(manifest.parents[1].name.removeprefix("seed-")),
                "task_accuracy": state["best_metric"],
                "step": state["best_global_step"],
                "manifest": {manifest.relative_to(folders[0].parent).as_posix(): digest_file(manifest)},
            }
        )
    results.sort(key=lambda result: (result["learning_rate"], result["seed"]))
    rows = [
        [f"{r['learning_rate']:g}", str(r["seed"]), f"{100 * r['task_accuracy']:.1f}", str(r["step"])] for r in results
    ]
    title = "# VFT by learning rate\n\nThe best of its epochs by greedy accuracy on validation questions.\n\n"
    return title + markdown(["learning rate", "seed", "validation accuracy (%)", "step"], rows), results


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
