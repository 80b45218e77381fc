"""The states that an optimizer keeps, by the name in `training.optim`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

DEFAULT = "adamw_torch_fused"  # of TrainingArguments since torch 2.8

# States of the size of the weights, in the weights' own precision.
_LIKE_WEIGHTS = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_apex_fused", "adamw_hf", "adamw_torch_xla"), 2.0),
    **dict.fromkeys(("adamw_torch_npu_fused", "grokadamw", "stable_adamw", "adamw_anyprecision"), 2.0),
    **dict.fromkeys(("schedule_free_adamw", "schedule_free_radam"), 2.0),
    **dict.fromkeys(("schedule_free_sgd", "adagrad", "rmsprop"), 1.0),
    "sgd": 0.0,  # TrainingArguments have no momentum
}
# bitsandbytes: states in float32, and in 8 bits with a float32 scale for each 256 values. Embeddings keep float32.
_BNB = {"adamw": 2, "ademamix": 3, "lion": 1, "rmsprop": 1}
_BNB_BLOCK, _BNB_LEAST = 256, 4096
# torchao: two states with a float32 scale for each block of 256 or 128 values.
_AO = {"adamw_torch_8bit": 1 + 4 / 256, "adamw_torch_4bit": 0.5 + 4 / 128}

Trained = tuple[Sequence[int], float, bool]
"""A trained weight: its shape, bytes of an element, whether it is an embedding."""


def is_known(optim: str) -> bool:
    """False: the optimizer is counted as AdamW."""
    return optim in _LIKE_WEIGHTS or optim in _AO or optim == "adafactor" or _bnb(optim) is not None


def state_bytes(optim: str, trained: Iterable[Trained]) -> float:
    """Bytes of the states of all trained weights. An optimizer that is not known counts as AdamW."""
    return sum(_of_one(optim, math.prod(shape), shape, size, embedding) for shape, size, embedding in trained)


def _of_one(optim: str, count: int, shape: Sequence[int], size: float, embedding: bool) -> float:
    if optim == "adafactor":  # the mean of each row and column, in float32
        return 4 * (math.prod(shape[:-1]) + math.prod((*shape[:-2], shape[-1])) if len(shape) > 1 else count)
    if optim in _AO:
        return 2 * count * (_AO[optim] if count >= _BNB_LEAST else size)
    if (found := _bnb(optim)) is not None:
        states, bits = found
        small = bits == 32 or embedding or count < _BNB_LEAST
        return states * count * (4 if small else 1 + 4 / _BNB_BLOCK)
    return _LIKE_WEIGHTS.get(optim, 2.0) * count * size


def _bnb(optim: str) -> tuple[int, int] | None:
    """(states, bits) of an optimizer of bitsandbytes; None: it is none."""
    name = optim.removeprefix("paged_")
    if name in ("adamw_bnb_8bit", "adamw_8bit"):
        return 2, 8
    family, _, bits = name.rpartition("_")
    if name in _BNB and (optim.startswith("paged_") or name != "adamw") and name not in _LIKE_WEIGHTS:
        return _BNB[name], 32
    if bits in ("8bit", "32bit", "bnb") or family.endswith("_bnb"):
        family = family.removesuffix("_bnb")
        if family in _BNB:
            return _BNB[family], 8 if bits == "8bit" else 32
    return None


def step_bytes(optim: str, trained: Iterable[Trained], *, cpu: bool) -> float:
    """The most bytes that an optimizer step needs for its own temporary tensors."""
    if "fused" in optim or _bnb(optim) is not None:
        return 0.0
    sizes = [math.prod(shape) * size for shape, size, _ in trained]
    # torch goes through all weights at once on a GPU, and one after the other on a CPU
    return 2 * max(sizes, default=0.0) if cpu or not optim.startswith("adamw_torch") else sum(sizes)
