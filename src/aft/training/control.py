"""A boundary's beta that changes while training, and what a `Floor` measures before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..losses import DISPLACEMENT, controlled_beta, spread_of_negatives
from ..scoring.packing import Entry
from .objective import Control

_DRIFT, _COUNT = DISPLACEMENT.index("positive_drift_sum"), DISPLACEMENT.index("positive_count")


class ControlledBeta(TrainerCallback, ExportableState):
    """Moves beta after every step, by the mean drift of the positives of the whole step, over all ranks.

    `reduce` sums a vector over ranks. `changed(beta)` gets the 0-dim tensor of the next step. Checkpoints hold beta, so
    that a resumed training goes on with the same one. Nothing is read from the device except for a checkpoint or a log.
    """

    def __init__(self, control: Control, reduce: Callable[[Tensor], Tensor], changed: Callable[[Tensor], None]) -> None:
        self.control, self._reduce, self._changed = control, reduce, changed
        self.beta: Tensor = torch.tensor(control.beta, dtype=torch.float64)
        self._sums: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """What transformers writes into a checkpoint's trainer_state.json."""
        return {"args": {}, "attributes": {"beta": self.beta.item()}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        kept = state.stateful_callbacks[type(self).__name__] if state.global_step else self.state()
        self.beta = self._reduce(torch.zeros(1))[0] + kept["attributes"]["beta"]  # in the dtype and place of sums
        self._sums = None
        self._changed(self.beta)

    def note(self, displacement: Tensor) -> None:
        """Add the `displacement_statistics` (6,) of a part of the step."""
        self._sums = displacement if self._sums is None else self._sums + displacement

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        sums = self._reduce(torch.zeros(len(DISPLACEMENT)) if self._sums is None else self._sums)
        drift = sums[_DRIFT] / sums[_COUNT]
        options = {"lowest": self.control.lowest, "highest": self.control.highest}
        self.beta = controlled_beta(self.beta, drift, rate=self.control.rate, **options)
        self._sums = None
        self._changed(self.beta)


def spread_before(entries: Sequence[Entry], min_rating_gap: float) -> Tensor:
    """`spread_of_negatives` of all entries' candidates, 0-dim, float64, from their scores before training."""
    groups = [item for entry in entries for item in entry if item.candidates and item.initial_scores is not None]
    if not groups:
        return torch.zeros((), dtype=torch.float64)

    def padded(rows: Sequence[Sequence[float]]) -> Tensor:
        tensors = [torch.tensor(row, dtype=torch.float64) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=torch.nan)

    scores = padded([item.initial_scores or () for item in groups])
    ratings = padded([[rating for rating in item.ratings if rating is not None] for item in groups])
    return spread_of_negatives(scores, ratings, candidate_mask=~torch.isnan(ratings), min_rating_gap=min_rating_gap)
