"""Tokenised questions -> the tensors of one model call. Nothing above this module knows how a batch is laid out.

Axes: `N` responses in the batch, `R` response tokens in the batch, `T` tokens after padding, `B` questions,
`G` candidate slots per question.

A batch is described by flat indices, so that every layout is scored by the same code: response token `r` has the id
`targets[r]`, is predicted at row-major position `positions[r]` of the model's output and belongs to response
`sequences[r]`. The layout here is the padded one, a row for each (question, response).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


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


class EntryDataset(Dataset):
    """Entries by index; index -1 - i is entry i as a filler."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index] if index >= 0 else tuple(item.filler() for item in self.entries[-1 - index])


class StepSampler:
    """Batches of entry indices for one rank, such that an optimizer step holds the same entries however it is divided.

    Every epoch has its own seeded order. It is cut into chunks of `batch_size * num_ranks`; each rank takes its part
    of each chunk. No entry is dropped or repeated: a rank for which nothing is left in the last chunk gets a filler,
    because all ranks must take part in every forward pass.
    """

    def __init__(
        self,
        num_entries: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.num_entries, self.batch_size, self.seed = num_entries, batch_size, seed
        self.rank, self.num_ranks, self.shuffle = rank, num_ranks, shuffle
        self.epoch = 0
        # transformers reaches `batch_sampler.batch_sampler.set_epoch` through accelerate's wrappers
        self.batch_sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.num_entries / (self.batch_size * self.num_ranks))

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_entries, generator=generator).tolist()
        else:
            order = list(range(self.num_entries))
        chunk = self.batch_size * self.num_ranks
        for start in range(0, self.num_entries, chunk):
            mine = order[start : start + chunk][self.rank :: self.num_ranks]
            yield mine or [-1 - order[start]]


def entry_loader(
    entries: Sequence[Entry], sampler: StepSampler, pad_id: int, *, pin_memory: bool = False
) -> DataLoader:
    """A loader of packed batches over a rank's part of the entries."""
    return DataLoader(
        EntryDataset(entries),
        batch_sampler=sampler,
        collate_fn=functools.partial(_pack_entries, pad_id=pad_id),
        pin_memory=pin_memory,
        # a loader draws a seed for its workers: from the global generator, each pass would change the dropout after it
        generator=torch.Generator(),
    )


def _pack_entries(entries: Sequence[Entry], *, pad_id: int) -> dict[str, Any]:
    return pack([item for entry in entries for item in entry], pad_id)


def pack(items: Sequence[Item], pad_id: int) -> dict[str, Any]:
    """The tensors of one batch.

    Returns a flat dict: the model's `input_ids`, `attention_mask`, `position_ids`, each (N, T) int64; `positions`,
    `targets`, `sequences`, each (R,) int64; `supervised` (N,) bool; `slots` (N,) int64, the row-major place of a
    response in (B, G), -1 if it is no candidate; `ratings` (B, G) float32 and `candidate_mask` (B, G) bool;
    `question_ids`, a list of B.
    """
    rows = [(item, index) for item in items for index in range(len(item.responses))]
    length = max(len(item.prompt_ids) + len(item.responses[index]) for item, index in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(rows), length), dtype=torch.long)
    positions: list[int] = []
    targets: list[int] = []
    sequences: list[int] = []
    for row, (item, index) in enumerate(rows):
        response = item.responses[index]
        tokens = item.prompt_ids + response
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        attention_mask[row, : len(tokens)] = 1
        # the token before a response token predicts it
        first = row * length + len(item.prompt_ids) - 1
        positions.extend(range(first, first + len(response)))
        targets.extend(response)
        sequences.extend([row] * len(response))
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": torch.arange(length).expand(len(rows), length).clone(),
        "positions": torch.tensor(positions, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
        "sequences": torch.tensor(sequences, dtype=torch.long),
        "supervised": torch.tensor([item.supervised[index] for item, index in rows], dtype=torch.bool),
        **_group_tensors(items),
        "question_ids": [item.question_id for item in items],
    }


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
    return {"slots": torch.tensor(slots, dtype=torch.long), "ratings": ratings, "candidate_mask": candidate_mask}
