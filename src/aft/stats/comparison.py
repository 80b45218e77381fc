"""Two models on the same questions: paired differences per seed, and over all seeds at once."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from .bootstrap import bootstrap_interval, ratio_interval
from .estimate import Estimate
from .intervals import CONFIDENCE, mean_interval, mean_sd

FEWEST_ERRORS = 30  # questions with an error, for an interval of the share of errors removed
BySeed = Mapping[int, Mapping[str, float]]  # seed -> question -> value


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Mean of a − b over the `n` questions that both have. `mean` is None without one, the intervals below two.

    `low` and `high`: normal approximation; `bootstrap_low` and `bootstrap_high`: questions resampled in pairs.
    `a_higher`, `b_higher`: questions on which one side is strictly higher. `only_a`, `only_b`: unmatched, left out.
    """

    mean: float | None
    low: float | None
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    n: int
    a_higher: int
    b_higher: int
    only_a: int
    only_b: int


def paired_difference(
    a_by_question: Mapping[str, float], b_by_question: Mapping[str, float], confidence: float = CONFIDENCE
) -> PairedDifference:
    """Mean difference a − b over common questions with two intervals over questions: normal and paired bootstrap.

    Pairing removes what is common to both: how hard each question is. Values may be booleans.
    """
    found = [float(a) - float(b_by_question[key]) for key, a in a_by_question.items() if key in b_by_question]
    mean, low, high, bootstrap_low, bootstrap_high = None, None, None, None, None
    if found:
        mean = fmean(found)
        low, high = mean_interval(found, confidence)
        bootstrap_low, bootstrap_high = bootstrap_interval(found, confidence)
    return PairedDifference(
        mean=mean,
        low=low,
        high=high,
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        n=len(found),
        a_higher=sum(difference > 0 for difference in found),
        b_higher=sum(difference < 0 for difference in found),
        only_a=len(a_by_question) - len(found),
        only_b=len(b_by_question) - len(found),
    )


def paired_by_seed(a: BySeed, b: BySeed) -> dict[str, Any] | None:
    """Mean of a − b, per seed and pooled; None where no seed has a question that both models answered.

    Pooled: a question's value is its mean over the seeds that asked it of both models, so that seeds of the same
    question do not count as independent questions. The intervals hold the seeds fixed. `a_higher`, `b_higher`: answers
    of all seeds in which one side is strictly higher; `unmatched`: those that only one side has.
    """
    seeds = sorted(a.keys() & b.keys())
    by_seed = {seed: paired_difference(a[seed], b[seed]) for seed in seeds}
    means = [found.mean for found in by_seed.values() if found.mean is not None]
    if not means:
        return None
    values: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        for question in a[seed].keys() & b[seed].keys():
            values.setdefault(question, []).append((a[seed][question], b[seed][question]))
    pooled = paired_difference(
        {question: fmean(pair[0] for pair in pairs) for question, pairs in values.items()},
        {question: fmean(pair[1] for pair in pairs) for question, pairs in values.items()},
    )
    return {
        "mean": pooled.mean,
        "low": pooled.low,
        "high": pooled.high,
        "bootstrap_low": pooled.bootstrap_low,
        "bootstrap_high": pooled.bootstrap_high,
        "n": pooled.n,
        "sd_over_seeds": mean_sd(means)[1],
        "a_higher": sum(found.a_higher for found in by_seed.values()),
        "b_higher": sum(found.b_higher for found in by_seed.values()),
        "unmatched": sum(found.only_a + found.only_b for found in by_seed.values()),
        "unpaired_seeds": sorted(a.keys() ^ b.keys()),
        "by_seed": {str(seed): dataclasses.asdict(found) for seed, found in by_seed.items()},
    }


def differences(a: BySeed, b: BySeed) -> BySeed:
    """a − b for every seed and question that both have."""
    return {
        seed: {question: a[seed][question] - b[seed][question] for question in a[seed].keys() & b[seed].keys()}
        for seed in sorted(a.keys() & b.keys())
    }


def share_removed(a: BySeed, b: BySeed) -> Estimate | None:
    """The share of b's errors that a removes: (a − b) / (1 − b), for values between 0 and 1.

    Its interval resamples questions, which keep their values of all seeds; the seeds are held fixed. There is none
    where b errs on fewer than 30 questions, or where every draw gives the same share: such an interval says nothing.
    None where b makes no error, or no question is common.
    """
    gained: dict[str, list[float]] = {}
    missed: dict[str, list[float]] = {}
    for seed, by_question in differences(a, b).items():
        for question, difference in by_question.items():
            gained.setdefault(question, []).append(difference)
            missed.setdefault(question, []).append(1 - b[seed][question])
    errors = [fmean(values) for values in missed.values()]
    if not any(errors):
        return None
    gains = [fmean(values) for values in gained.values()]
    low, high = ratio_interval(gains, errors)
    if sum(error > 0 for error in errors) < FEWEST_ERRORS or (
        low is not None and math.isclose(low, high or 0.0, abs_tol=1e-12)
    ):
        low, high = None, None
    return Estimate(fmean(gains) / fmean(errors), low=low, high=high, n=len(gains))


def normal_estimate(found: Mapping[str, Any]) -> Estimate:
    """The mean of a record of `paired_by_seed` with its normal interval."""
    return Estimate(found["mean"], low=found["low"], high=found["high"], n=found["n"])


def bootstrap_estimate(found: Mapping[str, Any]) -> Estimate:
    """The same mean with its bootstrap interval."""
    return Estimate(found["mean"], low=found["bootstrap_low"], high=found["bootstrap_high"], n=found["n"])


def every_pair(names: Sequence[str], values: Mapping[str, Mapping[str, BySeed]]) -> list[dict[str, Any]]:
    """For every two models, {"a", "b", measure: `paired_by_seed` or None}: the later of the two minus the earlier.

    `values` are by measure, then by model. Pairs that share no value at all are left out.
    """
    pairs = []
    for earlier, later in itertools.combinations(names, 2):
        found = {measure: paired_by_seed(by_model[later], by_model[earlier]) for measure, by_model in values.items()}
        if any(value is not None for value in found.values()):
            pairs.append({"a": later, "b": earlier, **found})
    return pairs
