"""Intervals and paired differences against arithmetic typed from their definitions."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.intervals import (
    accuracy_interval,
    bootstrap_interval,
    macro_interval,
    mean_interval,
    mean_sd,
    paired_difference,
    wilson,
)

Z = 1.959963984540054


def test_wilson_is_the_printed_formula():
    # 8 of 10: centre (0.8 + z²/20) / (1 + z²/10), half width z √(0.8·0.2/10 + z²/400) / (1 + z²/10)
    scale = 1 + Z**2 / 10
    centre, half = (0.8 + Z**2 / 20) / scale, Z * math.sqrt(0.016 + Z**2 / 400) / scale
    assert wilson(8, 10) == pytest.approx((centre - half, centre + half))
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize(("successes", "expected"), [(0, (0.0, 0.2775)), (10, (0.7225, 1.0))])
def test_wilson_at_the_ends_stays_inside_and_keeps_a_width(successes, expected):
    # at the ends the width is z² / (n + z²) = 3.8415 / 13.8415
    low, high = wilson(successes, 10)
    assert (low, high) == pytest.approx(expected, abs=1e-4)
    assert low == 0.0 or high == 1.0


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_mirrors(pair, confidence):
    successes, n = pair
    low, high = wilson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson(n - successes, n, confidence)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"successes={successes}, n={n}"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)


def test_mean_sd():
    assert mean_sd([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, math.sqrt((4 + 1 + 0 + 9) / 3)))
    assert mean_sd([0.7]) == (0.7, None)
    assert mean_sd([0.1, 0.1, 0.1]) == (pytest.approx(0.1), 0.0)
    assert mean_sd([math.inf, 1.0]) == (math.inf, None)
    with pytest.raises(ValueError, match="at least one"):
        mean_sd([])


def test_mean_interval():
    half = Z * math.sqrt(14 / 3) / math.sqrt(4)
    assert mean_interval([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3 - half, 3 + half))
    assert mean_interval([0.5]) == (None, None)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_mean_interval_is_cut_at_the_possible_range():
    values = [1.0] * 19 + [0.0]
    low, high = mean_interval(values)
    assert high > 1
    assert mean_interval(values, within=(0.0, 1.0)) == (low, 1.0)


def test_mean_interval_covers_the_mean_about_as_often_as_it_says():
    generator = random.Random(0)
    covered = 0
    for _ in range(1000):
        low, high = mean_interval([generator.expovariate(1.0) for _ in range(100)])
        covered += low <= 1.0 <= high
    assert 0.92 <= covered / 1000 <= 0.97


# ---- bootstrap ----


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


# ---- paired differences ----


def test_paired_bootstrap_resamples_the_differences():
    generator = random.Random(6)
    a = {str(i): generator.random() < 0.7 for i in range(300)}
    b = {key: value if generator.random() < 0.8 else not value for key, value in a.items()}
    result = paired_difference(a, b)
    differences = [float(a[key]) - float(b[key]) for key in a]
    assert (result.bootstrap_low, result.bootstrap_high) == bootstrap_interval(differences)
    assert (result.bootstrap_low, result.bootstrap_high) == pytest.approx((result.low, result.high), abs=0.01)


def test_paired_difference_by_hand():
    a = {"1": True, "2": True, "3": False, "4": True, "only a": True}
    b = {"4": True, "3": True, "2": False, "1": False, "only b": False, "also only b": True}
    result = paired_difference(a, b)
    # differences 1, 1, −1, 0: mean 0.25, sample variance (0.5625 · 2 + 1.5625 + 0.0625) / 3
    half = Z * math.sqrt(2.75 / 3) / 2
    assert (result.mean, result.low, result.high) == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    assert (result.n, result.a_higher, result.b_higher, result.only_a, result.only_b) == (4, 2, 1, 1, 2)


def test_paired_difference_without_enough_common_questions():
    nothing = paired_difference({"x": 1.0}, {"y": 0.0})
    assert (nothing.mean, nothing.low, nothing.high, nothing.n) == (None, None, None, 0)
    assert (nothing.only_a, nothing.only_b) == (1, 1)
    one = paired_difference({"x": 1.0}, {"x": 0.0})
    assert (one.mean, one.low, one.high, one.n) == (1.0, None, None, 1)
    assert (one.bootstrap_low, one.bootstrap_high) == (None, None)


def test_pairing_is_tighter_than_two_separate_intervals():
    generator = random.Random(1)
    hard = {str(i): generator.random() < 0.5 for i in range(400)}
    better = {key: value or generator.random() < 0.05 for key, value in hard.items()}
    paired = paired_difference(better, hard)
    assert paired.low > 0
    assert wilson(sum(hard.values()), 400)[1] > wilson(sum(better.values()), 400)[0]
