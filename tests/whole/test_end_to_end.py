"""From a base model to a report through the real command line, on the CPU; then again, and again with a changed key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from aft.config import load_config
from aft.records import read_completions, read_groups
from aft.run.manifest import read_manifest
from limits import HUNG_AFTER
from shared_data import shared_path

MODELS = ("base", "vft", "rft", "bcl")
ROOT = Path(__file__).resolve().parents[2]

# configs/gsm8k/tiny-cpu.yaml made smaller, so that it takes seconds
SLICE = [
    *("data.num_train=24", "data.num_answer_only=8", "data.num_validation=8", "data.num_test=8"),
    *("model.max_length=900", "model.from_scratch.vocab_size=600"),
    "model.from_scratch.config={hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64}",
    *("pretrain.training.max_steps=4", "vft.training.max_steps=2", "align.training.max_steps=2"),
    *("sample.num_samples=2", "sample.max_new_tokens=24", "sample.pool_questions=2", "launch.workers=1"),
    *("evaluate.max_new_tokens=24", "evaluate.models=[vft, aft-bcl]"),
]


def aft_train(*arguments):
    """The installed command's own entry point in a process of its own."""
    program = "from aft.cli.train import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def test_from_a_base_model_to_a_report(tiny, tmp_path, command):
    # one test, so that tests that run side by side do not each need a run of their own
    folder = tmp_path / "run"
    ran = aft_train("--config", tiny, f"output_dir={folder}")
    assert "Traceback" not in ran.stderr
    check_files(folder)
    check_samples_and_groups(folder)
    check_logs(folder)
    check_report(folder, ran.stdout)
    check_checkpoint(folder / "seed-0" / "align" / "bcl")
    assert command("verify", folder).code == 0
    check_a_second_run_skips_everything(folder, command)
    check_a_changed_key_runs_what_depends_on_it(folder)


def check_files(folder):
    seed = folder / "seed-0"
    for checkpoint in (folder / "base", seed / "vft", seed / "align" / "rft", seed / "align" / "bcl"):
        for name in ("config.json", "model.safetensors", "tokenizer.json", "trainer_state.json", "README.md"):
            assert (checkpoint / name).is_file(), checkpoint / name
    units = [folder / "base", *(seed / name for name in ("vft", "sample", "label", "align/rft", "align/bcl"))]
    for unit in [*units, *(seed / "evaluate" / name for name in MODELS)]:
        manifest = read_manifest(unit / "manifest.json")
        assert manifest is not None and manifest["seconds"] > 0 and manifest["peak_memory_bytes"] > 0
        assert all((unit / name).is_file() for name in manifest["outputs"])
    assert load_config(folder / "config.yaml").output_dir == str(folder)
    environment = json.loads((folder / "environment.json").read_text())
    assert {"torch", "transformers", "aft"} <= set(environment["versions"])
    assert not list(folder.rglob("started.json")) and not list(folder.rglob("*.tmp"))


def check_samples_and_groups(folder):
    seed = folder / "seed-0"
    completions = read_completions(seed / "sample" / "completions.jsonl")
    assert len(completions) == (24 + 24 + 8) * 8
    assert len({(c.question_id, c.index) for c in completions}) == len(completions)
    groups = read_groups(seed / "label" / "groups.jsonl")
    counts = json.loads((seed / "label" / "counts.json").read_text())
    assert len(groups) == counts["questions"] == 48
    assert sum(group.reference is not None for group in groups) == 24
    labelled = counts["positives"] + counts["negatives"] + sum(counts["unparsed"].values()) + counts["duplicates"]
    assert labelled == counts["completions"] == 48 * 8
    assert counts["references"] == 24 and counts["groups_with_pair"] > 0


def check_logs(folder):
    state = json.loads((folder / "seed-0" / "align" / "bcl" / "trainer_state.json").read_text())
    logged = set().union(*state["log_history"])
    assert {
        "loss/vft",
        "loss/align",
        "scores/positive",
        "scores/negative",
        "scores/margin",
        "constraint/active_fraction",
        "groups/without_pair",
        "scores/positive_drift",
        "scores/negative_drift",
    } <= logged
    plain = json.loads((folder / "seed-0" / "align" / "rft" / "trainer_state.json").read_text())
    assert "loss/align" not in set().union(*plain["log_history"])


