"""What the trainer's tests share with the processes that they start: data, objectives, a trainer on a tiny model."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from aft.config.losses import AlignmentLoss, BoundaryConstraint, DetachedConstraint, NoConstraint
from aft.model import add_lora
from aft.scoring.forward import enable_scoring
from aft.scoring.packing import Item
from aft.stages.loss_section import make_objective
from aft.training.arguments import make_arguments
from aft.training.job import TrainingJob
from aft.training.objective import Objective
from aft.training.trainer import AftTrainer
from tiny_models import as_entries, random_items, tiny_model, word_tokenizer

# Every trainer collects garbage first, and walking over all that the imports left takes longer than a test's training.
gc.freeze()

# Eleven questions: groups of several sizes, some without a pair, a reference alone, candidates without a reference.
KINDS: list[list[float | None]] = [
    [None, 1.0, 0.0],
    [None, 1.0, 1.0, 0.0, 0.0],
    [None],
    [None, 0.0],
    [1.0, 0.0],
    [None, 1.0],
    [None, 0.0, 1.0, 0.0],
    [1.0, 1.0, 0.0],
    [None, 1.0, 0.0, 0.0],
    [0.0, 0.0],
    [None, 0.0, 1.0],
]

# The first step of eight then has a question without candidates, and groups with and without a pair.
DATA_SEED = 10

# name -> (objective, whether sampled positives are supervised as well)
OBJECTIVES: dict[str, tuple[Objective, bool]] = {
    "vft": (make_objective(None, "token_mean"), False),
    "rft": (make_objective(None, "token_mean"), True),
    "vft-token-sum": (make_objective(None, "token_sum"), False),
    "rft-question-mean": (make_objective(None, "question_mean"), True),
    "rft-question-sum": (make_objective(None, "question_sum"), True),
    "bcl": (make_objective(AlignmentLoss(constraint=BoundaryConstraint("boundary", beta=0.1)), "token_mean"), False),
    "dcl-mean-with-pair": (
        make_objective(
            AlignmentLoss(constraint=DetachedConstraint("detached"), reduction="mean_with_pair"), "token_sum"
        ),
        False,
    ),
    "unconstrained-sum": (
        make_objective(AlignmentLoss(constraint=NoConstraint("none"), reduction="sum", weight=0.3), "token_mean"),
        True,
    ),
}


def items_for(name: str, kinds: list[list[float | None]] | None = None) -> list[Item]:
    """The questions of `KINDS` with the parts that an objective gives to their responses."""
    return random_items(11, KINDS if kinds is None else kinds, supervise_positives=OBJECTIVES[name][1])


def make_trainer(
    folder: Path,
    name: str = "bcl",
    *,
    items: list[Item] | None = None,
    architecture: str = "llama",
    config: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    lora: dict[str, Any] | None = None,
    job: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **training: Any,
) -> AftTrainer:
    """A trainer on a tiny model. Plain gradient descent with a constant rate, so that a step shows its gradient.

    `job` holds further fields of the `TrainingJob`; all other keywords are transformers' training arguments.
    """
    values = {
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        **training,
    }
    model: torch.nn.Module = tiny_model(architecture, **(config or {})).to(dtype)
    if lora is not None:
        torch.manual_seed(0)
        model = add_lora(model, lora)
    enable_scoring(model, chunk_bytes=4 * 32 * 7)
    entries = as_entries(items_for(name) if items is None else items)
    return AftTrainer(
        TrainingJob(model, word_tokenizer(), entries, **{"objective": OBJECTIVES[name][0], **(job or {})}),
        make_arguments(values, folder, seed=0, data_seed=DATA_SEED, cpu=True),
        callbacks,
    )


def initial_scores(trainer: AftTrainer) -> dict[str, list[float]]:
    """The scores before training that the trainer's entries carry, by question."""
    items = [item for entry in trainer.entries for item in entry]
    return {item.question_id: list(item.initial_scores) for item in items if item.initial_scores is not None}


def logged(trainer: AftTrainer) -> list[dict[str, float]]:
    """What was logged at each step, without what depends on the clock."""
    return [
        {key: value for key, value in entry.items() if key not in ("total_flos", "train_loss")}
        for entry in trainer.state.log_history
        if "train_runtime" not in entry
    ]
