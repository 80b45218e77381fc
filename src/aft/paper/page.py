"""A spec and the runs behind it -> the table, its paired differences, its claims, as plain data ready to be written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation

from ..errors import AftError
from ..markdown import ABSENT
from ..report.measures import MEASURES, SHARE, measure_of
from ..report.spread import number
from ..stats.comparison import BySeed, paired_by_seed
from ..stats.estimate import Estimate
from . import gains
from .cells import Cell, TextTable
from .claims import CLAIMS, Verdict, show, verdict_on
from .figures import FIGURES, PEARSON, RANK
from .methods import resolve
from .path_tables import Curves, by_part, path_tables
from .run_results import RunResult, distinguish, evaluated_at
from .specs import ModelRow, Series, Spec

PAPER = "paper"


@dataclass(frozen=True)
class Page:
    """All that is printed for one table."""

    spec: Spec
    cells: tuple[Cell, ...]
    table: TextTable
    differences: TextTable
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    manifests: Mapping[str, str]  # path -> digest: of every alignment and evaluation behind the page
    further: tuple[tuple[str, TextTable], ...] = ()  # title and table
    curves: tuple[Curves, ...] = ()  # of each run, to be drawn


def make_page(spec: Spec, runs: Sequence[RunResult]) -> Page:
    """The table of `runs`. Raises `AftError` where none of them has any of the table's models."""
    runs = gains.by_size(runs) if spec.across == "gain" else runs
    runs = distinguish(runs, by_folder=spec.paths)  # runs of one model differ in their questions alone
    if spec.paths:
        runs = [part for run in runs for part in by_part(run, spec.measures)]
    cells = tuple(cell for run in runs for cell in _cells(spec, run, runs))
    if not any(cell.model for cell in cells):
        wanted = ", ".join(row.name if isinstance(row, ModelRow) else row.pattern for row in spec.rows)
        folders = ", ".join(str(run.folder) for run in runs)
        raise AftError(f"table {spec.key}: none of its models ({wanted}) is evaluated in {folders}")
    shown = [(_name(run), run, [(" ".join(labels), model) for labels, model in rows_of(spec, run)]) for run in runs]
    of_paths = [path_tables(name, run, rows) for name, run, rows in shown] if spec.paths else []
    return Page(
        spec=spec,
        cells=cells,
        table=_pivot(spec, runs, cells),
        differences=gains.table_by_seed(cells) if spec.across == "gain" else _differences(spec, runs),
        verdicts=tuple(verdict for key in spec.claims for verdict in _verdicts(spec, key, runs)),
        notes=(*_notes(spec, runs), *(f"{note}." for *_, notes in of_paths for note in notes)),
        manifests={
            path: digest
            for run in runs
            for path, digest in run.manifests([model for _, model in rows_of(spec, run) if model is not None]).items()
        },
        further=tuple(table for tables, *_ in of_paths for table in tables),
        curves=tuple(curves for _, curves, _ in of_paths),
    )


def _verdicts(spec: Spec, key: str, runs: Sequence[RunResult]) -> Iterator[Verdict]:
    if CLAIMS[key].over_sizes:
        for smallest, largest in gains.ends(runs):
            two = smallest.parameters != largest.parameters
            name = gains.name_of_ends(smallest, largest)
            yield verdict_on(key, largest, name, smallest if two else None)
        return
    for run in runs:
        # a run with several k of each method bears on claims about them, and on no other
        if spec.across != "gain" or gains.has_ks(run) == CLAIMS[key].over_series:
            yield verdict_on(key, run, _name(run))


def _name(run: RunResult) -> str:
    return f"{run.model}, {run.task}"


def rows_of(spec: Spec, run: RunResult) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """(labels, model of the run or None) of every row, the members of a series in the order of their numbers."""
    present = list(run.models)
    for row in spec.rows:
        if isinstance(row, ModelRow):
            yield row.labels, resolve(row.name, present)
            continue
        matches = [(match, name) for name in present if (match := re.fullmatch(row.pattern, name))]
        for match, name in sorted(matches, key=lambda pair: float(pair[0][1])):
            yield (row.label.format(match[1]),), name


def _cells(spec: Spec, run: RunResult, runs: Sequence[RunResult]) -> Iterator[Cell]:
    if spec.across == "best":
        yield _best(spec, run)
        return
    if spec.across == "gain":
        yield from gains.cells(run, _name(run), list(rows_of(spec, run)))
        return
    for labels, model in rows_of(spec, run):
        key = (*_leading(spec, run, runs), *labels)
        for column, measures, task in _columns(spec, run):
            values = {measure: run.measure(model, measure) for measure in measures}
            text = " / ".join(cell_text(measure, value) for measure, value in values.items())
            figure = _figure(spec, run, task, " ".join(labels))
            yield Cell(key, column, text, figure, _name(run), model, values)


