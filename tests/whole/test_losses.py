"""Every loss, and every way to weigh the questions, as methods of one run on the command line."""

from __future__ import annotations

import json
import math

import pytest

from aft.config import load_config
from aft.losses import LOSSES
from aft.records import NEGATIVE, POSITIVE, UNPARSED, read_groups

METHODS = {
    **{name: {"loss": {"name": name}} for name in LOSSES},
    "maxrl": {"loss": {"name": "asymre", "delta": 0.0, "divide_by_mean": True, "reduction": "mean_with_pair"}},
    "rft": {"loss": None, "supervise": "reference_and_positives"},
    **{
        f"rft-{reduction}": {"loss": None, "supervise": "reference_and_positives", "vft_reduction": reduction}
        for reduction in ("question_mean", "question_sum")
    },
    "mixed": {"groups": "mixed"},
}


@pytest.mark.slow
def test_a_run_of_every_loss(tiny, tmp_path, command):
    folder = tmp_path / "run"
    overrides = ["stages=[pretrain, vft, sample, label, align]", "align.training.max_steps=2"]
    overrides += ["pretrain.training.max_steps=30", "align.training.logging_steps=1", f"methods={json.dumps(METHODS)}"]
    methods = load_config(tiny, overrides).methods
    ran = command("train", "--config", tiny, f"output_dir={folder}", *overrides)
    assert ran.code == 0, ran.err
    weights = {}
    for name in methods:
        unit = folder / "seed-0" / "align" / name
        log = [
            entry for entry in json.loads((unit / "trainer_state.json").read_text())["log_history"] if "loss" in entry
        ]
        assert len(log) == 2 and all(math.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in log)
        assert all(("loss/align" in entry) == (methods[name].get("loss", {}) is not None) for entry in log)
        weights[name] = (unit / "model.safetensors").read_bytes()
    assert len(set(weights.values())) == len(weights), "two methods trained alike"

    groups = read_groups(folder / "seed-0" / "label" / "groups.jsonl")
    labels = [{candidate.label for candidate in group.candidates} for group in groups]
    mixed = sum(POSITIVE in found and bool({NEGATIVE, UNPARSED} & found) for found in labels)
    manifest = json.loads((folder / "seed-0" / "align" / "mixed" / "manifest.json").read_text())
    assert 0 < mixed < len(groups) and manifest["groups"] == mixed
    assert f"groups: mixed: {len(groups) - mixed} of {len(groups)} questions left out" in ran.err
