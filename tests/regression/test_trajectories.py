"""A change that should move no number moves none: twenty recorded steps of each method come out again."""

from __future__ import annotations

import json

import pytest

from regression.record import KEYS, METHODS, RECORDED, trajectories

# Processors add in different orders. With the kernels of three instruction sets (torch's portable ones, AVX2, AVX-512)
# the largest differences were 2e-6 in a score and 2e-5, absolute and relative, in a gradient norm.
ABSOLUTE, RELATIVE = 5e-5, 2e-4


def test_trajectories_are_as_recorded(tmp_path):
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["trajectories"]
    assert list(recorded) == ["vft", *METHODS]
    found = trajectories(tmp_path)
    for name, expected in recorded.items():
        assert len(expected["steps"]) == 20
        for step, (now, then) in enumerate(zip(found[name]["steps"], expected["steps"], strict=True), start=1):
            assert now.keys() == then.keys(), f"{name}, step {step}"
            for key, value in then.items():
                assert now[key] == pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE), f"{name}, step {step}, {key}"
        for now, then in zip(found[name]["scores"], expected["scores"], strict=True):
            assert now == pytest.approx(then, rel=RELATIVE, abs=ABSOLUTE), name


def test_the_recording_holds_what_it_should():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["trajectories"]
    for name in METHODS[1:]:
        assert {"loss", "grad_norm", "scores/positive", "scores/negative"} <= recorded[name]["steps"][0].keys()
    assert {"loss", "grad_norm"} <= recorded["vft"]["steps"][0].keys() <= set(KEYS)
    # the methods part: a recording of one method under five names would hold nothing
    assert len({json.dumps(recorded[name]["scores"]) for name in recorded}) == len(recorded)
