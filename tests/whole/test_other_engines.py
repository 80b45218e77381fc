"""Runs whose completions come from a stand-in for vLLM, through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aft.records import read_completions
from aft.run.manifest import read_manifest
from fake_vllm import FakeVllm
from limits import HUNG_AFTER

pytestmark = pytest.mark.slow

KEYS = [
    *(
        "stages=[pretrain,sample,evaluate]",
        "sample.model=base",
        "evaluate.models=[base]",
        "pretrain.training.max_steps=4",
    ),
    *("sample.engine=vllm", "evaluate.engine=vllm", "sample.batch_size=4", "sample.pool_questions=0"),
]


@pytest.fixture
def train(tiny, tmp_path):
    def train(*keys):
        program = "from aft.cli.train import main; main()"
        ran = subprocess.run(
            [sys.executable, "-c", program, "--config", str(tiny), f"output_dir={tmp_path / 'run'}", *KEYS, *keys],
            capture_output=True,
            text=True,
            timeout=HUNG_AFTER,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        return ran

    return train


def test_killed_in_the_middle_of_sampling_and_resumed(train, tmp_path, monkeypatch):
    fake = FakeVllm(tmp_path / "fake", monkeypatch)
    fake.faults(die_after=30)
    ran = train()
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "sample.engine: vLLM of" in ran.stderr and "(SIGKILL): its last lines: the last words |" in ran.stderr
    asked = len(fake.asked)
    fake.faults()
    ran = train()
    assert ran.returncode == 0, ran.stderr
    unit = tmp_path / "run" / "seed-0" / "sample"
    completions = read_completions(unit / "completions.jsonl")
    first = fake.starts[1]["pid"]
    resumed = [record for record in fake.asked[asked:] if record["pid"] == first]
    assert 0 < len(resumed) < len(completions) and len(completions) - len(resumed) <= 30
    manifest = read_manifest(unit / "manifest.json")
    assert manifest["inputs"]["versions"]["vllm"] == "9.9.9"
    metrics = json.loads((tmp_path / "run" / "seed-0" / "evaluate" / "base" / "metrics.json").read_text("utf-8"))
    assert metrics["perplexity_reference"]["n"] > 0


def test_two_processes_share_one_replica(train, tmp_path, monkeypatch):
    fake = FakeVllm(tmp_path / "fake", monkeypatch)
    ran = train("launch.config=cpu", "launch.num_processes=2")
    assert ran.returncode == 0, ran.stderr
    # one for sampling and one for evaluation: only one of the two processes drives vLLM
    assert len(fake.starts) == 2
    completions = read_completions(tmp_path / "run" / "seed-0" / "sample" / "completions.jsonl")
    assert len(completions) == sum(record["pid"] == fake.starts[0]["pid"] for record in fake.asked)
