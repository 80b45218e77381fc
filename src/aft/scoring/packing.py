"""Turns tokenised questions into the tensors of one model call. Modules that use a batch do not depend on its layout.

Axes: `N` responses in the batch, `R` response tokens in the batch that count, `T` tokens of a row, `B` questions,
`G` candidate slots per question. A token with 0 in its response's mask is read by the model and is in no axis `R`: so
it is in no sum, no mean and no length, in every layout.

Flat indices describe a batch, so that the same code scores every layout. Response token `r` has the id `targets[r]`,
is predicted at row-major position `positions[r]` of the model's output, and belongs to response `sequences[r]`.
There are three layouts:

- `shared`: one row without padding; each question appears once, followed by its responses. The last token of a response
  predicts nothing and is left out. The last token of a prompt predicts the first token of every response.
- `packed`: one row without padding; the question is repeated before each of its responses.
- `padded`: one row per (question, response), padded to the longest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import compress
from typing import TypedDict

import torch
from torch import Tensor

from .segments import Segments

SHARED, PACKED, PADDED = LAYOUTS = ("shared", "packed", "padded")


@dataclasses.dataclass(frozen=True)
class Item:
    """One question: a prompt, its responses, and what each response is used for.

    responses[i] are the token ids of response i, end token included. supervised[i] is true if response i is in L_VFT.
    ratings[i] is the rating of response i as a candidate (higher is better), or None if it is no candidate.
    `initial_scores` are the candidates' scores before training, in slot order, nats per token; None: not known.
    masks[i] has 1 for each token of response i that counts, 0 for one that the model only reads; None: all count.
    `masks` is None if no response has a mask.
    """

    question_id: str
    prompt_ids: list[int]
    responses: list[list[int]]
    supervised: list[bool]
    ratings: list[float | None]
    initial_scores: Sequence[float] | None = None
    masks: Sequence[Sequence[int] | None] | None = None

    def filler(self) -> Item:
        """An item with the same tokens that adds to no loss. A rank computes fillers when it has no data left."""
        nothing: list[float | None] = [None] * len(self.responses)
        return dataclasses.replace(self, supervised=[False] * len(self.responses), ratings=nothing, initial_scores=None)

    @property
    def candidates(self) -> list[int]:
        """Indices of the responses that are candidates of the group, in slot order."""
        return [index for index, rating in enumerate(self.ratings) if rating is not None]


Entry = tuple[Item, ...]
"""The items of one draw from the data: a question and, if it has no reference, a borrowed reference."""


class ModelInputs(TypedDict):
    """The model's inputs. Padded rows are (N, T) and have an attention mask; a packed row is (1, T) and has segments.

    `input_ids`, `position_ids`: (N, T) or (1, T), int64. `attention_mask`: (N, T), int64, 1 at a token and 0 at
    padding; None for a packed row. `segments`: the segments of a packed row; None for padded rows.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor
    segments: Segments | None


class Batch(ModelInputs):
    """One model call, made by `pack`: the model's inputs, where responses are predicted, and what responses are for.

    Per response token that counts, (R,) int64: `positions`, the row-major position where the model's output predicts
    the token; `targets`, the token's id; `sequences`, the response that the token belongs to, in [0, N).
    Per response, (N,): `supervised`, bool, true if the response is in L_VFT; `slots`, int64, the row-major place of a
    candidate in (B, G), -1 for a response that is no candidate; `questions`, int64, the response's question in [0, B).
    Per candidate, (B, G): `candidate_mask`, bool, true in a real slot; `ratings`, float32, higher is better, 0 in a
    padding slot; `initial_scores`, float32, nats per token before training, 0 in a padding slot, nan if not known.
    Per question, (B,): `padded_lengths`, int64, tokens of the prompt plus the longest candidate; `question_ids`, texts.
    """

    positions: Tensor
    targets: Tensor
    sequences: Tensor
    supervised: Tensor
    slots: Tensor
    questions: Tensor
    candidate_mask: Tensor
    ratings: Tensor
    initial_scores: Tensor
    padded_lengths: Tensor
    question_ids: list[str]


