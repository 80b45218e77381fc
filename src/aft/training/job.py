"""What the trainer is given beside transformers' TrainingArguments."""

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
    """What to train, on what, and towards what.

    `model` has been through `aft.scoring.enable_scoring`. `entries` are questions to train on, `eval_entries` those of
    the validation loss. `validate(model)` may add metrics, named without prefix, to every evaluation.
    `initial_scores(trainer)` gives each candidate's mean score before training, by question id: it is called before the
    first step, once the model is placed. Entries may carry these scores already. Where they are known, the drift of
    positive and negative scores is logged.
    `layout`: auto, or one of `aft.scoring.packing.LAYOUTS`. `max_tokens`: most tokens of a model call; None: no limit.
    `description` begins every line that the training prints.
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
