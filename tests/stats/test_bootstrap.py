"""Bootstrap intervals against all resamples, against other intervals and against how often they cover."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from aft.stats.bootstrap import accuracy_interval, bootstrap_interval, macro_interval, ratio_interval
from aft.stats.intervals import mean_interval, wilson

Z = 1.959963984540054


def all_resamples(values):
    """Means of every possible resample: what the bootstrap draws from."""
    return sorted(sum(drawn) / len(values) for drawn in itertools.product(values, repeat=len(values)))


def test_bootstrap_interval_is_the_quantile_of_all_resamples():
    values = [0.0, 0.2, 0.3, 0.7, 1.0, 1.0]
    means = all_resamples(values)
    low, high = bootstrap_interval(values, resamples=200_000)
    # 6^6 = 46,656 resamples; the quantile sits at the same place among them up to a step between two means
    assert low == pytest.approx(means[round(0.025 * len(means))], abs=0.02)
    assert high == pytest.approx(means[round(0.975 * len(means))], abs=0.02)


def test_few_and_many_distinct_values_are_resampled_alike():
    generator = random.Random(8)
    few = [generator.choice((0.0, 0.5, 1.0)) for _ in range(400)]
    many = [value + 1e-9 * i for i, value in enumerate(few)]
    assert bootstrap_interval(few) == pytest.approx(bootstrap_interval(many), abs=0.003)


def test_bootstrap_interval_repeats_and_forgets_order():
    generator = random.Random(3)
    values = [generator.random() for _ in range(50)]
    assert bootstrap_interval(values) == bootstrap_interval(sorted(values))
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_bootstrap_interval_is_near_the_normal_one_for_many_values():
    generator = random.Random(4)
    values = [generator.random() < 0.3 for _ in range(1000)]
    assert bootstrap_interval(values) == pytest.approx(mean_interval(values), abs=0.003)
    assert bootstrap_interval(values) == pytest.approx(wilson(sum(values), 1000), abs=0.005)


def test_bootstrap_interval_without_spread_or_values():
    assert bootstrap_interval([0.5]) == (None, None)
    assert bootstrap_interval([1.0, math.inf]) == (None, None)
    assert bootstrap_interval([0.25] * 9) == (0.25, 0.25)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_accuracy_interval_keeps_a_width_at_the_ends():
    assert accuracy_interval([1.0] * 10) == wilson(10, 10)
    assert accuracy_interval([0.0] * 10) == wilson(0, 10)
    values = [1.0] * 9 + [0.5]
    assert accuracy_interval(values) == bootstrap_interval(values)
    assert accuracy_interval([1.0]) == (None, None)


def test_accuracy_interval_covers_the_mean_about_as_often_as_it_says():
    generator = random.Random(5)
    covered = 0
    for _ in range(300):
        low, high = accuracy_interval([generator.choice((0.0, 0.5, 1.0)) for _ in range(80)])
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_macro_interval_weighs_categories_alike():
    # standard error of the mean of two shares: √(0.5·0.5/400 + 0.9·0.1/100) / 2
    low, high = macro_interval([(200, 400), (90, 100)])
    half = Z * math.sqrt(0.25 / 400 + 0.09 / 100) / 2
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.004)
    assert macro_interval([(3, 3), (5, 5)]) == wilson(8, 8)
    assert macro_interval([(0, 3), (0, 5)]) == wilson(0, 8)
    with pytest.raises(ValueError, match="at least one"):
        macro_interval([])


def test_a_ratio_is_resampled_in_pairs():
    over, under = [0.5, 0.0, 1.0, -0.25] * 25, [1.0, 0.5, 1.0, 0.0] * 25
    low, high = ratio_interval(over, under)
    assert low < sum(over) / sum(under) < high and high - low < 0.2
    order = np.random.default_rng(0).permutation(100)
    assert ratio_interval([over[i] for i in order], [under[i] for i in order]) == (low, high)
    # by the delta method
    ratio, mean = sum(over) / sum(under), sum(under) / 100
    sd = np.std([a - ratio * b for a, b in zip(over, under, strict=True)]) / mean / 10
    assert (high - low) / 2 == pytest.approx(1.96 * sd, rel=0.05)
    # pairs whose ratio is the same leave no doubt
    assert ratio_interval([1.0, 0.0, 0.5], [2.0, 0.0, 1.0]) == (0.5, 0.5)
    assert ratio_interval([1.0], [2.0]) == (None, None)
    with pytest.raises(ValueError):
        ratio_interval([1.0, 2.0], [2.0])
