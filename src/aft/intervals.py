"""How sure a number is: intervals over questions, spread over seeds, paired differences.

Shares of right answers use Wilson's interval. Accuracies that are means of shares (one share for each question) use
the bootstrap over questions, with a fixed seed. Means without bounds (perplexity, scores) use the normal approximation,
mean ± 1.96 × standard error. Bootstrap and normal intervals are too narrow below about 30 values.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of the share `successes / n`, inside [0, 1]. An impossible count: `ValueError`."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson: expected 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    z = _z(confidence)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # rounding may leave 1e-17 where the formula gives exactly 0 or 1
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def mean_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, within: tuple[float, float] | None = None
) -> tuple[float | None, float | None]:
    """Interval of the mean of independent values (one per question), normal approximation.

    One value says nothing about its spread: `(None, None)`. No value: `ValueError`.
    `within`: the range that a mean can take, such as (0, 1) for accuracies; the interval is cut there.
    """
    mean, sd = mean_sd(values)
    return interval_from_sd(mean, sd, len(values), confidence, within)


def interval_from_sd(
    mean: float,
    sd: float | None,
    n: int,
    confidence: float = CONFIDENCE,
    within: tuple[float, float] | None = None,
) -> tuple[float | None, float | None]:
    """`mean_interval` where only the mean, the sample standard deviation and the count are known."""
    if sd is None or n < 2:
        return None, None
    half = _z(confidence) * sd / math.sqrt(n)
    low, high = mean - half, mean + half
    return (low, high) if within is None else (max(low, within[0]), min(high, within[1]))


def bootstrap_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of the mean: the values are drawn again, with replacement, `resamples` times.

    The same values in any order give the same interval. Fewer than two values, or one that is not finite:
    `(None, None)`. No value: `ValueError`.
    """
    if not values:
        raise ValueError("bootstrap_interval: expected at least one value, got none")
    _z(confidence)  # checks it
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None, None
    means = _resampled_means(np.sort(np.asarray(values, dtype=float)), resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(resamples,): the mean of as many values drawn with replacement."""
    distinct, counts = np.unique(values, return_counts=True)
    # where few values recur, how often each is drawn says all about a resample and is far less to draw
    few = 8 * len(distinct) <= len(values)
    means = np.empty(resamples)
    block = max(1, 2_000_000 // (len(distinct) if few else len(values)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if few:
            drawn = generator.multinomial(len(values), counts / len(values), size=size)
            means[start : start + size] = drawn @ distinct / len(values)
        else:
            means[start : start + size] = values[generator.integers(len(values), size=(size, len(values)))].mean(axis=1)
    return means


def accuracy_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """Interval of the mean of shares in [0, 1], one for each question: `bootstrap_interval`, or Wilson's at the ends.

    Where every value is 0, or every value is 1, resampling would show no spread at all: there Wilson's interval of
    none, or all, of the questions stands in. A single value: `(None, None)`.
    """
    if len(values) > 1 and all(value == values[0] for value in values) and values[0] in (0.0, 1.0):
        return wilson(round(sum(values)), len(values), confidence)
    return bootstrap_interval(values, confidence)


def macro_interval(
    counts: Sequence[tuple[int, int]],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of categories' shares, from each one's (successes, n).

    Questions are resampled within their category; the categories are fixed. One of a single question shows no spread.
    Where all successes are there, or none, Wilson's interval of all the questions. No category: `ValueError`.
    """
    if not counts:
        raise ValueError("macro_interval: expected at least one category, got none")
    successes, sizes = np.array(counts).T
    total = int(sizes.sum())
    if successes.sum() in (0, total):
        return wilson(int(successes.sum()), total, confidence)
    drawn = np.random.default_rng(seed).binomial(sizes, successes / sizes, size=(resamples, len(counts)))
    low, high = np.quantile((drawn / sizes).mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1). No value: `ValueError`.

    The deviation is None for one value, or if one is infinite (the perplexity of a collapsed model) or not a number.
    """
    if not values:
        raise ValueError("mean_sd: expected at least one value, got none")
    has_sd = len(values) > 1 and all(map(math.isfinite, values))
    # fmean and stdev sum exactly: equal values give a deviation of exactly 0
    return statistics.fmean(values), statistics.stdev(values) if has_sd else None


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
    differences = [float(a) - float(b_by_question[key]) for key, a in a_by_question.items() if key in b_by_question]
    mean, low, high, bootstrap_low, bootstrap_high = None, None, None, None, None
    if differences:
        mean = statistics.fmean(differences)
        low, high = mean_interval(differences, confidence)
        bootstrap_low, bootstrap_high = bootstrap_interval(differences, confidence)
    return PairedDifference(
        mean=mean,
        low=low,
        high=high,
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        n=len(differences),
        a_higher=sum(difference > 0 for difference in differences),
        b_higher=sum(difference < 0 for difference in differences),
        only_a=len(a_by_question) - len(differences),
        only_b=len(b_by_question) - len(differences),
    )


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, got {confidence}")
    return statistics.NormalDist().inv_cdf((1 + confidence) / 2)
