"""What a report says first: whether the run worked, and what to look at before its numbers are used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..stats.comparison import normal_estimate
from ..stats.estimate import Estimate
from .columns import columns, estimate
from .measures import FEW_UNPARSED, MEASURES, POINTS, SHARE
from .spread import number

Quote = Callable[[str], str]  # text from outside as the reader's medium shows it

MOST_WARNINGS = 3
BOTH_FELL = 0.5  # share of questions; above it a method mostly makes right chains less likely too
FEW_PAIRS = 0.2  # share of questions with a right and a wrong chain; alignment has little to rank below it
FEW_QUESTIONS = 30  # on which assessment accuracy says little
WIDE = 5.0  # percentage points from a difference to the end of its interval


def verdict(report: Mapping[str, Any], quote: Quote) -> str:
    """Two sentences: whether the best method with an alignment loss is told apart from VFT, and the best model.

    RFT and more of VFT have no such loss. They can be the best model, and make no run a success.
    """
    accuracy = MEASURES["task_accuracy"]
    known = [model for model in report["models"] if model[accuracy.name] and model[accuracy.name].mean is not None]
    if not known:
        return "Nothing was measured: no model has answered test questions."
    if all(model[accuracy.name].mean == 0 for model in known):
        asked = max(found.n for model in known for found in model[accuracy.name].by_seed.values())
        return f"No model answers a test question, of {asked:,} a seed: nothing can be compared."
    best = max(known, key=lambda model: model[accuracy.name].mean)
    share = number(best[accuracy.name], SHARE, brief=True)
    answered = f"The best model, {quote(best['name'])}, answers {share} % of the questions."
    compared = _differences(known)
    losses = report.get("with_loss") or list(report.get("displacement") or ())  # earlier reports lack the former
    compared = {name: found for name, found in compared.items() if not losses or name in losses}
    if not compared:
        return answered
    name, found = max(compared.items(), key=lambda pair: pair[1].mean or 0.0)
    name, points = quote(name), f"({number(found, POINTS, brief=True)} points)"
    if found.low is None or found.high is None:
        told = f"The best method is {name}; its difference from VFT has no interval {points}."
    elif found.low > 0:
        told = f"It worked: {name} is above VFT {points}."
    elif found.high < 0:
        told = f"It did not work: every alignment loss ends below VFT, {name} the least {points}."
    else:
        told = f"No gain over VFT was shown: the interval of the best method, {name}, holds 0 {points}."
    return f"{told} {answered}"


def warnings(report: Mapping[str, Any], quote: Quote) -> list[str]:
    """At most three lines on what makes the numbers doubtful, the gravest first, each with what to do."""
    return list(_warnings(report, quote))[:MOST_WARNINGS]


def _warnings(report: Mapping[str, Any], quote: Quote) -> Iterator[str]:
    unfinished = [quote(model["name"]) for model in report["models"] if model["missing_seeds"]]
    if unfinished:
        yield f"Not evaluated on every seed: {', '.join(unfinished)}. `aft-train` with the same file goes on."
    for line in report["missing"]:
        if ": outdated for seed" in line:
            yield f"{quote(line)}. `aft-train` with the same file evaluates it again."
    yield from _unparsed(report, quote)
    yield from _below(report, quote)
    yield from _fallen(report, quote)
    yield from _few_pairs(report)
    yield from _uncertain(report)


def _unparsed(report: Mapping[str, Any], quote: Quote) -> Iterator[str]:
    for name, flaw, mend in (
        ("parsed", "have no final answer and count as wrong", "Train for more steps, or check data.answer_marker"),
        ("ended", "were cut by the length limit", "Raise evaluate.max_new_tokens"),
    ):
        shares = {}
        for model in report["models"]:
            found = estimate(model, MEASURES[name])
            if found is not None and found.mean is not None and model["name"] != "base":
                shares[model["name"]] = 1 - found.mean
        worst = max(shares, key=lambda one: shares[one], default="")
        if shares and shares[worst] > FEW_UNPARSED:
            yield f"{_percent(shares[worst])} of the answers of {quote(worst)} {flaw}. {mend}."


def _differences(models: Iterable[Mapping[str, Any]]) -> dict[str, Estimate]:
    """The difference from VFT of each method that has one; the base model is no method."""
    found = {model["name"]: normal_estimate(model["vs_vft"]) for model in models if model["vs_vft"]}
    return {name: one for name, one in found.items() if name != "base" and one.mean is not None}


def _below(report: Mapping[str, Any], quote: Quote) -> Iterator[str]:
    found = _differences(report["models"])
    below = {name: one for name, one in found.items() if one.high is not None and one.high < 0}
    if below:
        worst = min(below, key=lambda name: below[name].mean or 0.0)
        more = f", and {len(below) - 1} more methods are" if len(below) > 1 else ""
        yield (
            f"{quote(worst)} is below VFT ({number(below[worst], POINTS, brief=True)} points){more}."
            " Try a lower learning rate, or a constraint."
        )


def _fallen(report: Mapping[str, Any], quote: Quote) -> Iterator[str]:
    for name, by_seed in (report.get("displacement") or {}).items():
        stopped = [entry["stopped"] for entry in by_seed.values() if entry["stopped"]]
        if stopped:
            yield f"{quote(name)} was stopped: {quote(stopped[0])}."
            continue
        shares = [entry["both_fell"] for entry in by_seed.values() if entry.get("both_fell") is not None]
        share = sum(shares) / len(shares) if shares else 0.0
        if share > BOTH_FELL:
            yield (
                f"{quote(name)} made right chains less likely too, on {_percent(share)} of its questions."
                " Read its assessment accuracy with that in mind."
            )


def _few_pairs(report: Mapping[str, Any]) -> Iterator[str]:
    counts = [found for found in report["labelled"].values() if found and found.get("questions")]
    asked = sum(found["questions"] for found in counts)
    paired = sum(found.get("groups_with_pair") or 0 for found in counts)
    if asked and paired / asked < FEW_PAIRS:
        yield (
            f"Only {_percent(paired / asked)} of the sampled questions have a right and a wrong chain to rank."
            " Raise sample.num_samples, or sample from a better model."
        )


def _uncertain(report: Mapping[str, Any]) -> Iterator[str]:
    found = _differences(report["models"]).values()
    widths = [50 * (one.high - one.low) for one in found if one.low is not None and one.high is not None]
    if widths and max(widths) > WIDE:
        yield (
            f"Differences from VFT are known to about ±{max(widths):.0f} points."
            " Evaluate more questions (evaluate.num_questions) or seeds."
        )
    if len(report["seeds"]) == 1:
        yield "One seed says nothing about how results move from seed to seed. Set seeds: [0, 1, 2]."
    for measure in columns(report):
        if measure.name.endswith("assessment_accuracy"):
            known = [model[measure.name] for model in report["models"] if model[measure.name]]
            sizes = [one.n for over_seeds in known for one in over_seeds.by_seed.values()]
            if sizes and min(sizes) < FEW_QUESTIONS:
                few = f"only {min(sizes):,} question{'s' if min(sizes) > 1 else ''}"
                yield f"The {measure.bare_heading} rests on {few}. More samples make it firmer."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
