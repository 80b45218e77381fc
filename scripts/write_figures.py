"""Writes the tables inside README.md and docs/results.md from the committed pages: `make figures`.

A block stands between two marks, `<!-- figures: MAKER ARGUMENT ... -->` and `<!-- /figures -->`. The first word names a
function of `MAKERS`. The others are its arguments, quoted as in a shell: mostly a page of docs/results. What
stands between the marks is written from docs/results/*.json and docs/performance.json alone; the prose is kept.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aft.errors import AftError
from aft.json_files import write_text
from aft.markdown import ABSENT, markdown
from aft.paper.specs import SPECS
from aft.report.measures import MEASURES, POINTS, SHARE
from aft.report.spread import amount, number
from aft.stats.comparison import bootstrap_estimate
from aft.stats.estimate import Estimate

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", "docs/results.md")
BEGIN, END = "<!-- figures:", "<!-- /figures -->"
# a block never reaches over the beginning of another, so a forgotten end mark deletes no prose
BLOCK = re.compile(rf"({BEGIN} ([^>]*) -->\n)(?:(?!{BEGIN}).)*?({END})", re.DOTALL)

MODELS = {
    "base": "base model",
    "vft": "VFT",
    "vft-more": "VFT, as many further steps",
    "rft": "RFT",
    "aft-unconstrained": "AFT, no constraint, 1e-4 (its best rate)",
    "aft-unconstrained-5e-4": "AFT, no constraint, 5e-4 (the others' rate)",
    "aft-detached": "AFT, detached (DCL)",
    "aft-boundary": "AFT, boundary (BCL)",
    "aft-dcl": "AFT, detached (DCL)",
    "aft-bcl": "AFT, boundary (BCL)",
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a document is out of date")
    known = parser.parse_args()
    outdated = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        try:
            written = fill(text, name)
        except AftError as error:
            sys.exit(str(error))
        if written != text:
            outdated.append(name)
            if not known.check:
                write_text(path, written)
                print(f"wrote {name}")
    if known.check and outdated:
        sys.exit(f"{', '.join(outdated)}: a table is not what the pages say; run: make figures")


def fill(text: str, document: str, pages: Path = PAGES) -> str:
    """`text` with every block written anew. Raises `AftError` that names the document, the mark and what is wrong."""

    def written(match: re.Match[str]) -> str:
        maker, *arguments = shlex.split(match[2])
        try:
            _known([maker], MAKERS, "maker")
            return f"{match[1]}{MAKERS[maker](pages, *arguments)}\n{match[3]}"
        except AftError as error:
            raise AftError(f"{document}: {BEGIN} {' '.join(match[2].split())} -->: {error}") from error

    filled, number_of_blocks = BLOCK.subn(written, text)
    if not text.count(BEGIN) == text.count(END) == number_of_blocks:
        raise AftError(f"{document}: a mark `{BEGIN} ... -->` without its `{END}`, or the other way round")
    return filled


def _known(wanted: Iterable[str], known: Iterable[str], what: str) -> None:
    absent = [name for name in wanted if name not in known]
    if absent:
        raise AftError(f"there is no {what} {', '.join(absent)}, only {', '.join(known)}")


def _page(pages: Path, name: str) -> Any:
    path = pages / f"{name}.json"
    if not path.is_file():
        raise AftError(f"{path} is absent")
    return json.loads(path.read_text(encoding="utf-8"))


# ---- the paper's tables ----


def table(pages: Path, name: str, *further: str) -> str:
    """The cells of a table's page, with the paper's figures beside the column that they belong to.

    `further`: beginnings of titles; instead of the cells, the tables below with such titles, each below its title.
    """
    page = _page(pages, name)
    if further:
        return _further(name, page.get("further") or [], further)
    at = {(tuple(cell["row"]), cell["column"]): cell for cell in page["cells"]}
    rows = list(dict.fromkeys(tuple(cell["row"]) for cell in page["cells"] if cell["model"] or cell["paper"]))
    columns = list(dict.fromkeys(cell["column"] for cell in page["cells"]))
    headings = SPECS[page["table"]].headings
    headings = ("run",) * (len(rows[0]) - len(headings)) + headings
    alike = [len({row[i] for row in rows}) == 1 for i in range(len(headings))]
    named = ("run",) if page["table"] == "real" else ()  # more of its worlds may follow
    telling = [i for i, heading in enumerate(headings) if len(headings) == 1 or heading in named or not alike[i]]
    # in a table by measure the paper's figure is of all of them, and stands once, behind the last
    paper = {column: [at[row, column]["paper"] if (row, column) in at else "" for row in rows] for column in columns}
    beside = columns if len(set(map(tuple, paper.values()))) > 1 else columns[-1:]
    head = [headings[i] for i in telling]
    lines = [[row[i] for i in telling] for row in rows]
    for column in columns:
        head.append(column)
        for line, row in zip(lines, rows, strict=True):
            line.append(at[row, column]["text"] if (row, column) in at else ABSENT)
        if column in beside and any(paper[column]):
            head.append("paper")
            for line, figure in zip(lines, paper[column], strict=True):
                line.append(figure or ABSENT)
    return markdown(head, lines)


def _further(name: str, tables: Any, beginnings: tuple[str, ...]) -> str:
    chosen = [table for table in tables if table["title"].startswith(beginnings)]
    if not chosen:
        titles = "; ".join(table["title"] for table in tables) or "none"
        raise AftError(f"{name}.json has no table '{' or '.join(beginnings)}', only: {titles}")
    return "\n\n".join(f"{one['title']}:\n\n{markdown(one['headings'], one['rows'])}" for one in chosen)


def real(pages: Path, name: str) -> str:
    """A page of runs that go on for days: its table, every claim with its evidence, and what has not finished."""
    if not (pages / f"{name}.json").is_file():
        return "Nothing of this table has been evaluated yet."
    page = _page(pages, name)
    lines = [
        [claim["claim"] if i == 0 else "", claim["run"], claim["status"], evidence]
        for claim in page["claims"]
        for i, evidence in enumerate(claim["evidence"])
    ]
    missing = [note.partition(": ")[2] for note in page["notes"] if note.startswith("not finished: ")]
    return "\n".join(
        [
            table(pages, name),
            f"\nThe [page](results/{name}.md) has learning rates, commits and every difference. The claims:\n",
            markdown(["claim", "in", "verdict", "difference: mean [95 %]; by seed"], lines),
            *(["\nNot finished:\n", *(f"- {line}" for line in missing)] if missing else []),
        ]
    )


def worlds(pages: Path, name: str, measure: str) -> str:
    """One measure of a page with several runs: a row for each method, a column for each run."""
    cells = [cell for cell in _page(pages, name)["cells"] if measure in cell["values"]]
    at = {tuple(cell["row"]): cell["text"] for cell in cells}
    runs, methods = (list(dict.fromkeys(side)) for side in zip(*at, strict=True))
    lines = [[method, *(at.get((run, method), ABSENT) for run in runs)] for method in methods]
    return markdown([MEASURES[measure].table, *(run.split(",")[0] for run in runs)], lines)


class Difference(NamedTuple):
    """One line of evidence behind a claim: of which models and measure, with its interval, and by seed."""

    of: str
    interval: str
    by_seed: tuple[str, ...]


def _evidence(claim: Any) -> list[Difference]:
    found = []
    for line in claim["evidence"]:
        of, _, figures = line.partition(": ")
        interval, _, by_seed = figures.partition("; by seed ")
        found.append(Difference(of.removesuffix(", task accuracy"), interval, tuple(by_seed.split(", "))))
    return found


def _claims(pages: Path, source: str) -> Iterator[Any]:
    """The tested claims of `PAGE` or of `PAGE:RUN`, a run by its name up to the comma."""
    name, _, run = source.partition(":")
    found = [claim for claim in _page(pages, name)["claims"] if run in ("", claim["run"].split(",")[0])]
    if not found:
        raise AftError(f"{name}.json has no claim of a run {run}" if run else f"{name}.json has no claim")
    return (claim for claim in found if claim["status"] != "not tested")


def _differences(pages: Path, source: str) -> dict[str, Difference]:
    return {line.of: line for claim in _claims(pages, source) for line in _evidence(claim)}


def claims(pages: Path, *sources: str) -> str:
    """Each claim of these pages once, its verdict and the differences that decide it."""
    seen: dict[str, Any] = {}
    for source in sources:
        for claim in _claims(pages, source):
            seen.setdefault(claim["claim"], claim)
    lines = []
    for text, claim in seen.items():
        for i, found in enumerate(_evidence(claim)):
            first = [text, claim["status"]] if i == 0 else ["", ""]
            lines.append([*first, found.of, found.interval, ", ".join(found.by_seed)])
    return markdown(["claim", "verdict", "difference", "mean [95 %]", "by seed"], lines)


def verdicts(pages: Path, *places: str) -> str:
    """Each claim of the pages, and in which places, `LABEL=PAGE[:RUN]`, it is held and not held.

    Labels that differ in a number at their end are gathered.
    """
    lines: dict[str, dict[str, list[str]]] = {}
    for place in places:
        label, _, source = place.partition("=")
        for claim in _claims(pages, source):
            labels = lines.setdefault(claim["claim"], {"held": [], "not held": []})[claim["status"]]
            labels += [label] if label not in labels else []
    rows = [[claim, *map(_gathered, found.values())] for claim, found in lines.items()]
    return markdown(["claim", "held in", "not held in"], rows)


def _gathered(labels: list[str]) -> str:
    numbers: dict[str, list[str]] = {}
    for label in labels:
        match = re.fullmatch(r"(.+) (\d)", label)
        numbers.setdefault(match[1] if match else label, []).extend([match[2]] if match else [])
    return "; ".join(" ".join([label, ", ".join(found)]).strip() for label, found in numbers.items()) or ABSENT


def differences(pages: Path, *arguments: str) -> str:
    """The differences behind the claims, all or those named, a column for each place, `LABEL=PAGE[:RUN]`."""
    places = [argument.partition("=") for argument in arguments if "=" in argument]
    columns = [(label, _differences(pages, source)) for label, _, source in places]
    every = list(dict.fromkeys(of for _, found in columns for of in found))
    rows = [argument for argument in arguments if "=" not in argument] or every
    _known(rows, every, "difference")

    def cell(line: Difference | None) -> str:
        if line is None:
            return ABSENT
        return f"{line.interval}; {sum(float(seed) > 0 for seed in line.by_seed)} of {len(line.by_seed)}"

    return markdown(
        ["difference; on how many seeds above 0", *(label for label, _ in columns)],
        [[of, *(cell(found.get(of)) for _, found in columns)] for of in rows],
    )


def seeds(pages: Path, source: str, *differences: str) -> str:
    """Differences behind the claims of `PAGE:RUN`, a column for each seed."""
    found = _differences(pages, source)
    _known(differences, found, "difference")
    rows = []
    for of in differences:
        by_seed = [float(seed) for seed in found[of].by_seed]
        error = statistics.stdev(by_seed) / len(by_seed) ** 0.5
        rows.append([of, found[of].interval, f"{error:.2f}", *found[of].by_seed])
    return markdown(
        ["difference", "mean [95 %]", "standard error over seeds", *map(str, range(len(rows[0]) - 3))], rows
    )


def rates(pages: Path, name: str) -> str:
    """A grid of learning rates on validation questions, the best of each method in bold."""
    page = _page(pages, name)
    if "models" in page:  # the report of a run whose methods are called METHOD-RATE
        grid: dict[str, dict[float, Any]] = {}
        for model in page["models"]:
            if match := re.fullmatch(r"(.+)-(\d+e-\d+)", model["name"]):
                grid.setdefault(match[1], {})[float(match[2])] = model["task_accuracy"]
    else:
        grids = page.get("grids") or []
        if not grids:
            raise AftError(f"{name}.json has no grid of learning rates")
        grid = {
            method: {float(rate): value for rate, value in by_rate.items()}
            for each in grids
            for method, by_rate in each["accuracy"].items()
        }
    tried = sorted({rate for by_rate in grid.values() for rate in by_rate})
    lines = []
    for method, by_rate in grid.items():
        best = max(by_rate, key=lambda rate: (by_rate[rate]["mean"], -rate))
        cells = {rate: number(Estimate.from_json(value), SHARE, brief=True) for rate, value in by_rate.items()}
        cells[best] = f"**{cells[best]}**"
        lines.append([method, *(cells.get(rate, ABSENT) for rate in tried)])
    return markdown(["validation accuracy (%)", *(f"{rate:g}" for rate in tried)], lines)


# ---- reports of runs ----


def report(pages: Path, name: str, measures: str, *models: str) -> str:
    """Measures, separated by commas, of the models of a run's report: of those named, or of all."""
    found = {model["name"]: model for model in _page(pages, name)["models"]}
    columns = measures.split(",")
    _known(models, found, "model")
    _known(columns, MEASURES, "measure")
    lines = []
    for model in models or found:
        cells = [_cell(found[model].get(measure), measure) for measure in columns]
        lines.append([MODELS.get(model, model), *cells])
    return markdown(["model", *(MEASURES[measure].heading for measure in columns)], lines)


