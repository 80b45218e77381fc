"""A grid of learning rates over the methods of a run, and the best of each by validation accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import merge
from ..errors import AftError


def at_rates(methods: Mapping[str, Any], rates: Sequence[float]) -> dict[str, Any]:
    """Every method at every learning rate, under names that `best_rates` reads."""
    return {_name(method, rate): at_rate(changes, rate) for method, changes in methods.items() for rate in rates}


def at_rate(changes: Mapping[str, Any] | None, rate: float) -> dict[str, Any]:
    """A method's changes to `align` with a learning rate among them."""
    return merge(changes or {}, {"training": {"learning_rate": rate}})


def best_rates(report: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float]) -> dict[str, float]:
    """The rate of each method with the best mean task accuracy in the report of a grid; the lowest of equal ones."""
    measured = accuracies(report, methods, rates)
    best = {}
    for method, by_rate in measured.items():
        means = {rate: value["mean"] for rate, value in by_rate.items() if value["mean"] is not None}
        if not means:
            raise AftError(f"{method}: no accuracy at any of the learning rates {', '.join(map('{:g}'.format, rates))}")
        best[method] = min(means, key=lambda rate: (-means[rate], rate))
    return best


def accuracies(
    report: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float]
) -> dict[str, dict[float, dict[str, Any]]]:
    """Method -> rate -> task accuracy as a report has it (`mean`, `sd`, ...); a rate not measured is absent."""
    found = {model["name"]: model["task_accuracy"] for model in report["models"]}
    return {
        method: {rate: found[_name(method, rate)] for rate in rates if found.get(_name(method, rate))}
        for method in methods
    }


def _name(method: str, rate: float) -> str:
    return f"{method}-lr{rate:g}"
