"""Welch's interval, against tables of Student's t."""

from __future__ import annotations

import math

import pytest

from aft.stats.intervals import welch_interval


@pytest.mark.parametrize(
    ("a", "degrees", "t"),
    [([0.0, 1.0], 2, 4.302653), ([0.0, 1.0, 2.0], 4, 2.776445), ([float(i) for i in range(16)], 30, 2.042272)],
)
def test_groups_of_one_spread_have_students_interval(a, degrees, t):
    low, high = welch_interval([value + 5 for value in a], a)
    mean = sum(a) / len(a)
    variance = sum((value - mean) ** 2 for value in a) / (len(a) - 1)
    assert degrees == 2 * (len(a) - 1)
    assert (high - low) / 2 == pytest.approx(t * math.sqrt(2 * variance / len(a)), rel=1e-6)
    assert (high + low) / 2 == pytest.approx(5)


def test_a_group_that_does_not_vary_leaves_the_freedom_of_the_other():
    low, high = welch_interval([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (high - low) / 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert welch_interval([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5)
    assert welch_interval([1.0], [0.5, 0.5]) == (None, None)
