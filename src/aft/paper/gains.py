"""What each method gains over VFT, by size of the base model, data and k: cells, and the table by seed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ..errors import AftError
from ..markdown import ABSENT
from ..report.measures import MEASURES, POINTS
from ..report.spread import amount, number
from ..run.folder import VFT
from ..stats.comparison import BySeed, paired_by_seed, share_removed
from ..stats.estimate import Estimate
from .cells import Cell, TextTable
from .methods import variants
from .run_results import RunResult
from .sizes import SIZE_KS

ACCURACY, GAIN, OVER_RFT, REMOVED = "task_accuracy", "vs_vft", "vs_rft", "errors_removed"
_K = re.compile(r"(.+), k = (\d+)")  # the label of a method with a number of candidates of its own
_SERIES = [name for method in ("rft", "aft-bc", "rft-bc") for name in variants(method, "k", SIZE_KS)]
Rows = Sequence[tuple[tuple[str, ...], str | None]]


def by_size(runs: Sequence[RunResult]) -> list[RunResult]:
    """The runs with the configuration's k first, much data before little, small models before large ones.

    Raises `AftError` where two runs would share the rows of the table.
    """
    found = sorted(runs, key=lambda run: (has_ks(run), -(run.answers_alone or 0), run.parameters or math.inf))
    rows: dict[tuple[str, ...], RunResult] = {}
    for run in found:
        row = (*_place(run), str(run.k), str(has_ks(run)))
        if run.parameters is not None and row in rows:
            raise AftError(
                f"{rows[row].folder} and {run.folder}: both have {row[0]} million parameters, {row[1]} answers alone"
                f" and k = {row[2]}; a table of gains by size has one such run"
            )
        rows[row] = run
    return found


def ends(runs: Sequence[RunResult]) -> Iterator[tuple[RunResult, RunResult]]:
    """(smallest, largest) of the runs that differ in size alone; the same run twice where there is one size only.

    Runs with several k of each method are left out: claims over sizes are about the others.
    """
    for alike in _kinds([run for run in runs if not has_ks(run)]):
        known = sorted((run for run in alike if run.parameters is not None), key=lambda run: run.parameters or 0)
        yield (known[0], known[-1]) if known else (alike[0], alike[0])


def _kinds(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    """The runs in groups that may differ in size alone, much data before little."""

    def kind(run: RunResult) -> tuple[Any, ...]:
        return -(run.answers_alone or 0), run.task, run.k or 0, json.dumps(run.setting, sort_keys=True, default=str)

    return [list(group) for _, group in groupby(sorted(runs, key=kind), kind)]


def notes(runs: Sequence[RunResult]) -> Iterator[str]:
    """Lines on what the table lacks, and on runs that are not compared over sizes."""
    for run in runs:
        absent = [] if not has_ks(run) else [name for name in _SERIES if name not in run.models]
        if absent:
            yield f"{run.model}, {run.task}: not in this run: {', '.join(absent)}."
    groups = _kinds([run for run in runs if not has_ks(run)])
    for _, alike in groupby(groups, lambda group: (group[0].task, group[0].answers_alone)):
        several = [", ".join(run.model for run in group) for group in alike]
        if len(several) > 1:
            yield f"Not compared over sizes, as data, k or steps differ: {' | '.join(several)}."
    sizes = sorted({run.parameters for run in runs if run.parameters is not None})
    found = ", ".join(map(_millions, sizes)) or "none that is known"
    yield f"Sizes on this page, in million parameters: {found}. Claims speak of the smallest and the largest of them."


def name_of_ends(smallest: RunResult, largest: RunResult) -> str:
    """How a verdict over sizes calls its two runs: by their sizes too, as others may not have finished."""
    if smallest is largest:
        return f"{largest.model}, {largest.task}"
    sizes = f"{_millions(smallest.parameters)} → {_millions(largest.parameters)} million"
    return f"{sizes}: {largest.model}, {largest.task} against {smallest.model}, {smallest.task}"


def cells(run: RunResult, name: str, rows: Rows) -> Iterator[Cell]:
    """A cell for VFT's accuracy and each method's gain. `rows`: label and model of each."""
    shown = [(*_method_and_k(labels[0], run), model) for labels, model in rows if model is not None]
    ks = dict.fromkeys(k for _, k, model in shown if model != VFT) or {_method_and_k("", run)[1]: None}
    vft = run.measure(VFT, ACCURACY)
    for k in ks:
        row = (*_place(run), k)
        kind = MEASURES[ACCURACY].kind
        text = number(vft, kind, brief=True, alone="")
        yield Cell(row, "VFT (%)", text, "", name, VFT if vft else None, {ACCURACY: vft})
        alike = {method: model for method, own, model in shown if own == k and model != VFT}
        for method, model in alike.items():
            found = _gains(run, model, alike.get("RFT"))
            yield Cell(row, method, _sure(found[GAIN]), "", name, model, found)


def table_by_seed(found: Sequence[Cell]) -> TextTable:
    """Each gain by seed, the difference from RFT, and the share of VFT's errors removed, with intervals."""
    rows = []
    for cell in found:
        gain = cell.values.get(GAIN)
        if gain is not None:
            by_seed = ", ".join(amount(seed.mean, POINTS, brief=True) for seed in gain.by_seed.values())
            further = (_sure(cell.values[key]) for key in (OVER_RFT, REMOVED))
            rows.append((cell.run, cell.row[-1], cell.column, f"{_sure(gain)}; by seed {by_seed}", *further))
    return TextTable(("run", "k", "method", "− VFT", "− RFT", "VFT's errors removed (%)"), tuple(rows))


