"""The trainer's input beside transformers' TrainingArguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from ..scoring.packing import Entry
from ..scoring.responses import Scores
from .objective import Objective

if TYPE_CHECKING:
    from .trainer import AftTrainer


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """The model, the data and the objective of a training.

    `model`: prepared by `aft.scoring.enable_scoring`. `entries`: the questions to train on. `eval_entries`: the
    questions of the validation loss. `validate(model)`: metrics, named without prefix, to add to every evaluation.
    `initial_scores(trainer)`: each candidate's mean score before training, by question id. The trainer calls it before
    the first step, once the model is placed. Entries may hold these scores already. If the scores are known, the drift
    of positive and negative scores is logged.
    `layout`: auto, or one of `aft.scoring.packing.LAYOUTS`. `max_tokens`: most tokens per model call; None: no limit.
    `description`: the start of every line that the training prints.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    entries: Sequence[Entry]
    objective: Objective = dataclasses.field(default_factory=Objective)
    eval_entries: Sequence[Entry] = ()
    validate: Callable[[torch.nn.Module], dict[str, float]] | None = None
    initial_scores: Callable[[AftTrainer], Scores] | None = None
    layout: str = "auto"
    max_tokens: int | None = None
    description: str = "train"