def _columns(spec: Spec, run: RunResult) -> list[tuple[str, tuple[str, ...], str]]:
    """(heading, measures of a cell, task) of each column that a run fills."""
    if spec.across == "measure":
        return [(measure_of(measure).table, (measure,), run.task) for measure in spec.measures]
    entries = run.models.values()
    if spec.across == "paths":
        sizes = sorted({int(size) for entry in entries for size in entry["vote"]})
        return [(str(size), (f"vote@{size}",), run.task) for size in sizes]
    if spec.across == "category":
        names = list(dict.fromkeys(name for entry in entries for name in entry["categories"]))
        # the paper writes tasks in capitals, a mixture as its author named them
        parts = [(name.upper(), (f"category:{name}",), name.upper()) for name in names]
        return [*parts, ("all", ("task_accuracy",), "all")]
    return [(run.task if spec.across == "task" else run.model, spec.measures, run.task)]


def _leading(spec: Spec, run: RunResult, runs: Sequence[RunResult]) -> tuple[str, ...]:
    """The labels that say which run a row is of, as far as the columns do not say it."""
    if spec.across == "task":
        return (run.model,)
    if spec.across == "model":
        return (run.task,) if len({run.task for run in runs}) > 1 else ()
    # where the paper's figures are those of the run's own task, the task is always named
    return (_name(run),) if len(runs) > 1 or not spec.reference[1] else ()


def cell_text(measure: str, value: Estimate | None) -> str:
    """A measure in a cell, by its kind; votes and categories are shares."""
    kind = MEASURES[measure].kind if measure in MEASURES else SHARE
    return number(value, kind, brief=True, alone="")


def _figure(spec: Spec, run: RunResult, task: str, label: str) -> str:
    figures = FIGURES.get(spec.key, {})
    model, of = (run.model, task) if _is_papers(spec, run, task) else (spec.reference[0], _part(spec, task))
    return figures.get((model, of, label), "")


def _is_papers(spec: Spec, run: RunResult, task: str) -> bool:
    return any(key[:2] == (run.model, task) for key in FIGURES.get(spec.key, {}))


def _part(spec: Spec, task: str) -> str:
    """The paper's task that stands beside one of ours; a part of a mixture stands for itself."""
    if spec.across == "category":
        return task
    return RANK if task.endswith("-RANK") else spec.reference[1] or task


def _best(spec: Spec, run: RunResult) -> Cell:
    """The member of a series with the best mean accuracy, the lowest of equal ones."""
    found = []
    for labels, model in rows_of(spec, run):
        value = run.measure(model, "task_accuracy")
        if value is not None and value.mean is not None:
            found.append((-value.mean, float(labels[0]), model, value))
    if not found:
        return Cell((run.model,), run.task, ABSENT, _figure(spec, run, run.task, "β"), _name(run), None, {})
    _, best, model, value = min(found, key=lambda entry: entry[:2])
    text = f"{best:g} ({cell_text('task_accuracy', value)})"
    figure = _figure(spec, run, run.task, "β")
    return Cell((run.model,), run.task, text, figure, _name(run), model, {"task_accuracy": value, "beta": best})


def _pivot(spec: Spec, runs: Sequence[RunResult], cells: Sequence[Cell]) -> TextTable:
    """Cells by row and column, the paper's figures beside the columns that have some."""
    # a row without any figure, ours or the paper's, is only named in the notes
    rows = list(dict.fromkeys(cell.row for cell in cells if cell.model or cell.paper))
    columns = list(dict.fromkeys(cell.column for cell in cells))
    at = {(cell.row, cell.column): cell for cell in cells}
    width = max(len(row) for row in rows)
    # a label before those of the spec names the run
    headings = [*(("model",) if spec.across == "task" else ("run",) * (width - len(spec.headings))), *spec.headings]
    lines = [list(row) for row in rows]
    for column in columns:
        headings.append(column)
        own = [at.get((row, column)) for row in rows]
        for line, cell in zip(lines, own, strict=True):
            line.append(ABSENT if cell is None else cell.text)
        figures = [cell.paper if cell else "" for cell in own]
        # where each column is a measure, the paper's figure covers all of them and stands in the last column
        if any(figures) and (spec.across != "measure" or column == columns[-1]):
            headings.append(_paper_heading(spec, runs, [cell for cell in own if cell]))
            for line, figure in zip(lines, figures, strict=True):
                line.append(figure or ABSENT)
    return TextTable(tuple(headings[-len(lines[0]) :]), tuple(map(tuple, lines)))


