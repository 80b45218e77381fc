"""Scores of responses under a model, batch by batch: the one path for training, assessment accuracy and perplexity.

Axes: `N` responses in the batch, `B` questions, `G` candidate slots per question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..logps import mean_scores, sum_by_sequence

Scores = dict[str, list[float]]


def score_responses(model: torch.nn.Module, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(sum of token log-probs in nats, number of tokens), each (N,), of every response of a batch of `packing.pack`.

    `model` has been through `forward.enable_scoring`. Gradient flows to the sums.
    """
    return sum_by_sequence(response_logps(model, batch), batch["sequences"], len(batch["supervised"]))


def response_logps(model: torch.nn.Module, batch: dict[str, Any], *, precise: bool = False) -> Tensor:
    """Log-prob (R,), nats, of every response token of a batch of `packing.pack`, response by response.

    `precise`: computed in float32, whatever the model's own precision.
    """
    logps: Tensor = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        positions=batch["positions"],
        targets=batch["targets"],
        columns=batch["input_ids"].shape[1],
        segments=batch.get("segments"),
        **({"precise": True} if precise else {}),
    )
    return logps


def candidate_scores(seq_logps: Tensor, lengths: Tensor, batch: dict[str, Any]) -> Tensor:
    """Scores (B, G) of the candidates, nats per token, zero in padding slots. Gradient flows."""
    return as_groups(mean_scores(seq_logps, lengths), batch)


def as_groups(values: Tensor, batch: dict[str, Any]) -> Tensor:
    """Values (N,) of responses -> (B, G) of candidates, zero in padding slots. Gradient flows."""
    slots, mask = batch["slots"], batch["candidate_mask"]
    chosen = slots >= 0
    return values.new_zeros(mask.numel()).index_put((slots[chosen],), values[chosen]).view(mask.shape)


@torch.no_grad()
def score_candidates(
    model: torch.nn.Module,
    batches: Iterable[dict[str, Any]],
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> Scores:
    """The score of every candidate by question id, in slot order, over this rank's batches and all other ranks'.

    `batches` come from `batching.entry_loader`. `prepare` moves a part to the model's device;
    `advance` is told how many questions each part held.
    """
    model.eval()
    found: Scores = {}
    for part in (part for batch in batches for part in batch["parts"]):
        batch = prepare(part)
        scores = candidate_scores(*score_responses(model, batch), batch)
        for row, question_id in enumerate(batch["question_ids"]):
            mask = batch["candidate_mask"][row]
            if mask.any():
                found[question_id] = scores[row, mask].tolist()
        advance(len(batch["question_ids"]))
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, found)
        found = {question_id: scores for part in parts for question_id, scores in part.items()}
    return found


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on `device`."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
