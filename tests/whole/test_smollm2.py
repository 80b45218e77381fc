"""Every stage with SmolLM2-135M-Instruct on a handful of GSM8K questions, VFT in bfloat16. `make smollm2-slice`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aft.run.manifest import read_manifest
from limits import HUNG_AFTER
from shared_data import shared_path

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SIZES = [
    *("data.num_train=4", "data.num_validation=2", "data.num_test=2", "sample.pool_questions=2"),
    *("sample.num_samples=2", "sample.max_new_tokens=16", "evaluate.max_new_tokens=16"),
    *("vft.training.max_steps=2", "align.training.max_steps=1", "training.per_device_train_batch_size=1"),
    *("evaluate.models=[vft, aft-bcl]", "evaluate.assessment=null", "label.include_reference=false"),
    *("vft.validation.num_questions=2", "methods={aft-bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}}"),
    # few processors have instructions for bfloat16; without them, two steps take a minute
    *("training.bf16=false", "vft.training.bf16=true", "model.inference_dtype=float32"),
]


@pytest.fixture(scope="module")
def smollm2():
    """The converted model; skips the test, with the reason, where it is absent."""
    folder = Path(os.environ.get("AFT_SMOLLM2") or ROOT / "models" / "smollm2-135m")
    if not (folder / "config.json").exists():
        pytest.skip(f"{folder} is absent: `python scripts/smollm2.py` makes it (AFT_SMOLLM2 names another folder)")
    return folder


def aft_train(*overrides):
    command = [sys.executable, "-m", "aft.cli.train", "--config", "configs/gsm8k/smollm2-135m.yaml", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_AFTER)


def test_a_real_model_goes_through_every_stage(smollm2, tmp_path):
    data = shared_path("data", "gsm8k")
    overrides = [*SIZES, f"model.name_or_path={smollm2}", f"data.path={data}", f"output_dir={tmp_path}"]
    # chains of sixteen tokens hold no answer: the run says why, and stops before it aligns on references alone
    stopped = aft_train(*overrides)
    assert stopped.returncode == 1, stopped.stderr
    assert (
        "sample seed 0: warning: " in stopped.stderr and "to change: a larger sample.max_new_tokens" in stopped.stderr
    )
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith("aft: error: label seed 0: stopped before alignment: 4 of 4 questions all wrong (100.0 %)")
    assert not (tmp_path / "seed-0" / "align").exists()
    # with another limit it goes on from its labels
    done = aft_train(*overrides, "label.stop.all_wrong=null")
    assert done.returncode == 0, done.stderr
    for stage in ("vft", "sample", "label"):
        assert f"{stage}: 1 of 1 up to date, skipped" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in report["models"]] == ["vft", "aft-bcl"]
    assert "| parsed (%) |" in (tmp_path / "report.md").read_text(encoding="utf-8")
    manifest = read_manifest(tmp_path / "seed-0" / "vft" / "manifest.json")
    # in bfloat16 the shared layout is taken, and its own error is measured
    assert manifest["layout"] == "shared" and manifest["layout_trial"]["own"] is not None
    assert manifest["inputs"]["config"]["vft"]["training"]["bf16"] is True