def _cell(value: Any, measure: str) -> str:
    if value is None:
        return ABSENT
    if measure == "vs_vft":
        return number(bootstrap_estimate(value), POINTS)
    return number(Estimate.from_json(value), MEASURES[measure].kind, brief=True)


def pairs(pages: Path, name: str, *wanted: str) -> str:
    """Paired differences, `A − B`, of the models of a run's report, in points, with bootstrap intervals and by seed."""
    found = {f"{pair['a']} − {pair['b']}": pair for pair in _page(pages, name)["pairs"]}
    _known(wanted, found, "pair")
    lines = []
    for pair in wanted:
        accuracy = found[pair]["task_accuracy"]
        by_seed = ", ".join(amount(seed["mean"], POINTS, brief=True) for seed in accuracy["by_seed"].values())
        lines.append([pair, _interval(accuracy), by_seed, _interval(found[pair]["pool_assessment_accuracy"])])
    return markdown(["difference in points", "task accuracy", "by seed", "assessment, pool"], lines)


def _interval(difference: Any) -> str:
    return ABSENT if difference is None else number(bootstrap_estimate(difference), POINTS)


def drift(pages: Path, name: str) -> str:
    """How far a run's alignment moved the scores of training questions' chains, over seeds."""
    measures = [MEASURES[key] for key in ("positive_drift", "negative_drift", "both_fell")]
    lines = []
    for model, by_seed in _page(pages, name)["displacement"].items():
        found = [
            Estimate.over_seeds({int(seed): Estimate(value[measure.name]) for seed, value in by_seed.items()})
            for measure in measures
        ]
        cells = [number(value, measure.kind, alone="") for value, measure in zip(found, measures, strict=True)]
        lines.append([MODELS.get(model, model), *cells])
    return markdown(["model", *(measure.table for measure in measures)], lines)


