"""Tokens, operations and seconds by hand."""

from __future__ import annotations

import pytest

from aft.config import load_config
from aft.forecast.work import Costs, Lengths, Speed, Work, seconds, work

LENGTHS = Lengths(10, 15, validation=8, test=6, prompt=50, longest=80, response=31, sampled=21)


def units(tiny, tmp_path, *overrides):
    config = load_config(tiny, [f"output_dir={tmp_path}", *overrides])
    return {str(unit): unit for unit in work(config, LENGTHS)}


def test_tokens_of_every_unit(tiny, tmp_path):
    found = units(
        tiny,
        tmp_path,
        "stages=[vft,sample,align,evaluate]",
        "training={num_train_epochs: 2}",
        *("vft.training={}", "align.training={}", "sample.num_samples=4", "sample.pool_questions=3"),
        "evaluate.assessment={num_questions: 5, per_label: 1, max_samples: 24, samples_per_round: 8}",
    )
    assert found["vft"].trained == 2 * 10 * (50 + 30)
    assert (found["sample"].sampled, found["sample"].read) == ((15 + 3) * 4 * 21, (15 + 3) * 50)
    # the question once, the reference, four samples; each response without its last token
    assert found["align bcl"].trained == 2 * 15 * (50 + 30 + 4 * 20)
    assert found["align bcl"].scored == 15 * (50 + 4 * 20)  # before training
    assert found["align bcl"].repeated == 2 * 15 * (5 * 50 + 30 + 80) + 15 * (4 * 50 + 80)
    assert found["align rft"].trained == 2 * 15 * (50 + 30 + 2 * 20)  # half of the samples, an assumption
    assert found["evaluate vft"].sampled == (6 + 5 * 16) * 21


def test_every_round_continues_chains(tiny, tmp_path):
    changes = ["rounds=2", "sample.num_samples=4", "sample.pool_questions=3"]
    plain = units(tiny, tmp_path, *changes)
    found = units(tiny, tmp_path, *changes, "sample.from_prefix={chains: 1, steps: 2, num_samples: 3}")
    # each of two places three times, from the middle of a chain on
    for name in ("sample", "sample bcl@2"):
        assert found[name].sampled - plain[name].sampled == pytest.approx(15 * 2 * 3 * 21 / 2)
        assert found[name].read - plain[name].read == pytest.approx(15 * 2 * (50 + 21 / 2))
    assert "validate bcl@2" in found and "validate bcl" not in units(tiny, tmp_path)


def test_steps_decide_where_they_are_given(tiny, tmp_path):
    found = units(
        tiny, tmp_path, "stages=[vft]", "training.per_device_train_batch_size=4", "vft.training={max_steps: 5}"
    )
    assert found["vft"].trained == pytest.approx(5 * 4 * (50 + 30))


def test_operations_are_six_for_each_weight_and_token():
    unit = Work("vft", trained=100)
    assert Costs(1000, 0, 0).operations(unit) == 6 * 1000 * 100
    assert Costs(1000, 0, 0, again=True).operations(unit) == 8 * 1000 * 100
    assert Costs(1000, 0, 0, frozen=True).operations(unit) == 4 * 1000 * 100
    assert Costs(1000, 0, 0).operations(Work("evaluate", scored=100)) == 2 * 1000 * 100
    assert Costs(0, 50, 0).operations(Work("vft", predicted=(10, 10))) == 50 * (6 + 2) * 10
    assert Costs(0, 0, 7).operations(Work("vft", pairs=(3, 0))) == 12 * 7 * 3
    assert Costs(1000, 50, 0).operations(Work("sample", sampled=3, read=5)) == 2 * 1050 * 3 + 2 * 1000 * 5


def test_seconds():
    costs, unit = Costs(1000, 0, 0), Work("vft", trained=100)
    assert seconds(unit, costs, Speed(6e4, None), (0, 0, 1), gpus=2) == 5
    assert seconds(unit, costs, Speed(None, None), (0, 0, 1), gpus=2) is None
    assert seconds(unit, costs, Speed(None, None, train_tokens=10), (0, 0, 1), gpus=1) == 10
    both = Work("align", trained=100, scored=300)
    assert seconds(both, costs, Speed(6e4, None, scoring=1.2e5), (0, 0, 1), gpus=1) == 10 + 5
    # each step reads the weights once, and the cache of every row
    sampled = Work("sample", sampled=400)
    assert seconds(sampled, costs, Speed(None, 100.0), (600, 10, 40), gpus=1) == 10 * (600 + 400) / 100
    assert seconds(sampled, costs, Speed(None, None, sample_tokens=40), (0, 0, 1), gpus=1) == 10
