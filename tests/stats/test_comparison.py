"""Paired differences between two models, for one seed and over seeds, against arithmetic."""

from __future__ import annotations

import math
import random

import pytest

from aft.stats.bootstrap import bootstrap_interval
from aft.stats.comparison import differences, paired_by_seed, paired_difference, share_removed
from aft.stats.intervals import wilson

Z = 1.959963984540054


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


def test_a_difference_pairs_questions_and_pools_seeds():
    a = {0: {"x": 1.0, "y": 1.0, "only a": 1.0}, 1: {"x": 0.0}, 2: {"x": 1.0}}
    b = {0: {"x": 0.0, "y": 1.0}, 1: {"x": 1.0}}
    found = paired_by_seed(a, b)
    # x: mean over the seeds 1/2 against 1/2; y: 1 against 1
    assert (found["mean"], found["n"], found["a_higher"], found["b_higher"]) == (0.0, 2, 1, 1)
    assert (found["unmatched"], found["unpaired_seeds"]) == (1, [2])
    assert paired_by_seed({0: {"x": 1.0}}, {1: {"x": 1.0}}) is None
    assert paired_by_seed({0: {"x": 1.0}}, {0: {"y": 1.0}}) is None


def test_share_of_errors_removed():
    vft = {0: {"a": 0.0, "b": 0.0, "c": 1.0, "only": 0.0}, 1: {"a": 0.0, "b": 1.0, "c": 1.0}}
    better = {0: {"a": 1.0, "b": 0.0, "c": 1.0}, 1: {"a": 1.0, "b": 1.0, "c": 0.0}, 2: {"a": 1.0}}
    # two errors fewer, one more, of three
    found = share_removed(better, vft)
    assert found.mean == pytest.approx(1 / 3) and found.n == 3
    assert found.low is found.high is None  # from two questions with an error
    assert share_removed(vft, {0: {"a": 1.0}}) is None  # no error to remove
    assert share_removed(vft, {}) is None


def test_an_interval_of_errors_removed_needs_errors_and_draws_that_differ():
    vft = {0: {f"q{i}": float(i >= 30) for i in range(60)}}
    some = {0: {f"q{i}": float(i >= 10) for i in range(60)}}
    found = share_removed(some, vft)
    assert found.mean == pytest.approx(2 / 3) and found.low < found.mean < found.high
    every = share_removed({0: dict.fromkeys(vft[0], 1.0)}, vft)
    assert (every.mean, every.low, every.high) == (1.0, None, None)
    fewer = {0: {**vft[0], "q0": 1.0}}  # 29 errors
    assert share_removed(some, fewer).low is None


def test_differences_by_seed_and_question():
    assert differences({0: {"a": 1.0, "b": 1.0}, 1: {"a": 1.0}}, {0: {"a": 0.5}, 2: {"a": 1.0}}) == {0: {"a": 0.5}}
