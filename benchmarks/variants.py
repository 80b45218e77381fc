"""Ways to compute the same alignment step: forward and backward of L_VFT on the reference plus the alignment loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedModel

from aft.losses import alignment_loss
from aft.scoring.forward import enable_scoring
from aft.scoring.packing import Batch, Item, pack
from aft.scoring.responses import candidate_scores, score_responses, to_device
from groups import PAD_ID
from shapes import clear_gradients, view

CHUNK_BYTES = 64 * 2**20  # float32 logits of one chunk, on a CPU and on a GPU
KEEP_BYTES = 8 * 2**30  # more than the logits of any batch here: kept


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to compute a step.

    `layout` is the library's, None for the plain way: padded rows, logits of every position. `rows`: responses sorted
    by length and cut into batches of that many. `keep` the logits for the backward pass; `recompute` the layers in it.
    """

    name: str
    label: str
    layout: str | None
    rows: int | None = None
    keep: bool = False
    recompute: bool = False


NAIVE = Variant("naive", "padded to the longest, whole logits", None)
PADDED = Variant("padded", "padded to the longest, chunked log-probs", "padded")
SORTED = Variant("sorted", "padded in batches of 7 sorted by length, chunked log-probs", "padded", rows=7)
PACKED = Variant("packed", "packed without padding, question repeated", "packed")
SHARED = Variant("shared", "**packed, question once**, logits recomputed", "shared")
KEPT = Variant("kept", "**packed, question once**, logits kept", "shared", keep=True)
RECOMPUTED = Variant("recomputed", "packed, question once, gradient checkpointing", "shared", recompute=True)
NAIVE_RECOMPUTED = Variant(
    "naive-recomputed", "padded to the longest, whole logits, gradient checkpointing", None, recompute=True
)
VARIANTS = {
    variant.name: variant for variant in (NAIVE, PADDED, SORTED, PACKED, SHARED, KEPT, RECOMPUTED, NAIVE_RECOMPUTED)
}


class PlainRows(TypedDict):
    """Padded rows as most libraries have them, (N, T) each: int64 ids, int64 attention mask, bool response mask."""

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor


@dataclasses.dataclass(frozen=True)
class Collated:
    """Collated items. `pieces` go through the model one after the other; `order[i]` is the response in place i."""

    whole: Batch
    pieces: list[Batch] | list[PlainRows]
    order: Tensor | None = None

    @property
    def processed(self) -> int:
        """Tokens that go through the model, padding included."""
        return sum(piece["input_ids"].numel() for piece in self.pieces)


class Engine:
    """A variant on a model's weights. It changes no other engine's model."""

    def __init__(self, model: PreTrainedModel, variant: Variant) -> None:
        self.variant, self.model, self.device = variant, view(model), model.device
        if variant.recompute:
            # its name since transformers 5.23, where the former one warns
            enable = getattr(self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        if variant.layout is not None:
            enable_scoring(self.model, chunk_bytes=CHUNK_BYTES, keep_bytes=KEEP_BYTES if variant.keep else 0)

    def collate(self, items: Sequence[Item]) -> Collated:
        """What a data loader would hand over, on the device."""
        layout, rows = self.variant.layout, self.variant.rows
        whole = to_device(pack(items, PAD_ID, layout=layout or "padded"), self.device)
        if layout is None:
            return Collated(whole, [to_device(plain_rows(items), self.device)])
        if rows is None:
            return Collated(whole, [whole])
        singles = [_single(item, index) for item in items for index in range(len(item.responses))]
        order = sorted(range(len(singles)), key=lambda index: _length(singles[index]))
        pieces = [[singles[index] for index in order[start : start + rows]] for start in range(0, len(order), rows)]
        packed = [to_device(pack(piece, PAD_ID, layout=layout), self.device) for piece in pieces]
        return Collated(whole, packed, torch.tensor(order, device=self.device))

    def score(self, batch: Collated) -> tuple[Tensor, Tensor]:
        """(sum of token log-probs in nats, number of tokens) of every response, each (N,)."""
        plain = self.variant.layout is None
        parts = [(plain_scores if plain else score_responses)(self.model, piece) for piece in batch.pieces]
        seq_logps, lengths = (torch.cat(part) for part in zip(*parts, strict=True))
        if batch.order is None:
            return seq_logps, lengths
        return torch.empty_like(seq_logps).index_copy(0, batch.order, seq_logps), lengths.new_empty(
            len(lengths)
        ).index_copy(0, batch.order, lengths)

    def step(self, batch: Collated) -> Tensor:
        """The step's loss, detached. Its gradient is added to that of the weights."""
        seq_logps, lengths = self.score(batch)
        loss = alignment_step_loss(seq_logps, lengths, batch.whole)
        loss.backward()
        return loss.detach()

    def clear(self) -> None:
        """Gradients back to zero."""
        clear_gradients(self.model)


def alignment_step_loss(seq_logps: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """L_VFT, nats per token of the references, plus the mean alignment loss of the groups."""
    supervised = batch["supervised"]
    vft = -seq_logps[supervised].sum() / lengths[supervised].sum()
    scores = candidate_scores(seq_logps, lengths, batch)
    return vft + alignment_loss(scores, batch["ratings"], candidate_mask=batch["candidate_mask"])[0].mean()


def plain_rows(items: Sequence[Item]) -> PlainRows:
    """Prompt + response of every response, padded on the right to the longest, and which tokens are a response's."""
    rows = [(item.prompt_ids, response) for item in items for response in item.responses]
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), width), PAD_ID)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    response_mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        input_ids[row, :length] = torch.tensor(prompt + response)
        attention_mask[row, :length] = 1
        response_mask[row, len(prompt) : length] = True
    return {"input_ids": input_ids, "attention_mask": attention_mask, "response_mask": response_mask}


def plain_scores(model: torch.nn.Module, batch: PlainRows) -> tuple[Tensor, Tensor]:
    """As `score_responses`, in the way of most libraries: all logits, their log-softmax, the targets gathered."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    logps = logits[:, :-1].float().log_softmax(-1)  # (N, T - 1, V)
    chosen = logps.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    mask = batch["response_mask"][:, 1:]
    return (chosen * mask).sum(1), mask.sum(1)


def _single(item: Item, index: int) -> Item:
    """The item with one of its responses only."""
    return dataclasses.replace(
        item,
        responses=[item.responses[index]],
        supervised=[item.supervised[index]],
        ratings=[item.ratings[index]],
    )


def _length(item: Item) -> int:
    return len(item.prompt_ids) + len(item.responses[0])


def check_agreement(losses: dict[str, float], dtype: torch.dtype) -> None:
    """Raise `SystemExit` unless all variants computed the same loss: a time of something else is no comparison."""
    # bfloat16 keeps 8 bits of each activation, and the variants add them up in different orders
    allowed = 0.02 if dtype == torch.bfloat16 else 1e-4
    expected = next(iter(losses.values()))
    # written so that a nan disagrees
    if not all(abs(loss - expected) <= allowed * abs(expected) for loss in losses.values()):
        raise SystemExit(f"the variants disagree on the loss, so their times cannot be compared: {losses}")
