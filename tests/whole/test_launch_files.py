"""Two processes over gloo through the real command line, for every launch file that a CPU can use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limits import HUNG_AFTER

FILES = Path(__file__).parents[2] / "configs" / "accelerate"
# A launch file of eight GPUs, with two CPUs in their place and without bfloat16, which rounds.
ON_CPUS = {"use_cpu": "true", "num_processes": "2", "mixed_precision": '"no"'}
# plain gradient descent, so that a rounding error stays one
STEPS = (
    "training={optim: sgd, learning_rate: 0.1, logging_steps: 1, per_device_train_batch_size: %d, max_steps: 4,"
    " save_strategy: steps, save_steps: 2}"
)


def run(tiny, folder: Path, *changes: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    own = ["pretrain.training={}", "vft.training={}"]
    given = ["--config", str(tiny), f"output_dir={folder}", *own, *changes]
    return subprocess.run(
        [sys.executable, "-m", "aft.cli.train", *given],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_AFTER,
    )


def launch_file(tmp_path: Path, name: str) -> str:
    """A path to one of configs/accelerate with two processes on the CPU."""
    text = (FILES / f"{name}.yaml").read_text(encoding="utf-8")
    path = tmp_path / f"{name}.yaml"
    for key, value in ON_CPUS.items():
        text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
    path.write_text(text)
    return str(path)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "seed-0" / "vft" / "model.safetensors")


@pytest.fixture
def alone(tiny, tmp_path) -> Path:
    """The same training in one process."""
    folder = tmp_path / "alone"
    ran = run(tiny, folder, "stages=[pretrain,vft]", STEPS % 8)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "multi-gpu"])
def test_two_processes_train_as_one(tiny, tmp_path, alone, name):
    folder = tmp_path / name
    ran = run(tiny, folder, "stages=[pretrain,vft,sample]", STEPS % 4, f"launch.config={launch_file(tmp_path, name)}")
    assert ran.returncode == 0, ran.stderr
    for key, value in weights(alone).items():
        torch.testing.assert_close(weights(folder)[key], value, rtol=1e-4, atol=1e-4)
    state = json.loads((folder / "seed-0" / "vft" / "trainer_state.json").read_text())
    spreads = [entry["tokens/rank_spread"] for entry in state["log_history"] if "loss" in entry]
    assert len(spreads) == 4 and all(1 <= spread < 1.5 for spread in spreads)
    manifest = json.loads((folder / "seed-0" / "vft" / "manifest.json").read_text())
    assert manifest["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "zero3"])
def test_what_a_cpu_cannot_divide_is_refused(tiny, tmp_path, name):
    ran = run(tiny, tmp_path / "run", f"launch.config={launch_file(tmp_path, name)}")
    assert ran.returncode == 2 and "on a CPU; launch.config=cpu shares the questions of a step" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_training_that_was_cut_goes_on_with_another_number(tiny, tmp_path, alone, before, after):
    """A checkpoint after two steps, as if the machine had gone then."""
    folder = tmp_path / "run"

    def train(processes: int) -> subprocess.CompletedProcess:
        changes = ["stages=[pretrain,vft]", STEPS % (8 // before)]
        return run(tiny, folder, *changes, "launch.config=cpu", f"launch.num_processes={processes}")

    assert train(before).returncode == 0
    unit = folder / "seed-0" / "vft"
    manifest = json.loads((unit / "manifest.json").read_text())
    started = {"inputs": manifest["inputs"], "processes": before}
    (unit / "started.json").write_text(json.dumps(started))
    (unit / "manifest.json").unlink()
    for path in [*(unit / "checkpoint-4").iterdir()]:
        path.unlink()
    (unit / "checkpoint-4").rmdir()
    (unit / "model.safetensors").unlink()
    ran = train(after)
    assert ran.returncode == 0, ran.stderr
    if after == 3:
        reason = "was cut with 2 processes, now 3, which cannot share the 8 questions of a step equally"
        assert f"vft seed 0: runs again, because {reason}" in ran.stderr
        return
    size = 8 if after == 1 else 4
    keys = f"per_device_train_batch_size={min(size, 8 // before)}, gradient_accumulation_steps={2 if after == 1 else 1}"
    assert f"now {after}: {keys} keep the 8 questions of a step" in ran.stderr, ran.stderr
    assert "vft seed 0: continues from checkpoint-2" in ran.stderr
    for key, value in weights(alone).items():
        torch.testing.assert_close(weights(folder)[key], value, rtol=1e-4, atol=1e-4)
