"""A grid over learning rates: names, the best of each method, ties, and what was not measured."""

from __future__ import annotations

import pytest

from aft.errors import AftError
from aft.paper.grid import accuracies, at_rate, at_rates, best_rates

METHODS = {"aft": {"loss": {"name": "alignment"}, "training": {"max_steps": 5}}, "rft": None}


def test_every_method_gets_every_rate_and_keeps_its_own_keys():
    grid = at_rates(METHODS, [3e-5, 1e-3])
    assert list(grid) == ["aft-lr3e-05", "aft-lr0.001", "rft-lr3e-05", "rft-lr0.001"]
    assert grid["aft-lr3e-05"] == {
        "loss": {"name": "alignment"},
        "training": {"max_steps": 5, "learning_rate": 3e-5},
    }
    assert grid["rft-lr0.001"] == at_rate(None, 1e-3) == {"training": {"learning_rate": 1e-3}}
    assert METHODS["aft"]["training"] == {"max_steps": 5}


def test_the_best_rate_is_the_lowest_of_equals():
    found = {
        "models": [
            {"name": n, "task_accuracy": {"mean": m}}
            for n, m in {"aft-lr3e-05": 0.7, "aft-lr0.001": 0.9, "rft-lr3e-05": 0.8, "rft-lr0.001": 0.8}.items()
        ]
    }
    assert best_rates(found, ["aft", "rft"], [3e-5, 1e-3]) == {"aft": 1e-3, "rft": 3e-5}
    assert accuracies(found, ["aft"], [3e-5, 1e-3])["aft"][1e-3]["mean"] == 0.9


def test_a_method_without_any_figure_is_named():
    found = {"models": [{"name": "aft-lr0.001", "task_accuracy": None}]}
    with pytest.raises(AftError, match=r"aft: no accuracy at any of the learning rates 0\.001"):
        best_rates(found, ["aft"], [1e-3])
