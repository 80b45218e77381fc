"""Two rounds through the command line: what is trained on, and a cut in round 2 that ends as an uncut run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from aft.api import Run
from aft.records import read_completions, read_groups
from aft.run.folder import RunFolder
from aft.run.manifest import read_manifest
from limits import HUNG_AFTER

CHANGES = [
    *("pretrain.training.max_steps=200", "vft.training.max_steps=20", "data.num_test=8", "evaluate.assessment=null"),
    "methods={bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}}",
    "align.training={max_steps: -1, num_train_epochs: 1, per_device_train_batch_size: 20, logging_steps: 1}",
    *("rounds={count: 2, keep: all}", "evaluate.models=[bcl, bcl@2]", "launch.device=cpu"),
]
PROGRAM = "from aft.cli.{} import main; main()"
_TOLD = ("metrics.json", "trainer_state.json")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(program, *arguments):
    command = [sys.executable, "-c", PROGRAM.format(program), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run(program, *arguments):
    process = start(program, *arguments)
    out, err = process.communicate(timeout=HUNG_AFTER)
    assert process.returncode == 0, err
    return out, err


def outputs(folder):
    """Unit -> the digests of what it wrote, of everything that training and sampling decide."""
    found = {str(unit): read_manifest(unit.manifest)["outputs"] for unit in RunFolder(folder).units()}
    # metrics.json names the checkpoint's folder, and the log of a training has times
    return {name: {file: d for file, d in files.items() if file not in _TOLD} for name, files in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_two_rounds_cut_in_the_second(tiny, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, told = run("train", "--config", tiny, f"output_dir={whole}", *CHANGES)
    assert "bcl seed 0: the final model is bcl" in told
    check_what_a_round_is_trained_on(whole)
    check_what_readers_say(whole)
    out, _ = run("verify", whole)
    assert "rounds" in out and "validate bcl@2 seed 0" in out

    shutil.copytree(whole, cut)
    for name in ("rounds", "align/bcl@2", "validate/bcl@2", "evaluate"):
        shutil.rmtree(cut / "seed-0" / name)
    process = start("train", "--config", tiny, f"output_dir={cut}", *CHANGES)
    begun, deadline = cut / "seed-0" / "rounds" / "bcl@2" / "sample" / "started.json", time.monotonic() + HUNG_AFTER
    while not begun.exists():
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (cut / "seed-0" / "align" / "bcl@2").exists()
    _, told = run("train", "--config", tiny, f"output_dir={cut}", *CHANGES)
    assert "align: 1 of 1 up to date, skipped" in told and "validate: 1 of 1 up to date, skipped" in told
    assert outputs(cut) == outputs(whole)
    assert (cut / "rounds.json").read_bytes() == (whole / "rounds.json").read_bytes()


def check_what_a_round_is_trained_on(folder):
    seed = folder / "seed-0"
    first, second = read_groups(seed / "label/groups.jsonl"), read_groups(seed / "rounds/bcl@2/label/groups.jsonl")
    # every sampled text of every question is there, also several wrong ones
    for groups, sampled in ((first, seed / "sample"), (second, seed / "rounds/bcl@2/sample")):
        texts = {}
        for completion in read_completions(sampled / "completions.jsonl"):
            texts.setdefault(completion.question_id, set()).add(completion.completion)
        for group in groups:
            own = [c.completion for c in group.candidates if c.label != "reference"]
            assert {*own} == texts[group.question_id] - {group.reference} and len(own) == len({*own})
    assert max(sum(c.rating == 0 for c in group.candidates) for group in second) > 1
    # no round repeats the draws of another, and the pool is sampled once
    draws = [
        {(c.question_id, c.seed) for c in read_completions(path / "completions.jsonl")}
        for path in (seed / "sample", seed / "rounds/bcl@2/sample")
    ]
    assert not draws[0] & draws[1] and len(draws[0]) == 56 * 8 and len(draws[1]) == 48 * 8
    # both rounds together, each text once; the step of the questions that are left over is not dropped
    manifest = read_manifest(seed / "align/bcl@2/manifest.json")
    merged = [{c.completion for g in pair for c in g.candidates} for pair in zip(first, second, strict=True)]
    # the reference is among the candidates; a question without one borrows that of another
    borrowed, lost = sum(group.reference is None for group in first), manifest["responses"]
    assert manifest["epoch"]["sequences"] == sum(map(len, merged)) + borrowed - lost["dropped"] - lost["empty"]
    assert (manifest["entries"], manifest["steps"]) == (48, 3)


def check_what_readers_say(folder):
    report = json.loads((folder / "report.json").read_text())
    assert [(row["method"], row["round"]) for row in report["rounds"]] == [("bcl", 1), ("bcl", 2), ("bcl", None)]
    final = json.loads((folder / "rounds.json").read_text())["bcl"]["0"]["final"]
    assert report["rounds"][2]["final"] == {"0": final} and final in ("bcl", "bcl@2")
    for row, part in zip(report["rounds"], ("", "rounds/bcl@2/"), strict=False):
        completions = read_completions(folder / f"seed-0/{part}sample/completions.jsonl")
        groups = read_groups(folder / f"seed-0/{part}label/groups.jsonl")
        sampled = {
            group.question_id: [c for c in completions if c.question_id == group.question_id] for group in groups
        }
        right = {
            group.question_id: {c.completion for c in group.candidates if c.rating == 1}
            & {c.completion for c in sampled[group.question_id]}
            for group in groups
        }
        assert row["distinct_right"]["mean"] == sum(map(len, right.values())) / 48
        assert row["sampled_tokens"] == sum(c.num_tokens for own in sampled.values() for c in own)
    page = (folder / "report.md").read_text()
    assert "<summary>Rounds</summary>" in page and "![Over the rounds](rounds.png)" in page
    assert not report["missing"] or not any("bcl@2" in line for line in report["missing"])
    loaded = Run(folder)
    assert "bcl@2" in loaded.models
    out, _ = run("watch", folder, "--once")
    assert "finished" in out and "validate" in out