def pack(items: Sequence[Item], pad_id: int, layout: str) -> Batch:
    """The tensors of one batch, on the CPU. Raises `ValueError` if an item lacks some of its initial scores."""
    rows = [(item, index) for item in items for index in range(len(item.responses))]
    make = {SHARED: _shared, PACKED: _packed, PADDED: _padded}[layout]
    inputs, starts = make(items, pad_id)
    positions: list[int] = []
    targets: list[int] = []
    sequences: list[int] = []
    for number, ((item, index), (last_of_prompt, first)) in enumerate(zip(rows, starts, strict=True)):
        response = item.responses[index]
        mask = None if item.masks is None else item.masks[index]
        # the token before a response token predicts it
        predicting = [last_of_prompt, *range(first, first + len(response) - 1)][: len(response)]
        if mask is not None:
            predicting, response = [*compress(predicting, mask)], [*compress(response, mask)]
        positions += predicting
        targets += response
        sequences += [number] * len(response)
    ratings, candidate_mask, initial_scores, slots = _group_tensors(items)
    return {
        **inputs,
        "positions": torch.tensor(positions, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
        "sequences": torch.tensor(sequences, dtype=torch.long),
        "supervised": torch.tensor([item.supervised[index] for item, index in rows], dtype=torch.bool),
        "slots": slots,
        "questions": torch.tensor(
            [place for place, item in enumerate(items) for _ in item.responses], dtype=torch.long
        ),
        "candidate_mask": candidate_mask,
        "ratings": ratings,
        "initial_scores": initial_scores,
        "padded_lengths": torch.tensor([_padded_length(item) for item in items], dtype=torch.long),
        "question_ids": [item.question_id for item in items],
    }


Starts = list[tuple[int, int]]
"""For each response, the row-major positions of the prompt's last token and of the response's first token."""


class _Row:
    """Builds one row without padding."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.position_ids: list[int] = []
        self.lengths: list[int] = []
        self.prefixes: list[int] = []

    def add(self, tokens: list[int], *, prefix: int = -1) -> int:
        """Append a segment with this prefix and return its start in the row. Empty `tokens` add no segment."""
        start = len(self.tokens)
        if tokens:
            first = 0 if prefix < 0 else self.lengths[prefix]
            self.tokens += tokens
            self.position_ids += range(first, first + len(tokens))
            self.lengths.append(len(tokens))
            self.prefixes.append(prefix)
        return start

    def inputs(self) -> ModelInputs:
        return {
            "input_ids": torch.tensor([self.tokens], dtype=torch.long),
            "attention_mask": None,
            "position_ids": torch.tensor([self.position_ids], dtype=torch.long),
            "segments": Segments(tuple(self.lengths), tuple(self.prefixes)),
        }


def _shared(items: Sequence[Item], pad_id: int) -> tuple[ModelInputs, Starts]:
    row, starts = _Row(), []
    for item in items:
        if len(item.responses) == 1:
            # nothing to share: one segment for prompt and response needs only one attention call
            starts.append(_add_whole(row, item, 0))
            continue
        last_of_prompt = row.add(item.prompt_ids) + len(item.prompt_ids) - 1
        prompt = len(row.lengths) - 1
        starts += [(last_of_prompt, row.add(response[:-1], prefix=prompt)) for response in item.responses]
    return row.inputs(), starts


def _packed(items: Sequence[Item], pad_id: int) -> tuple[ModelInputs, Starts]:
    row = _Row()
    starts = [_add_whole(row, item, index) for item in items for index in range(len(item.responses))]
    return row.inputs(), starts


def _add_whole(row: _Row, item: Item, index: int) -> tuple[int, int]:
    first = row.add(item.prompt_ids + item.responses[index][:-1]) + len(item.prompt_ids)
    return first - 1, first


def _padded(items: Sequence[Item], pad_id: int) -> tuple[ModelInputs, Starts]:
    rows = [(item.prompt_ids, response) for item in items for response in item.responses]
    length = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(rows), length), dtype=torch.long)
    starts = []
    for row, (prompt, response) in enumerate(rows):
        tokens = prompt + response
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        attention_mask[row, : len(tokens)] = 1
        first = row * length + len(prompt)
        starts.append((first - 1, first))
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": torch.arange(length).expand(len(rows), length).clone(),
        "segments": None,
    }, starts


def _group_tensors(items: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ratings, candidate mask and initial scores, (B, G) each, and slots (N,): see `Batch`."""
    width = max(1, *(len(item.candidates) for item in items)) if items else 1
    ratings = torch.zeros(len(items), width)
    candidate_mask = torch.zeros(len(items), width, dtype=torch.bool)
    initial_scores = torch.zeros(len(items), width)
    slots: list[int] = []
    for row, item in enumerate(items):
        rated = [rating for rating in item.ratings if rating is not None]
        before = [math.nan] * len(rated) if item.initial_scores is None else item.initial_scores
        if len(before) != len(rated):
            raise ValueError(f"{item.question_id}: {len(rated)} candidates, but {len(before)} initial scores")
        ratings[row, : len(rated)] = torch.tensor(rated)
        candidate_mask[row, : len(rated)] = True
        initial_scores[row, : len(rated)] = torch.tensor(before)
        places = iter(range(row * width, (row + 1) * width))
        slots += [-1 if rating is None else next(places) for rating in item.ratings]
    return ratings, candidate_mask, initial_scores, torch.tensor(slots, dtype=torch.long)


def _padded_length(item: Item) -> int:
    return len(item.prompt_ids) + max((len(item.responses[index]) for index in item.candidates), default=0)