def _gains(run: RunResult, model: str, rft: str | None) -> dict[str, Estimate | None]:
    own, vft = run.values(ACCURACY, model), run.values(ACCURACY, VFT)
    over_rft = None if rft in (None, model) else _difference(own, run.values(ACCURACY, str(rft)))
    return {GAIN: _difference(own, vft), OVER_RFT: over_rft, REMOVED: share_removed(own, vft)}


def _difference(a: BySeed, b: BySeed) -> Estimate | None:
    """Mean of a − b, its bootstrap interval over questions, and the mean of each seed."""
    found = paired_by_seed(a, b)
    if found is None:
        return None
    by_seed = {int(seed): Estimate(one["mean"], n=one["n"]) for seed, one in found["by_seed"].items()}
    interval = (found["bootstrap_low"], found["bootstrap_high"])
    return Estimate(found["mean"], found["sd_over_seeds"], *interval, by_seed=by_seed)


def _sure(value: Estimate | None) -> str:
    """A difference with its interval; an asterisk where that leaves out 0."""
    if value is None or value.mean is None:
        return ABSENT
    text = amount(value.mean, POINTS, brief=True)
    if value.low is None or value.high is None:
        return text
    low, high = (amount(bound, POINTS, brief=True) for bound in (value.low, value.high))
    return f"{text} [{low}, {high}]" + (" *" if value.low > 0 or value.high < 0 else "")


def _method_and_k(label: str, run: RunResult) -> tuple[str, str]:
    """A method's label without its k, and the k: `6`, or `3 of 12` where there are more samples."""
    most = "" if run.k is None else str(run.k)
    match = _K.fullmatch(label)
    return (match[1], f"{match[2]} of {most}") if match else (label, most or ABSENT)


def has_ks(run: RunResult) -> bool:
    """True if methods of the run, evaluated or only configured, have a number of candidates in their names."""
    return any(re.search(r"-k\d+$", name) for name in (*run.models, *run.methods))


def _place(run: RunResult) -> tuple[str, str]:
    """Size and answers alone, as a row has them. A size that is not known is told apart by the run's name."""
    size = f"{ABSENT} ({run.model})" if run.parameters is None else _millions(run.parameters)
    return size, ABSENT if run.answers_alone is None else str(run.answers_alone)


def _millions(parameters: int | None) -> str:
    return ABSENT if parameters is None else f"{float(f'{parameters / 1e6:.2g}'):g}"
