"""Sections of report.md beyond its main table: calibration, each pair, votes over several paths, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import markdown
from .spread import bootstrap, number, spread

PAIRED = {
    "task_accuracy": "task accuracy",
    "pool_assessment_accuracy": "assessment accuracy, pool",
    "vote": "majority vote of the most paths",
}


def calibration(file: str | None) -> str | None:
    """The picture of scores with its caption."""
    if file is None:
        return None
    return (
        f"![How well scores tell right from wrong]({file})\n\n"
        "*a*: each model's scores of chains of its own, right ones above the line and wrong ones below, and of the"
        " references. *b*: the pool's chains in ten equal parts by the model's score; share of right ones in each with"
        " its 95 % interval (Wilson). A model whose scores say nothing about right or wrong gives a level line."
    )


def has_vft(report: Mapping[str, Any]) -> bool:
    """Whether VFT is among the models, so that the others have a difference from it."""
    return any(model["name"] == "vft" for model in report["models"])


def pairs(report: Mapping[str, Any]) -> str | None:
    """Every two models on the same questions; None where the differences from VFT say it already."""
    found = report.get("pairs") or []
    if len(found) < (2 if has_vft(report) else 1):
        return None
    measures = [measure for measure in PAIRED if any(pair[measure] is not None for pair in found)]
    headings = ["difference", *(PAIRED[measure] for measure in measures)]
    rows = [[f"{pair['a']} − {pair['b']}", *(bootstrap(pair[measure]) for measure in measures)] for pair in found]
    return (
        markdown(headings, rows)
        + "\n\nPercentage points on the questions that both answered, [95 % interval] of a paired bootstrap over"
        " questions (10,000 resamples, fixed seed), the seeds held fixed. An interval that holds 0 does not tell a pair"
        " apart; among many pairs, one in twenty that are alike will seem to differ."
    )


def votes(report: Mapping[str, Any]) -> str | None:
    """Majority vote and pass@k by number of paths; None where no model has any."""
    parts = []
    for family, title in (("vote", "Majority vote of n paths (%)"), ("pass", "pass@k: any of k paths is right (%)")):
        table = _family(report["models"], family, "n" if family == "vote" else "k")
        if table:
            parts.append(f"{title}:\n\n{table}")
    if not parts:
        return None
    parts.append(
        "All n come from one set of paths: each number is the mean over every subset of that size, computed exactly."
        " Votes are on equal answers, not on equal spellings. A path without an answer votes for nothing; where none"
        " has one, the question is wrong. Answers that tie share the win equally. n = 1 is the share of right paths, at"
        " the sampling temperature: not the greedy task accuracy above. One seed: [95 % interval] over questions."
    )
    return "\n\n".join(parts)


def _family(models: Sequence[Mapping[str, Any]], family: str, letter: str) -> str | None:
    shown = [model for model in models if model[family]]
    sizes = sorted({int(size) for model in shown for size in model[family]})
    rows = [[model["name"], *(number(model[family].get(str(n)), 100, 2) for n in sizes)] for model in shown]
    return markdown(["method", *(f"{letter} = {n}" for n in sizes)], rows) if rows else None


def categories(report: Mapping[str, Any]) -> str | None:
    """Task accuracy by category, macro and micro; None where the task has no categories."""
    shown = [model for model in report["models"] if model["categories"]]
    if not shown:
        return None
    names = sorted({name for model in shown for name in model["categories"]})
    headings = ["category", "questions", *(model["name"] for model in shown)]
    rows = []
    for name in names:
        entries = [model["categories"].get(name) for model in shown]
        sizes = sorted({value["n"] for entry in entries if entry for value in entry["by_seed"].values()})
        size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        rows.append([name, size, *(number(entry, 100, 2) for entry in entries)])
    for title, measure in (("macro: mean of the categories", "macro_accuracy"), ("micro: all", "task_accuracy")):
        rows.append([title, "", *(number(model[measure], 100, 2) for model in shown)])
    return markdown(headings, rows)


def displacement(report: Mapping[str, Any]) -> str | None:
    """How far training moved the scores of right and wrong chains; None where it logged no drift."""
    found = report.get("displacement") or {}
    if not found:
        return None
    measures = {
        "positive_drift": ("right chains, nats per token", 1, 3, True),
        "negative_drift": ("wrong chains, nats per token", 1, 3, True),
        "both_fell": ("questions on which both fell (%)", 100, 1, False),
        "active": ("wrong chains at their boundary (%)", 100, 1, False),
    }
    rows = []
    for name, by_seed in found.items():
        rows.append([name])
        for measure, (_, factor, decimals, signed) in measures.items():
            values = [entry[measure] for entry in by_seed.values() if measure in entry]
            bounded = measure != "active" or any(values)  # without a boundary it is 0 throughout
            rows[-1].append(spread(values if bounded else [], factor, decimals, signed=signed))
    stopped = [
        f"- {name}, seed {seed}: {entry['stopped']}"
        for name, by_seed in found.items()
        for seed, entry in by_seed.items()
        if entry["stopped"]
    ]
    parts = [
        markdown(["method", *(heading for heading, *_ in measures.values())], rows),
        "Last log of the training; drift is the change of the mean score since before the first step, on the training"
        " questions' own candidates. A margin that grows while both fall is bought by making right chains less likely"
        " too.",
        "\n".join(stopped),
    ]
    return "\n\n".join(part for part in parts if part)
