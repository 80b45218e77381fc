"""Continuations of right chains through the command line: killed in the middle, resumed, verified and reported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from aft.api import open_run
from aft.records import read_completions, read_groups
from limits import HUNG_AFTER

CONFIG = {
    "stages": ["sample", "label", "align", "evaluate"],
    "data": {"name": "arithmetic", "num_train": 16, "num_answer_only": 16, "num_validation": 4, "num_test": 8},
    "prompt": {"template": "{question}"},
    "model": {"name_or_path": "arithmetic-base", "max_length": 128},
    "training": {"per_device_train_batch_size": 16, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3},
    "sample": {
        "model": "base",
        "num_samples": 4,
        "max_new_tokens": 40,
        "batch_size": 4,
        "pool_questions": 2,
        "from_prefix": {"chains": 2, "steps": 2, "num_samples": 4},
    },
    "methods": {"whole": {"negatives": "sampled"}, "step": {"negatives": "from_prefix"}},
    "evaluate": {"models": ["step"], "max_new_tokens": 40, "assessment": None},
    "launch": {"device": "cpu"},
}


def configure(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "run")}), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_killed_run_goes_on_and_is_the_same(tmp_path, command):
    runs = {}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        runs[name] = tmp_path / name / "run" / "seed-0"
    config = configure(tmp_path / "killed")
    given = [sys.executable, "-m", "aft.cli.train", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    part, begun = runs["killed"] / "sample" / "from_prefix.part-00000.jsonl", time.monotonic()
    while not part.exists() or part.stat().st_size < 2000:
        assert time.monotonic() - begun < HUNG_AFTER and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert part.exists() and not (runs["killed"] / "sample" / "from_prefix.jsonl").exists()
    assert command("train", "--config", configure(tmp_path / "whole")).code == 0
    resumed = command("train", "--config", config)
    assert resumed.code == 0, resumed.err
    for file in ("sample/completions.jsonl", "sample/from_prefix.jsonl", "label/groups.jsonl", "label/counts.json"):
        assert (runs["killed"] / file).read_bytes() == (runs["whole"] / file).read_bytes()
    assert "that continue" in resumed.err and "continued from a right chain" in resumed.err
    groups = read_groups(runs["killed"] / "label" / "groups.jsonl")
    continued = read_completions(runs["killed"] / "sample" / "from_prefix.jsonl")
    masks = [c.response_mask for group in groups for c in group.candidates if c.prefix is not None]
    assert masks and all(mask is not None and 0 in mask for mask in masks) and len(masks) < len(continued)
    run = runs["killed"].parent
    assert command("verify", run).code == 0
    assert f"| from_prefix.continuations | {len(continued):,} |" in (run / "report.md").read_text(encoding="utf-8")
    # a second run has nothing to do, and neither a dry run nor a forecast fails
    for arguments in (("--dry-run",), ("--plan",)):
        assert command("train", "--config", config, *arguments).code == 0
    converted = command(
        "convert", "--to", "preference", runs["killed"] / "label" / "groups.jsonl", tmp_path / "p.jsonl"
    )
    assert converted.code == 0 and f"{len(masks)}  candidates with a response_mask" in converted.out
    rows = open_run(run).continuations()
    assert len(rows) == len(continued) and rows[0]["prefix"]["tokens"] == continued[0].prefix.tokens
