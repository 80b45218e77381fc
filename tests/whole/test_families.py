"""Every family of configs/models/, with its file, from a base model to a report: a tiny model with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from aft.config import load_config
from aft.records import read_completions
from aft.report.build import write_report
from aft.run.manifest import UnitLog
from aft.stages.context import Stage
from aft.stages.evaluate import run_evaluate
from aft.stages.label import run_label
from aft.stages.plan import DONE, Plan
from aft.stages.sample import run_sample
from aft.stages.train import run_align, run_vft
from families import FAMILIES, save_family

QUICK = ("qwen2.5-1.5b", "llama-3.2-1b", "gemma-3-4b")
TINY = [
    *("data.num_train=8", "data.num_answer_only=4", "data.num_validation=4", "data.num_test=8", "launch.device=cpu"),
    "data.options={min_statements: 1, max_statements: 1}",
    *("model.max_length=160", "training.max_steps=2", "training.per_device_train_batch_size=4"),
    *("training.save_strategy='no'", "label.include_reference=true"),
    *("sample.num_samples=2", "sample.max_new_tokens=12", "sample.pool_questions=2"),
    *("evaluate.max_new_tokens=12", "evaluate.assessment={num_questions: 2, per_label: 1, max_samples: 2}"),
    "methods={aft-bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}}",
    "label.stop={all_wrong: null}",  # chains of random letters hold no answer
]


def run_all(plan: Plan) -> None:
    """Every unit of a run, stage after stage, in this process."""
    stage = Stage(plan, cpu=True)
    runs = {"vft": run_vft, "sample": run_sample, "align": run_align, "evaluate": run_evaluate}
    for name in plan.stages():
        for unit in plan.units(name):
            log = UnitLog(unit.folder, plan.inputs(unit))
            if name == "label":
                run_label(plan, unit, lambda log=log: log)
            else:
                runs[name](stage, unit, log)
            assert plan.status(unit).state == DONE


@pytest.mark.filterwarnings("ignore:.*pin_memory")
@pytest.mark.parametrize("file", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_a_family_goes_from_a_base_model_to_a_report(file, tmp_path, capsys):
    base, run = save_family(file, tmp_path / "base"), tmp_path / "run"
    (tmp_path / "run.yaml").write_text(f"extends: [models/{file}, tasks/arithmetic]\noutput_dir: {run}\n")
    run_all(Plan(load_config(tmp_path / "run.yaml", [f"model.name_or_path={base}", *TINY])))
    write_report(run, picture=False)
    # a step down from the shared layout would be told, as would a row that cannot join a batch
    told = "".join(capsys.readouterr())
    assert "computed again" not in told and "runs each batch to its end" not in told
    report = json.loads((run / "report.json").read_text())
    assert {model["name"] for model in report["models"]} == {"base", "vft", "aft-bcl"}
    tokenizer = AutoTokenizer.from_pretrained(base)
    sampled = read_completions(run / "seed-0" / "sample" / "completions.jsonl")
    ids = [number for completion in sampled for number in completion.token_ids]
    assert ids and max(ids) < len(tokenizer), "a row without a token is never sampled"
    for name in ("vft", "align/aft-bcl"):
        check_checkpoint(run / "seed-0" / name, file)
    assert (run / "seed-0" / "vft" / "adapter").is_dir() == (file in ("mistral-7b", "olmo2-7b"))


def check_checkpoint(folder: Path, file: str) -> None:
    kind = FAMILIES[file][0]
    model, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert model.config.model_type == ("gemma3_text" if kind == "gemma3" else kind)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    settings = FAMILIES[file][1]
    assert model.config.tie_word_embeddings == settings.get("tie_word_embeddings", kind.startswith("gemma3"))
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
