"""Mistakes that a model, a kernel or a library could make in a packed row, planted on purpose.

`python benchmarks/run.py --only trial` counts which of them the trial of layouts refuses; the tests hold it to that.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from aft.scoring import attention
from aft.scoring.forward import enable_scoring
from aft.scoring.segments import Segments
from tiny_models import CONFIGS, as_entries, random_items, tiny_model

FAMILIES = [name for name in CONFIGS if name != "qwen3_next"]
PRECISIONS = ("float32", "bfloat16 weights", "bfloat16 autocast")
# mistake -> the families in which it can be made
MISTAKES = {
    "lost question": FAMILIES,
    "sees its neighbour": FAMILIES,
    "positions off by one": FAMILIES,
    "window ignored": ["mistral", "gemma2"],
    "soft-capping left out": ["gemma2"],
}
ENTRIES = as_entries(random_items(2, [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0]]))


@contextlib.contextmanager
def planted(mistake: str | None, *, low_precision_only: bool = False) -> Iterator[Callable[[dict], dict]]:
    """Makes the mistake inside, and yields the `prepare` of a trial. `low_precision_only`: not in float32."""
    before = attention.IMPLEMENTATIONS[None]
    AttentionInterface.register("planted", _mistaken(mistake, low_precision_only))
    attention.IMPLEMENTATIONS[None] = "planted"
    try:
        yield _shifted if mistake == "positions off by one" else lambda batch: batch
    finally:
        attention.IMPLEMENTATIONS[None] = before


def _mistaken(mistake: str | None, low_precision_only: bool) -> Callable[..., Any]:
    def function(module, query, key, value, mask, sliding_window=None, softcap=None, **others):
        low = query.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if low or not low_precision_only:
            segments = others[attention.SEGMENTS]
            if mistake == "lost question":
                segments = Segments(segments.lengths, (-1,) * len(segments.lengths))
            if mistake == "sees its neighbour":
                segments = _joined(segments)
            others = {**others, attention.SEGMENTS: segments}
            sliding_window = None if mistake == "window ignored" else sliding_window
            softcap = None if mistake == "soft-capping left out" else softcap
        own = AttentionInterface()["aft_auto"]
        return own(module, query, key, value, mask, sliding_window=sliding_window, softcap=softcap, **others)

    return function


def _joined(segments: Segments) -> Segments:
    """The last two segments as one: the last response sees the one before it."""
    *lengths, one, two = segments.lengths
    return Segments((*lengths, one + two), segments.prefixes[:-1])


def _shifted(batch: dict[str, Any]) -> dict[str, Any]:
    """Responses behind a shared question begin one position too late."""
    segments = batch.get("segments")
    if segments is None:
        return batch
    late = torch.tensor([int(prefix >= 0) for prefix in segments.prefixes])
    steps = late.repeat_interleave(torch.tensor(segments.lengths))
    return {**batch, "position_ids": batch["position_ids"] + steps}


@dataclasses.dataclass
class Planted:
    """A tiny model of a family in a precision, ready to be tried."""

    model: torch.nn.Module
    rough: bool


def make_model(family: str, precision: str, **config: Any) -> Planted:
    """The model, as a trainer would hand it over: under autocast its forward is wrapped."""
    model = tiny_model(family, **config)
    if precision == "bfloat16 weights":
        model = model.to(torch.bfloat16)
    enable_scoring(model)
    if precision == "bfloat16 autocast":
        model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    return Planted(model, rough=precision != "float32")