def check_report(folder, shown):
    report = json.loads((folder / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == list(MODELS)
    for model in report["models"]:
        accuracy = model["task_accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["mean"] <= accuracy["high"] <= 1
        assert accuracy["by_seed"]["0"]["n"] == 24
    page = (folder / "report.md").read_text()
    assert all(name in shown and name in page for name in MODELS)
    assert f"wrote {folder / 'report.md'}" in shown


def check_checkpoint(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("Eve has 4 apples .", return_tensors="pt", return_token_type_ids=False)
    assert model(**inputs).logits.shape[-1] == len(tokenizer)
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"


def check_a_second_run_skips_everything(folder, command):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*/**/*")}
    # the run's own resolved configuration is a configuration
    ran = command("train", "--config", folder / "config.yaml")
    assert ran.code == 0, ran.err
    for line in (
        "pretrain: 1 of 1",
        "vft: 1 of 1",
        "sample: 1 of 1",
        "label: 1 of 1",
        "align: 2 of 2",
        "evaluate: 4 of 4",
    ):
        assert f"{line} up to date, skipped\n" in ran.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*/**/*")} == before


def check_a_changed_key_runs_what_depends_on_it(folder):
    # elsewhere: what is up to date does not depend on where the run lies
    folder = folder.rename(folder.with_name("moved"))
    old = (folder / "seed-0" / "align" / "bcl" / "model.safetensors").read_bytes()
    arguments = ["--config", folder / "config.yaml", f"output_dir={folder}", "methods.bcl.loss.constraint.beta=-0.2"]
    ran = aft_train(*arguments)
    told = ran.stderr
    for line in (
        "pretrain: 1 of 1",
        "vft: 1 of 1",
        "sample: 1 of 1",
        "label: 1 of 1",
        "align: 1 of 2",
        "evaluate: 3 of 4",
    ):
        assert f"{line} up to date, skipped\n" in told
    assert "align bcl seed 0: runs again, because config.align.loss.constraint.beta: was 0.15, is -0.2\n" in told
    assert "evaluate bcl seed 0: runs again, because reads.model: was " in told
    assert told.count("runs again, because") == 2
    kept = folder / "replaced" / "1" / "seed-0"
    assert (kept / "align" / "bcl" / "model.safetensors").read_bytes() == old
    assert (kept / "evaluate" / "bcl" / "metrics.json").is_file()
    # the report knows nothing of what was moved aside
    assert [model["name"] for model in json.loads((folder / "report.json").read_text())["models"]] == list(MODELS)


def test_real_gsm8k_text_goes_through_every_stage(tmp_path):
    source = shared_path("data", "gsm8k")
    folder = tmp_path / "run"
    methods = "methods={aft-bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}}"
    assessment = "evaluate.assessment={num_questions: 2, max_samples: 6}"
    config = ROOT / "configs" / "gsm8k" / "tiny-cpu.yaml"
    # the run would stop: so small a model samples no right answer
    changed = [methods, assessment, "label.stop.all_wrong=null"]
    ran = aft_train("--config", config, f"data.path={source}", f"output_dir={folder}", *SLICE, *changed)
    assert "label seed 0: warning: " in ran.stderr
    groups = read_groups(folder / "seed-0" / "label" / "groups.jsonl")
    known = {json.loads(line)["question"] for line in (source / "train.jsonl").read_text("utf-8").splitlines()}
    assert len(groups) == 32 and all(group.question in known for group in groups)
    assert sum(group.reference is None for group in groups) == 8, "questions whose answer alone is known"
    # the reference is among the candidates, and no sample of such a model is right but by chance
    assert all(group.candidates[0].label == "reference" for group in groups if group.reference)
    steps = read_manifest(folder / "seed-0" / "align" / "aft-bcl" / "manifest.json")["steps"]
    assert steps == 2
    assert "aft-bcl" in ran.stdout and (folder / "report.md").exists()