def vft_rates(pages: Path) -> str:
    """VFT by learning rate and seed."""
    found = _page(pages, "vft-rates")
    at = {(line["seed"], line["learning_rate"]): amount(line["task_accuracy"], SHARE, brief=True) for line in found}
    every, tried = (sorted(set(side)) for side in zip(*at, strict=True))
    lines = [[f"seed {seed}", *(at.get((seed, rate), ABSENT) for rate in tried)] for seed in every]
    return markdown(["validation accuracy (%)", *(f"{rate:g}" for rate in tried)], lines)


# ---- speed ----


def speed(pages: Path, *parts: str) -> str:
    """What these parts of docs/performance.json measured against the bars of docs/performance.md.

    Without parts: the real pretrained model's, each rival, and the most there is to win.
    """
    measured = _page(pages.parent, "performance")["parts"]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from page import load_part

    if parts:
        _known(parts, measured, "part")
        bars = [bar for part in parts for bar in load_part(part).bars(measured[part]["figures"])]
        return markdown(["faster than", "median (range)"], [[bar.cells()[0], bar.cells()[2]] for bar in bars])
    # it needs a checkpoint, so a page may lack it
    return str(load_part("real").headline(measured["real"]["figures"])) if "real" in measured else "Not measured."


MAKERS: dict[str, Callable[..., str]] = {
    "table": table,
    "real": real,
    "worlds": worlds,
    "claims": claims,
    "verdicts": verdicts,
    "differences": differences,
    "seeds": seeds,
    "rates": rates,
    "report": report,
    "pairs": pairs,
    "drift": drift,
    "vft-rates": vft_rates,
    "speed": speed,
}


if __name__ == "__main__":
    main()
