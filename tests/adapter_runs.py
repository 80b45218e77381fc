"""Runs of adapters on a saved random model, for the tests."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from aft.config import load_config
from aft.json_files import write_json_lines
from aft.model import build_model, build_word_tokenizer
from aft.records import NEGATIVE, POSITIVE, Candidate, Group
from aft.run.manifest import UnitLog
from aft.stages.context import Stage
from aft.stages.plan import DONE, Plan
from aft.stages.train import run_align, run_vft
from aft.tasks import TRAIN
from tiny_models import CONFIGS

PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
DATA = {
    "name": "arithmetic",
    "num_train": 8,
    "num_answer_only": 0,
    "num_validation": 2,
    "num_test": 2,
    "options": {"min_statements": 1, "max_statements": 1},
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
IDS = torch.tensor([[3, 4, 5, 6, 7]])


def plan_of(folder: Path, save: str, *, architecture: str = "llama", lora: dict | None = None, **changes) -> Plan:
    """A run of VFT and two methods on a saved random model, one from the base model and one from VFT."""
    base = folder / "base-model"
    values = {
        "output_dir": str(folder / "run"),
        "stages": ["vft", "sample", "label", "align"],
        "data": DATA,
        "prompt": {"template": "{question}"},
        "model": {"name_or_path": str(base), "max_length": 64, "lora": {**(lora or LORA), "save": save}},
        "training": {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1, "max_steps": 3},
        "methods": {"bcl": {}, "after": {"init_from": "vft"}},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    plan = Plan(load_config(str(folder / "config.yaml"), []))
    if not base.exists():
        tokenizer = build_word_tokenizer(plan.task.vocabulary())
        build_model(architecture, CONFIGS[architecture], tokenizer, seed=0).save_pretrained(base)
        tokenizer.save_pretrained(base)
    return plan


def run_unit(plan: Plan, stage: str, name: str | None = None) -> Path:
    unit = next(unit for unit in plan.units(stage) if unit.name == name)
    log = UnitLog(unit.folder, plan.inputs(unit))
    {"vft": run_vft, "align": run_align}[stage](Stage(plan, cpu=True), unit, log)
    assert plan.status(unit).state == DONE
    return unit.folder


def write_groups(plan: Plan) -> None:
    groups = []
    for question in plan.task.load(TRAIN, seed=0):
        right = plan.task.reference_response(question)
        candidates = (
            Candidate(right, 1.0, POSITIVE, question.answer, index=0),
            Candidate(right.split("[ANS]")[0].strip(), 0.0, NEGATIVE, index=1),
        )
        groups.append(Group(question.id, question.question, question.answer, right, candidates))
    write_json_lines(plan.groups(0), groups)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits
