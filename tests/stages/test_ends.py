"""How a response ends is one id in every stage, and the saved model names it, for full and LoRA training alike."""

from __future__ import annotations

import json

import pytest
import yaml

from aft.config import load_config
from aft.model import build_model
from aft.records import read_completions, read_groups
from aft.run.manifest import UnitLog
from aft.stages.context import Stage
from aft.stages.label import run_label
from aft.stages.plan import Plan
from aft.stages.sample import run_sample
from aft.stages.train import run_align, run_vft
from tiny_models import CONFIGS
from tokenizer_kinds import ARCHITECTURES, gemma, gpt2, llama, qwen

PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def make_plan(folder, kind: str, tokenizer, *, chat: bool, **model) -> Plan:
    """A run on a random model whose config names another end than its tokenizer."""
    positions = {"n_positions" if kind == "gpt2" else "max_position_embeddings": 512}
    built = build_model(ARCHITECTURES[kind], {**CONFIGS[ARCHITECTURES[kind]], **positions}, tokenizer, seed=0)
    built.generation_config.eos_token_id = built.config.eos_token_id = 10
    built.generation_config.pad_token_id = built.config.pad_token_id = None
    built.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    data = {"name": "arithmetic", "num_train": 4, "num_answer_only": 0, "num_validation": 2, "num_test": 2}
    values = {
        "output_dir": str(folder / "run"),
        "stages": ["vft", "sample", "label", "align"],
        "data": {**data, "num_pretrain": 2, "options": {"min_statements": 1, "max_statements": 1}},
        "prompt": {"chat": chat, "template": "{question}\n"},
        "model": {"name_or_path": str(folder / "base"), "max_length": 400, **model},
        "training": {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 1},
        "sample": {"num_samples": 4, "max_new_tokens": 8, "batch_size": 16, "pool_questions": 0},
        "methods": {"bcl": {}},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return Plan(load_config(str(folder / "run.yaml"), []))


def run_unit(plan: Plan, stage: str):
    (unit,) = plan.units(stage)
    log = UnitLog(unit.folder, plan.inputs(unit))
    if stage == "label":
        run_label(plan, unit, lambda: log)
    else:
        {"vft": run_vft, "sample": run_sample, "align": run_align}[stage](Stage(plan, cpu=True), unit, log)
    return unit.folder


def saved(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.filterwarnings(PEFT_WARNING, "ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize(
    ("kind", "tokenizer", "chat", "end", "others"),
    [
        ("gemma", gemma(), True, "<end_of_turn>", ["<eos>"]),
        ("qwen", qwen("<|endoftext|>"), True, "<|im_end|>", ["<|endoftext|>"]),
        ("llama", llama(), False, "</s>", []),
        ("gpt2", gpt2(), False, "<|endoftext|>", []),
    ],
)
def test_full_and_lora_save_the_end_that_was_trained(tmp_path, kind, tokenizer, chat, end, others):
    ids = tokenizer.convert_tokens_to_ids([end, *others])
    expected = [ids[0], 10, *ids[1:]]
    found = []
    for name, lora in (
        ("full", None),
        ("lora", {"r": 2, "target_modules": ["c_attn" if kind == "gpt2" else "q_proj"]}),
    ):
        (tmp_path / name).mkdir()
        folder = run_unit(make_plan(tmp_path / name, kind, tokenizer, chat=chat, lora=lora), "vft")
        generation, config = saved(folder, "generation_config.json"), saved(folder, "config.json")
        assert generation["eos_token_id"] == expected and config["eos_token_id"] == ids[0]
        assert generation["pad_token_id"] == (ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        assert config["pad_token_id"] == tokenizer.pad_token_id
        found.append((generation, config))
    assert found[0] == found[1]


def test_samples_keep_their_ids_through_the_stages(tmp_path):
    tokenizer = gemma()
    plan = make_plan(tmp_path, "gemma", tokenizer, chat=True)
    run_unit(plan, "vft")
    completions = read_completions(run_unit(plan, "sample") / "completions.jsonl")
    ends = {*tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"]), 10}
    assert len(completions) == 16
    for completion in completions:
        assert len(completion.token_ids) == completion.num_tokens
        assert (completion.token_ids[-1] in ends) == (not completion.truncated)
        assert ends.isdisjoint(completion.token_ids[:-1])
    run_unit(plan, "label")
    by_key = {(completion.question_id, completion.index): completion.token_ids for completion in completions}
    for group in read_groups(plan.groups(0)):
        assert group.candidates
        assert all(c.token_ids == by_key[group.question_id, c.index] for c in group.candidates)
    manifest = saved(run_unit(plan, "align"), "manifest.json")
    assert manifest["texts"] == {"with_control_tokens": 0, "undivided": 0, "ended_already": 0, "ran_past_end": 0}
