"""The forecast of a real model's runs: its arithmetic, that units stay short, and what finished units say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aft.config import load_config
from aft.paper.forecast import LENGTHS, Lengths, Rates, Work, forecast, forecast_lines, unfinished, work
from aft.paper.methods import changes
from aft.paper.runs import plan
from aft.yaml_files import yaml_line

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600


def configuration(name="ecqa", *overrides):
    (run,) = [run for run in plan("2", "small") if run.name == name]
    methods = yaml_line({name: changes(name) for name in run.methods})
    return load_config(ROOT / "configs" / "tables" / run.config, [f"methods={methods}", *run.overrides, *overrides])


def test_tokens_of_every_unit():
    config = configuration(
        "ecqa",
        *("data.num_train=10", "data.num_answer_only=5", "sample.num_samples=4", "sample.pool_questions=3"),
        *("vft.training.num_train_epochs=2", "vft.validation.num_questions=5"),
        *("align.training.max_steps=7", "align.training.per_device_train_batch_size=2"),
        *("evaluate.num_questions=6", "evaluate.assessment.num_questions=2", "evaluate.assessment.max_samples=8"),
        *("evaluate.self_consistency.num_questions=3", "evaluate.self_consistency.num_paths=16"),
        "data.num_validation=5",
    )
    units = {str(unit): (unit.trained, unit.sampled) for unit in work(config, Lengths(50, 30))}
    assert units["vft"] == (2 * 10 * 80, 2 * 5 * 30)
    assert units["sample"] == (0, (10 + 5 + 3) * 4 * 30)
    # 14 groups: the question once, the reference, and the samples that the method uses
    assert units["align vft-more"] == (14 * 80, 0)
    assert units["align rft"] == (14 * (80 + 2 * 30), 0)
    assert units["align aft"] == units["align rft-bc"] == (14 * (80 + 4 * 30), 0)
    # own chains at most, 16 paths, and the pool's questions scored
    assert units["evaluate vft"] == (pytest.approx(3 * (50 + 4 * 30) / 3), (6 + 2 * 8 + 3 * 16) * 30)
    assert len(units) == 2 + 6 + 7


@pytest.mark.parametrize("name", LENGTHS)
def test_no_unit_takes_an_hour(name):
    found = forecast(name, configuration(name, "training.bf16=false"), Path("nowhere"))
    assert max(found.units.values()) < HOUR and found.taken == {}
    assert found.left == pytest.approx(3 * sum(found.units.values()))


def test_finished_units_correct_the_forecast(tmp_path):
    config = configuration("ecqa", "training.bf16=false")
    for number in (0, 2):
        folder = tmp_path / f"seed-{number}" / "vft"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"inputs": {}, "outputs": {}, "seconds": 500}))
    found = forecast("ecqa", config, tmp_path)
    (vft, *_) = found.units
    assert found.taken == {(vft, 0): 500, (vft, 2): 500} and found.of_taken == 2 * found.units[vft]
    assert found.left == pytest.approx(3 * sum(found.units.values()) - 2 * found.units[vft])
    *_, counted, left, corrected = forecast_lines([found])
    missing = unfinished(found)
    assert missing[1] == "not finished: ecqa, seed 1: every unit"
    assert missing[0].startswith("not finished: ecqa, seed 0: sample, align vft-more, ") and len(missing) == 3
    ratio = 500 / found.units[vft]
    assert counted == "  ecqa: 2 of 45 units are finished" and left == f"  left: {found.left / HOUR:.1f} hours"
    assert corrected == (
        f"  finished units took {ratio:.1f} times their forecast: {found.left * ratio / HOUR:.1f} hours at that pace"
    )


def test_seconds_are_tokens_by_rates():
    assert Work("align", "aft", 300, 100).seconds(Rates(30, 50)) == 12
