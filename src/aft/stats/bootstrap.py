"""Bootstrap intervals over questions, for accuracies that are means of shares and for paired differences.

Questions are drawn again with replacement, with a fixed seed: the same values give the same interval. Percentile
intervals are too narrow below about 30 values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .intervals import CONFIDENCE, wilson

RESAMPLES = 10_000
SEED = 0


def bootstrap_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of the mean: the values are drawn again, with replacement, `resamples` times.

    The same values in any order give the same interval. Fewer than two values, or one that is not finite:
    `(None, None)`. No value: `ValueError`.
    """
    if not values:
        raise ValueError("bootstrap_interval: expected at least one value, got none")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, got {confidence}")
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None, None
    means = _resampled_means(np.sort(np.asarray(values, dtype=float)), resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(resamples,): the mean of as many values drawn with replacement."""
    distinct, counts = np.unique(values, return_counts=True)
    # with few distinct values, drawing how often each occurs is the same and much faster
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


def ratio_interval(
    over: Sequence[float],
    under: Sequence[float],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of sum(over) / sum(under): pairs are drawn again, with replacement.

    The same pairs in any order give the same interval. Draws whose `under` sums to 0 are left out. Fewer than two
    pairs: `(None, None)`. Lengths that differ: `ValueError`.
    """
    pairs, counts = np.unique(np.array(list(zip(over, under, strict=True))), axis=0, return_counts=True)
    total = int(counts.sum())
    if total < 2:
        return None, None
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples) @ pairs
    kept = drawn[drawn[:, 1] != 0]
    low, high = np.quantile(kept[:, 0] / kept[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


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
    seed: int = SEED,
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
