"""Trains under DeepSpeed's ZeRO as one of two ranks, or plainly as the only one; `test_two_ranks.py` compares them.

Started as `python -m torch.distributed.run --nproc-per-node 2 tests/zero_ranks.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aft.errors import AftError
from aft.training.sharding import leave_deepspeed
from aft.training.trainer import AftTrainer
from tiny_models import as_entries
from tiny_trainers import initial_scores, items_for, logged, make_trainer

STEP = 8


class Case(NamedTuple):
    """ZeRO's stage, and what may stand in the way of a head or a layer whose weights are divided."""

    stage: int
    tied: bool = False
    checkpointed: bool = False
    lora: bool = False


CASES = {
    "1": Case(1),
    "2": Case(2, checkpointed=True),
    "3": Case(3),
    "3-checkpointed": Case(3, checkpointed=True),
    "3-tied": Case(3, tied=True),
    "3-tied-checkpointed": Case(3, tied=True, checkpointed=True),
    "3-lora": Case(3, lora=True),  # the head is frozen
}


def zero(stage: int) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    return {
        "zero_optimization": {
            "stage": stage,
            "stage3_param_persistence_threshold": 0,  # small weights are divided as well
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,  # plain gradient descent
    }


def make(folder: Path, case: Case, ranks: int, **training: Any) -> AftTrainer:
    """Three steps of eight questions out of eleven, in two batches, each of several calls by tokens."""
    items = items_for("bcl")
    return make_trainer(
        folder,
        "bcl",
        items=items,
        config={"tie_word_embeddings": case.tied},
        lora={"r": 4, "target_modules": "all-linear"} if case.lora else None,
        job={
            "eval_entries": as_entries(items),
            "max_tokens": 24,  # ranks have unequal numbers of tokens, and so of chunks of logits
            "initial_scores": lambda trainer: trainer.score_candidates(),
        },
        **{
            "max_steps": 3,
            "per_device_train_batch_size": STEP // 2 // ranks,
            "gradient_accumulation_steps": 2,
            "gradient_checkpointing": case.checkpointed,
            "max_grad_norm": 1.5 if case.checkpointed else 0.0,
            "save_strategy": "steps",
            "save_steps": 2,
            "deepspeed": zero(case.stage) if ranks > 1 else None,
            **training,
        },
    )


def train(folder: Path, name: str, *, ranks: int) -> None:
    """All steps; and the last one once more, from the checkpoint before it."""
    case = CASES[name]
    trainer = make(folder / name / "run", case, ranks)
    trainer.train()
    evaluated = trainer.evaluate()
    trainer.save_model(str(folder / name))
    if trainer.is_world_process_zero():
        report = {
            "log": logged(trainer),
            "eval_loss": evaluated["eval_loss"],
            "initial": initial_scores(trainer),
            "held": sum(parameter.numel() for parameter in trainer.model.parameters()),
        }
        (folder / f"{name}.json").write_text(json.dumps(report))
    leave_deepspeed(trainer.accelerator)
    again = make(folder / name / "run", case, ranks)
    again.train(resume_from_checkpoint=str(folder / name / "run" / "checkpoint-2"))
    again.save_model(str(folder / name / "resumed"))
    leave_deepspeed(again.accelerator)


def break_down(folder: Path, stage: int) -> None:
    """A finite loss whose gradient is not: a square root has an infinite slope at zero."""
    trainer = make(folder / f"broken-{stage}", Case(stage), 2)
    trainer.model.model.layers[1].mlp.register_forward_hook(
        lambda module, inputs, output: output + (output - output.detach()).abs().sqrt()
    )
    try:
        trainer.train()
    except AftError as error:
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            assert all(value.isfinite().all() for value in weights.values())
            (folder / f"broken-{stage}.txt").write_text(str(error))
    leave_deepspeed(trainer.accelerator)


def main(folder: Path) -> None:
    """Every case in turn."""
    for name in CASES:
        train(folder, name, ranks=2)
    for stage in (2, 3):
        break_down(folder, stage)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
