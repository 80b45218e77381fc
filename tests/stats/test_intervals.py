"""Intervals against arithmetic typed from their definitions."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.stats.intervals import mean_interval, mean_sd, one_sided_interval, one_sided_interval_from_sd, wilson

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


def test_an_interval_of_values_of_one_sign_keeps_the_sign():
    mean, sd = 12.996, 15.8675 / Z * 10  # where mean ± 1.96 standard errors is [−2.871, 28.864]
    low, high = one_sided_interval_from_sd(mean, sd, 100)
    ratio = math.exp(15.8675 / 12.996)
    assert (low, high) == pytest.approx((mean / ratio, mean * ratio)) and low > 0
    assert one_sided_interval_from_sd(-mean, sd, 100) == pytest.approx((-high, -low))
    narrow = one_sided_interval([2.0, 2.001, 2.002])
    assert narrow == pytest.approx(mean_interval([2.0, 2.001, 2.002]), abs=1e-6)
    assert one_sided_interval([0.0, 0.0]) == (0.0, 0.0) and one_sided_interval([3.0, 3.0]) == (3.0, 3.0)
    assert one_sided_interval([3.0]) == one_sided_interval([1.0, math.inf]) == (None, None)
    assert one_sided_interval([1e308, 1e300]) == (None, None), "the upper bound is no float"
    with pytest.raises(ValueError, match="at least one"):
        one_sided_interval([])


@pytest.mark.parametrize("interval", [mean_interval, one_sided_interval])
def test_mean_interval_covers_the_mean_about_as_often_as_it_says(interval):
    generator = random.Random(0)
    covered = 0
    for _ in range(1000):
        low, high = interval([generator.expovariate(1.0) for _ in range(100)])
        covered += low <= 1.0 <= high
    assert 0.92 <= covered / 1000 <= 0.97
