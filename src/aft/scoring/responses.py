"""Scores of responses under a model, batch by batch. Training, assessment accuracy and perplexity all use this code.

Axes: `N` responses in the batch, `B` questions, `G` candidate slots per question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..errors import AftError
from ..logps import mean_scores, sum_by_sequence
from ..model import describe_not_finite
from .batching import Calls
from .packing import Batch

Scores = dict[str, list[float]]
Tensors = TypeVar("Tensors", bound=Mapping[str, Any])


def score_responses(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(sum of token log-probs in nats, number of tokens), each (N,), of every response in a batch from `packing.pack`.

    `model` has been through `forward.enable_scoring`. Gradient flows to the sums.
    """
    return sum_by_sequence(response_logps(model, batch), batch["sequences"], len(batch["supervised"]))


def response_logps(model: torch.nn.Module, batch: Batch, *, precise: bool = False) -> Tensor:
    """Log-prob (R,), nats, of every response token in a batch from `packing.pack`, response by response.

    `precise`: compute in float32, whatever the model's own precision.
    """
    logps: Tensor = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        positions=batch["positions"],
        targets=batch["targets"],
        columns=batch["input_ids"].shape[1],
        segments=batch["segments"],
        **({"precise": True} if precise else {}),
    )
    return logps


def candidate_scores(seq_logps: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Scores (B, G) of the candidates, nats per token, zero in padding slots. Gradient flows."""
    return as_groups(mean_scores(seq_logps, lengths), batch)


def as_groups(values: Tensor, batch: Batch) -> Tensor:
    """Moves values (N,) of responses to their candidate slots (B, G), zero in padding slots. Gradient flows."""
    mask = batch["candidate_mask"]
    # Slot -1 is an extra place at the end for responses that are no candidates. Selecting the candidates first would
    # wait for the device, because their number is a tensor on the device.
    return values.new_zeros(mask.numel() + 1).index_put((batch["slots"],), values)[:-1].view(mask.shape)


@torch.no_grad()
def score_candidates(
    model: torch.nn.Module,
    batches: Iterable[Calls],
    prepare: Callable[[Batch], Batch],
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> Scores:
    """The scores of all candidates by question id, in slot order, from the batches of all ranks.

    `batches` come from `batching.entry_loader`. `prepare` moves a part to the model's device. `advance` is called with
    the number of questions in each part. Raises `AftError` if a score is not finite.
    """
    model.eval()
    found: Scores = {}
    for part in (part for batch in batches for part in batch["parts"]):
        batch = prepare(part)
        rows = candidate_scores(*score_responses(model, batch), batch).tolist()
        counts = part["candidate_mask"].sum(dim=1).tolist()
        for question_id, scores, count in zip(part["question_ids"], rows, counts, strict=True):
            if count:
                found[question_id] = scores[:count]
        advance(len(batch["question_ids"]))
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, found)
        found = {question_id: scores for part in parts for question_id, scores in part.items()}
    # after the gathering, so that all ranks stop
    for question_id, scores in found.items():
        if not all(map(math.isfinite, scores)):
            raise AftError(f"scores of question '{question_id}': {describe_not_finite(model, 'log-probs')}")
    return found


def to_device(batch: Tensors, device: torch.device) -> Tensors:
    """A batch with its tensors on `device`. The copies do not wait for the device's running work."""
    moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    return cast(Tensors, moved)
