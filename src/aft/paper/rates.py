"""A grid of learning rates over the methods of a run: the names, the best rate of each method, and the grid's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import merge
from ..errors import AftError
from ..json_files import read_json
from ..markdown import inline, markdown
from ..report.measures import MEASURES
from ..report.spread import number
from ..run.folder import RunFolder
from ..stats.estimate import Estimate, to_json
from .run_results import evaluated_at

ACCURACY = MEASURES["task_accuracy"]


def at_rates(methods: Mapping[str, Any], rates: Sequence[float]) -> dict[str, Any]:
    """Every method at every learning rate, under names that `best_rates` reads."""
    return {_name(method, rate): at_rate(changes, rate) for method, changes in methods.items() for rate in rates}


def at_rate(changes: Mapping[str, Any] | None, rate: float) -> dict[str, Any]:
    """A method's changes to `align` with a learning rate among them."""
    return merge(changes or {}, {"training": {"learning_rate": rate}})


def at_rates_of(methods: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    """Every method's changes to `align` with its own learning rate among them."""
    return {name: at_rate(keys, rates[name]) for name, keys in methods.items()}


def best_rates(report: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float]) -> dict[str, float]:
    """The rate of each method with the best mean task accuracy in a grid's report.json; the lowest of equal ones.

    Raises `AftError` for a method without any.
    """
    best = _best_known(accuracies(report, methods, rates))
    for method in methods:
        if method not in best:
            raise AftError(f"{method}: no accuracy at any of the learning rates {', '.join(map('{:g}'.format, rates))}")
    return best


def best_rate(means: Mapping[float, float]) -> float:
    """The rate with the best mean; the lowest of equal ones."""
    return min(means, key=lambda rate: (-means[rate], rate))


def _best_known(measured: Mapping[str, Mapping[float, Estimate]]) -> dict[str, float]:
    """The best rate of each method that has any accuracy."""
    means = {
        method: {rate: found.mean for rate, found in by_rate.items() if found.mean is not None}
        for method, by_rate in measured.items()
    }
    return {method: best_rate(by_rate) for method, by_rate in means.items() if by_rate}


def edge_note(best: Mapping[str, float], rates: Sequence[float]) -> str:
    """A line on the best rates at an end of the grid, beyond which a better one may lie; empty where there are none."""
    ends = {min(rates): "lowest", max(rates): "highest"}
    found = [f"{name} ({rate:g}, the {ends[rate]})" for name, rate in best.items() if rate in ends]
    return f"Best at the edge of the grid, beyond which a better rate may lie: {', '.join(found)}." if found else ""


def accuracies(
    report: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float]
) -> dict[str, dict[float, Estimate]]:
    """Method -> rate -> task accuracy in a report.json; a rate not measured is absent."""
    found = {model["name"]: model[ACCURACY.name] for model in report["models"] if model[ACCURACY.name]}
    return {
        method: {rate: Estimate.from_json(found[_name(method, rate)]) for rate in rates if _name(method, rate) in found}
        for method in methods
    }


def _name(method: str, rate: float) -> str:
    return f"{method}-lr{rate:g}"


def grid_page(folder: Path, methods: Sequence[str], rates: Sequence[float]) -> tuple[str, dict[str, Any]] | None:
    """The grid as Markdown, the best rate of each method in bold, and as JSON.

    A method without any accuracy has dashes, and no best rate. Below the table a line names the methods whose best rate
    is at an end of the grid. None if no grid was run, or if there is only one rate.
    """
    run = RunFolder(folder)
    report = read_json(run.report("json"))
    if report is None or len(rates) < 2:
        return None
    measured = accuracies(report, methods, rates)
    best, table = table_of(measured, rates, "method")
    # older reports name no manifests
    names, found = at_rates(dict.fromkeys(methods), rates), report.get("manifests", {})
    manifests = {
        (folder / path).as_posix(): digest
        for path, digest in found.items()
        if (unit := run.unit_of(folder / path)) and unit.name in names
    }
    seeds = ", ".join(map(str, report["seeds"]))
    title = f"Validation accuracy (%) by learning rate, {folder}; seeds {seeds}; {evaluated_at(manifests)}:"
    results = {
        "grid": folder.as_posix(),
        "seeds": report["seeds"],
        "accuracy": to_json(measured),
        "learning_rates": best,
        "manifests": manifests,
    }
    return "\n\n".join([inline(title), *table]), results


def table_of(
    measured: Mapping[str, Mapping[float, Estimate]], rates: Sequence[float], heading: str
) -> tuple[dict[str, float], list[str]]:
    """The best rates, and as Markdown a row for each name with the best in bold, and the line on edges if any."""
    best, rows = _best_known(measured), []
    for name, by_rate in measured.items():
        cells = [number(by_rate.get(rate), ACCURACY.kind, brief=True) for rate in rates]
        rows.append(
            [name, *(f"**{c}**" if rate == best.get(name) else c for rate, c in zip(rates, cells, strict=True))]
        )
    table = markdown([heading, *(f"{rate:g}" for rate in rates)], rows)
    return best, [text for text in (table, edge_note(best, rates)) if text]
