"""How several processes share an optimizer step. Imports no torch, so that a plan can ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BATCH_SIZE, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
_DEFAULTS = {BATCH_SIZE: 8, ACCUMULATION: 1}  # of TrainingArguments


def questions_of_a_step(training: Mapping[str, Any], processes: int) -> int:
    """The questions of an optimizer step of a `training` section that `processes` share."""
    size, accumulation = (training.get(key) or default for key, default in _DEFAULTS.items())
    return int(size) * int(accumulation) * processes


def share_step(training: Mapping[str, Any], began: int, now: int) -> dict[str, int] | None:
    """The keys with which `now` processes take the steps of a training that `began` processes started.

    The batch of a device is as large as before, or the largest smaller one that divides the step. None: the questions
    of a step cannot be divided equally.
    """
    each, rest = divmod(questions_of_a_step(training, began), now)
    if rest:
        return None
    most = int(training.get(BATCH_SIZE) or _DEFAULTS[BATCH_SIZE])
    size = next(size for size in range(min(most, each), 0, -1) if each % size == 0)
    return {BATCH_SIZE: size, ACCUMULATION: each // size}
