"""Tokenised questions -> the tensors of one model call. Nothing above this module knows how a batch is laid out.

Axes: `N` responses in the batch, `R` response tokens in the batch, `T` tokens of a row, `B` questions,
`G` candidate slots per question.

A batch is described by flat indices, so that every layout is scored by the same code: response token `r` has the id
`targets[r]`, is predicted at row-major position `positions[r]` of the model's output and belongs to response
`sequences[r]`. Three layouts:

- `shared`: one row without padding in which each question stands once, followed by its responses. The last token of a
  response predicts nothing and is left out; the last token of a prompt predicts the first of every response.
- `packed`: one row without padding, the question repeated before each of its responses.
- `padded`: a row for each (question, response), padded to the longest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from .segments import Segments

SHARED, PACKED, PADDED = LAYOUTS = ("shared", "packed", "padded")


@dataclasses.dataclass(frozen=True)
class Item:
    """One question as the trainer sees it: a prompt, its responses, and what each response is for.

    responses[i] are the token ids of response i, end token included; supervised[i] says that it is in L_VFT;
    ratings[i] is its rating as a candidate (higher is better), None if it is no candidate.
    """

    question_id: str
    prompt_ids: list[int]
    responses: list[list[int]]
    supervised: list[bool]
    ratings: list[float | None]

    def filler(self) -> Item:
        """The same tokens without any part in a loss: what a rank computes when the data has run out."""
        return dataclasses.replace(self, supervised=[False] * len(self.responses), ratings=[None] * len(self.responses))

    @property
    def candidates(self) -> list[int]:
        """Indices of the responses that are candidates of the group, in slot order."""
        return [index for index, rating in enumerate(self.ratings) if rating is not None]


Entry = tuple[Item, ...]
"""What one draw from the data brings into a step: a question, and beside it a borrowed reference if it has none."""


def pack(items: Sequence[Item], pad_id: int, layout: str) -> dict[str, Any]:
    """The tensors of one batch.

    Returns a flat dict: the model's `input_ids`, `attention_mask` and `position_ids`, int64, each (N, T) if padded,
    else (1, T) with an `attention_mask` of None and the row's `segments`; `positions`, `targets`, `sequences`, each
    (R,) int64; `supervised` (N,) bool; `slots` (N,) int64, the row-major place of a response in (B, G), -1 if it is no
    candidate; `ratings` (B, G) float32 and `candidate_mask` (B, G) bool; `padded_lengths` (B,) int64, the tokens of a
    question's prompt with its longest candidate; `question_ids`, a list of B.
    """
    rows = [(item, index) for item in items for index in range(len(item.responses))]
    make = {SHARED: _shared, PACKED: _packed, PADDED: _padded}[layout]
    inputs, starts = make(items, pad_id)
    positions: list[int] = []
    targets: list[int] = []
    sequences: list[int] = []
    for number, ((item, index), (last_of_prompt, first)) in enumerate(zip(rows, starts, strict=True)):
        response = item.responses[index]
        # the token before a response token predicts it
        positions += [last_of_prompt, *range(first, first + len(response) - 1)][: len(response)]
        targets += response
        sequences += [number] * len(response)
    return {
        **inputs,
        "positions": torch.tensor(positions, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
        "sequences": torch.tensor(sequences, dtype=torch.long),
        "supervised": torch.tensor([item.supervised[index] for item, index in rows], dtype=torch.bool),
        **_group_tensors(items),
        "question_ids": [item.question_id for item in items],
    }


Starts = list[tuple[int, int]]
"""For each response, the row-major positions of its prompt's last token and of its own first."""


class _Row:
    """One row without padding, while it is filled."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.position_ids: list[int] = []
        self.lengths: list[int] = []
        self.prefixes: list[int] = []

    def add(self, tokens: list[int], *, prefix: int = -1) -> int:
        """Append a segment behind `prefix`; returns where in the row it begins. An empty one takes no segment."""
        start = len(self.tokens)
        if tokens:
            first = 0 if prefix < 0 else self.lengths[prefix]
            self.tokens += tokens
            self.position_ids += range(first, first + len(tokens))
            self.lengths.append(len(tokens))
            self.prefixes.append(prefix)
        return start

    def inputs(self) -> dict[str, Any]:
        return {
            "input_ids": torch.tensor([self.tokens], dtype=torch.long),
            "attention_mask": None,
            "position_ids": torch.tensor([self.position_ids], dtype=torch.long),
            "segments": Segments(tuple(self.lengths), tuple(self.prefixes)),
        }


def _shared(items: Sequence[Item], pad_id: int) -> tuple[dict[str, Any], Starts]:
    row, starts = _Row(), []
    for item in items:
        if len(item.responses) == 1:
            # nothing to share: one segment is one attention call
            starts.append(_add_whole(row, item, 0))
            continue
        last_of_prompt = row.add(item.prompt_ids) + len(item.prompt_ids) - 1
        prompt = len(row.lengths) - 1
        starts += [(last_of_prompt, row.add(response[:-1], prefix=prompt)) for response in item.responses]
    return row.inputs(), starts


def _packed(items: Sequence[Item], pad_id: int) -> tuple[dict[str, Any], Starts]:
    row = _Row()
    starts = [_add_whole(row, item, index) for item in items for index in range(len(item.responses))]
    return row.inputs(), starts


def _add_whole(row: _Row, item: Item, index: int) -> tuple[int, int]:
    first = row.add(item.prompt_ids + item.responses[index][:-1]) + len(item.prompt_ids)
    return first - 1, first


def _padded(items: Sequence[Item], pad_id: int) -> tuple[dict[str, Any], Starts]:
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
    }, starts


def _group_tensors(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    width = max(1, *(len(item.candidates) for item in items)) if items else 1
    ratings = torch.zeros(len(items), width)
    candidate_mask = torch.zeros(len(items), width, dtype=torch.bool)
    slots: list[int] = []
    for row, item in enumerate(items):
        of_response = {response: slot for slot, response in enumerate(item.candidates)}
        for response, rating in enumerate(item.ratings):
            slot = of_response.get(response)
            slots.append(-1 if slot is None else row * width + slot)
            if slot is not None and rating is not None:
                ratings[row, slot] = rating
                candidate_mask[row, slot] = True
    longest = [max((len(item.responses[i]) for i in item.candidates), default=0) for item in items]
    padded = [len(item.prompt_ids) + length for item, length in zip(items, longest, strict=True)]
    return {
        "slots": torch.tensor(slots, dtype=torch.long),
        "ratings": ratings,
        "candidate_mask": candidate_mask,
        "padded_lengths": torch.tensor(padded, dtype=torch.long),
    }
