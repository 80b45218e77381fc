"""Means with their uncertainty: over seeds, and through the JSON of metrics.json and report.json."""

from __future__ import annotations

import json
import math

import pytest

from aft.stats.estimate import Estimate, to_json

ONE = Estimate(0.5, low=0.25, high=0.75, n=4, beside={"correct": 2})
OTHER = Estimate(0.75, low=0.5, high=1.0, n=4, beside={"correct": 3})


def test_over_seeds_by_hand():
    found = Estimate.over_seeds({0: ONE, 1: OTHER})
    # deviations of 0.125 on both sides: sd √((0.125² + 0.125²) / 1)
    assert (found.mean, found.low, found.high, found.n) == (0.625, None, None, None)
    assert found.sd == pytest.approx(math.sqrt(2) / 8)
    assert found.by_seed == {0: ONE, 1: OTHER}
    assert Estimate.over_seeds({}) is None


def test_a_single_value_keeps_its_interval():
    alone = Estimate.over_seeds({3: ONE})
    assert (alone.mean, alone.sd, alone.low, alone.high) == (0.5, None, 0.25, 0.75)
    # two seeds may happen to agree, but one checkpoint has no choice
    assert Estimate.over_seeds({0: ONE, 1: ONE}).sd == 0.0
    shared = Estimate.over_seeds({0: ONE, 1: ONE}, one_checkpoint=True)
    assert (shared.mean, shared.sd, shared.low) == (0.5, None, 0.25)


def test_an_infinite_seed_makes_the_mean_infinite_and_an_unmeasured_one_does_not():
    infinite = Estimate(None, n=9, beside={"infinite": 2})
    found = Estimate.over_seeds({0: ONE, 1: infinite})
    assert (found.mean, found.sd, found.infinite, found.is_measured) == (None, None, 2, True)
    unknown = Estimate(None, n=0)
    found = Estimate.over_seeds({0: ONE, 1: unknown})
    assert (found.mean, found.low, found.infinite) == (0.5, 0.25, 0)
    assert not Estimate.over_seeds({1: unknown}).is_measured


def test_json_of_one_evaluation_and_over_seeds():
    assert ONE.to_json() == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4, "correct": 2}
    found = Estimate.over_seeds({0: ONE, 1: Estimate(None, n=9, beside={"infinite": 2})})
    assert found.to_json() == {
        "mean": None,
        "sd": None,
        "low": None,
        "high": None,
        "infinite": 2,
        "by_seed": {"0": ONE.to_json(), "1": {"value": None, "low": None, "high": None, "n": 9, "infinite": 2}},
    }
    assert Estimate(-0.25).to_json() == {"value": -0.25}  # logged, not evaluated


@pytest.mark.parametrize(
    "estimate",
    [ONE, Estimate(-0.25), Estimate.over_seeds({0: ONE, 2: OTHER}), Estimate.over_seeds({0: ONE}, one_checkpoint=True)],
)
def test_json_is_read_back(estimate):
    assert Estimate.from_json(json.loads(json.dumps(estimate.to_json()))) == estimate


def test_estimates_inside_other_values_become_json():
    nested = {"a": {"b": ONE}, "c": [OTHER, None], "d": (1, "text")}
    assert to_json(nested) == {"a": {"b": ONE.to_json()}, "c": [OTHER.to_json(), None], "d": [1, "text"]}
