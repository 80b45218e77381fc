"""How sure a number is: intervals over questions, spread over seeds. Standard library only; see also `bootstrap`.

Shares of right answers use Wilson's interval. Differences use the normal approximation, mean ± 1.96 × standard error.
Means of values of one sign (perplexity, scores) use it on the log scale, so that no bound has the other sign. The
normal approximation is too narrow below about 30 values. Few values of two groups, such as seeds, use Welch's interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95


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


def one_sided_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """`one_sided_interval_from_sd` of independent values. No value: `ValueError`."""
    mean, sd = mean_sd(values)
    return one_sided_interval_from_sd(mean, sd, len(values), confidence)


def one_sided_interval_from_sd(
    mean: float, sd: float | None, n: int, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Interval of the mean of values of one sign, such as perplexities, normal approximation on the log scale.

    The bounds are the mean divided and multiplied by exp(z × standard error / |mean|), the first order of an interval
    of the mean's logarithm. A mean of 0 has values of 0 alone, so it is both bounds. `(None, None)`: one value, or a
    bound that a float cannot hold.
    """
    if sd is None or n < 2 or not math.isfinite(mean):
        return None, None
    factor = math.exp(_z(confidence) * sd / math.sqrt(n) / abs(mean)) if mean else 1.0
    low, high = sorted((mean / factor, mean * factor))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def welch_interval(
    a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Welch's t interval of mean(a) − mean(b), of two groups of independent values whose spreads may differ.

    Where neither group varies, both bounds are the difference. A group of fewer than two values, or one that is not
    finite: `(None, None)`. An empty group: `ValueError`.
    """
    (mean_a, sd_a), (mean_b, sd_b) = mean_sd(a), mean_sd(b)
    if sd_a is None or sd_b is None:
        return None, None
    of_a, of_b = sd_a**2 / len(a), sd_b**2 / len(b)
    half = 0.0
    if of_a + of_b > 0:
        degrees = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
        half = _t(confidence, degrees) * math.sqrt(of_a + of_b)
    return mean_a - mean_b - half, mean_a - mean_b + half


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1). No value: `ValueError`.

    The deviation is None for one value, or if one is infinite (the perplexity of a collapsed model) or not a number.
    Python 3.10 has None, too, if the variance is no float.
    """
    if not values:
        raise ValueError("mean_sd: expected at least one value, got none")
    has_sd = len(values) > 1 and all(map(math.isfinite, values))
    mean = statistics.fmean(values)
    try:
        # fmean and stdev sum exactly: equal values give a deviation of exactly 0
        return mean, statistics.stdev(values) if has_sd else None
    except OverflowError:  # Python 3.10 computes the variance first
        return mean, None


def _t(confidence: float, degrees: float) -> float:
    """The t below which Student's |t| lies with this probability, for 1 degree of freedom or more."""
    # with t = √degrees · tan θ, the density over θ is proportional to cos(θ) to the power degrees − 1
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)) / 2

    def probability(angle: float) -> float:
        step = angle / 200  # Simpson's rule
        heights = [math.cos(step * at) ** (degrees - 1) for at in range(201)]
        return step / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])) / whole

    _z(confidence)  # checks it
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, got {confidence}")
    return statistics.NormalDist().inv_cdf((1 + confidence) / 2)