def _paper_heading(spec: Spec, runs: Sequence[RunResult], cells: Sequence[Cell]) -> str:
    """`paper`, and of what its figures are where the runs beside them are not of the paper's models."""
    by_name = {_name(run): run for run in runs}
    of = {cell.run: cell.column if spec.across == "category" else by_name[cell.run].task for cell in cells}
    measures = f" {spec.figures}" if spec.across == "measure" else ""
    if spec.across == "measure" and not spec.reference[1]:
        return f"{PAPER} ({spec.reference[0]}):{measures}"
    if all(_is_papers(spec, by_name[name], task) for name, task in of.items()):
        return f"{PAPER}:{measures}" if measures else PAPER
    return f"{PAPER} ({spec.reference[0]}, {_part(spec, next(iter(of.values())))}){':' if measures else ''}{measures}"


def _differences(spec: Spec, runs: Sequence[RunResult]) -> TextTable:
    """Every row's paired difference from VFT and from RFT in every run, in points."""
    measure = "vote" if spec.across == "paths" else "task_accuracy"
    rows: list[tuple[str, ...]] = []
    for run in runs if spec.across != "best" else ():
        others = [resolve(name, list(run.models)) for name in ("vft", "rft")]
        for labels, model in rows_of(spec, run):
            if model is None or model == others[0]:
                continue
            for part in _parts(spec, run):
                against = [_versus(run, measure, model, other, part) for other in others]
                if any(text != ABSENT for text in against):
                    rows.append((_name(run), " ".join(labels) + (f", {part}" if part else ""), *against))
    return TextTable(("run", "model", "− VFT", "− RFT"), tuple(rows))


def _parts(spec: Spec, run: RunResult) -> list[str | None]:
    """None for all questions, and in a table by category the parts of the mixture, which question ids begin with."""
    if spec.across != "category":
        return [None]
    return [None, *dict.fromkeys(name for entry in run.models.values() for name in entry["categories"])]


def _versus(run: RunResult, measure: str, model: str, other: str | None, part: str | None = None) -> str:
    def values(name: str) -> BySeed:
        return {
            seed: {question: value for question, value in by_question.items() if part in (None, question.split("/")[0])}
            for seed, by_question in run.values(measure, name).items()
        }

    found = None
    if other is not None and other != model:
        found = paired_by_seed(values(model), values(other))
    if found is None:
        return ABSENT
    low, high = found["bootstrap_low"], found["bootstrap_high"]
    sure = low is not None and high is not None and (low > 0 or high < 0)
    return show(found, MEASURES[measure].kind, brief=True) + (" *" if sure else "")


def _notes(spec: Spec, runs: Sequence[RunResult]) -> Iterator[str]:
    if spec.key == "1":
        yield from _pearson(runs)
    for run in runs:
        shown = [model for _, model in rows_of(spec, run) if model is not None]
        missing = [" ".join(labels) for labels, model in rows_of(spec, run) if model is None]
        seeds = [seed for seed in run.seeds if any(seed not in run.models[name]["missing_seeds"] for name in shown)]
        yield (
            f"{_name(run)}: {run.folder}; seeds {', '.join(map(str, seeds))}; {'/'.join(run.splits)} questions;"
            f" {evaluated_at(run.manifests(shown))}."
        )
        fewer = {name: run.models[name]["missing_seeds"] for name in shown if run.models[name]["missing_seeds"]}
        for name, seeds in fewer.items():
            yield f"{_name(run)}: {name} is not evaluated on seeds {', '.join(map(str, seeds))}."
        # a run with several k of each method has no other methods
        if missing and not (spec.across == "gain" and gains.has_ks(run)):
            yield f"{_name(run)}: not in this run: {', '.join(missing)}."
        yield from (f"{_name(run)}: {note}." for note in run.notes)
        rates = [f"{name} {run.rates[name]:g}" for name in shown if name in run.rates]
        if rates:
            yield f"{_name(run)}: learning rates {', '.join(rates)}."
    if spec.across == "gain":
        yield from gains.notes(runs)


def _pearson(runs: Sequence[RunResult]) -> Iterator[str]:
    for task in dict.fromkeys(run.task for run in runs):
        points = []
        for run in runs:
            pair = [run.measure("vft", measure) for measure in ("task_accuracy", "assessment_accuracy")]
            means = [value.mean for value in pair if value is not None and value.mean is not None]
            if run.task == task and len(means) == 2:
                points.append(means)
        try:
            r = correlation(*zip(*points, strict=True)) if len(points) > 2 else None
        except StatisticsError:  # one of the figures does not vary
            r = None
        beside = f" (paper: {PEARSON[task]})" if task in PEARSON else " (paper: 0.93 on GSM8K, 0.98 on ECQA)"
        shown = "cannot be told" if r is None else f"is {r:.2f}"
        yield f"{task}: Pearson's correlation of the two figures over {len(points)} models {shown}{beside}."


__all__ = ["Cell", "Page", "Series", "TextTable", "cell_text", "make_page", "rows_of"]
