"""Which questions make a step, who computes which, and what goes into one model call: a budget of tokens.

A step holds the same questions however it is divided among ranks and calls. A question is never split.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TypedDict

import torch
from torch.utils.data import DataLoader, Dataset

from .packing import PADDED, SHARED, Batch, Entry, Item, pack

Part = list[int]
"""Indices of the entries of one model call; -1 - i is entry i as a filler."""


class Calls(TypedDict):
    """A rank's batch of questions. `parts`: one for each model call; `input_ids`: (tokens,), int64, all they read."""

    parts: list[Batch]
    input_ids: torch.Tensor  # transformers counts tokens by it


@dataclasses.dataclass
class Packer:
    """How entries become batches. The layout is found out on the model; the loaders that are there follow.

    `max_tokens` is the budget of one call: tokens that the model reads, padding included; None: no limit.
    """

    pad_id: int
    layout: str = PADDED
    max_tokens: int | None = None

    def parts(self, entries: Sequence[Entry], indices: Sequence[int]) -> list[Part]:
        """The indices in calls within the budget, longest first; an entry above the budget has a call of its own."""
        if self.max_tokens is None or not indices:
            return [list(indices)] if indices else []
        parts: list[Part] = []
        sizes: list[_Size] = []
        for size, index in sorted(((self.size(entries[i]), i) for i in indices), key=lambda found: -found[0].tokens):
            for number, so_far in enumerate(sizes):
                if (so_far + size).cost(self.layout) <= self.max_tokens:
                    parts[number].append(index)
                    sizes[number] = so_far + size
                    break
            else:
                parts.append([index])
                sizes.append(size)
        return parts

    def size(self, entry: Entry) -> _Size:
        """What one entry adds to a call."""
        lengths = [len(item.prompt_ids) + len(response) for item in entry for response in item.responses]
        repeated = sum(lengths) - len(lengths)
        tokens = sum(map(unique_tokens, entry)) if self.layout == SHARED else repeated
        return _Size(len(lengths), max(lengths), tokens)

    def pack(self, entries: Sequence[Entry]) -> Batch:
        """The tensors of one call."""
        return pack([item for entry in entries for item in entry], self.pad_id, self.layout)


def unique_tokens(item: Item) -> int:
    """Tokens of a question that the model must read: its prompt once, each response but for its last token."""
    return len(item.prompt_ids) + sum(len(response) - 1 for response in item.responses)


@dataclasses.dataclass(frozen=True)
class _Size:
    rows: int
    longest: int
    tokens: int

    def __add__(self, other: _Size) -> _Size:
        return _Size(self.rows + other.rows, max(self.longest, other.longest), self.tokens + other.tokens)

    def cost(self, layout: str) -> int:
        """Tokens that the model reads."""
        return self.rows * self.longest if layout == PADDED else self.tokens


class PartDataset(Dataset):
    """The entries of a part; index -1 - i is entry i as a filler."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, part: Part) -> list[Entry]:
        return [
            self.entries[index] if index >= 0 else tuple(item.filler() for item in self.entries[-1 - index])
            for index in part
        ]


class StepSampler:
    """Batches of entry indices for one rank, such that an optimizer step holds the same entries however it is divided.

    Every epoch has its own seeded order. It is cut into chunks of `batch_size * num_ranks`; each rank takes its part
    of each chunk, balanced by tokens, and computes it in one or more calls of the model. No entry is dropped or
    repeated. All ranks must take part in every call: one that has fewer than another gets fillers.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        packer: Packer,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.entries, self.packer, self.batch_size, self.seed = entries, packer, batch_size, seed
        self.rank, self.num_ranks, self.shuffle = rank, num_ranks, shuffle
        self.epoch = 0
        # transformers reaches `batch_sampler.batch_sampler.set_epoch` through accelerate's wrappers
        self.batch_sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.entries) / (self.batch_size * self.num_ranks))

    def __iter__(self) -> Iterator[list[Part]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(len(self.entries), generator=generator).tolist()
        else:
            order = list(range(len(self.entries)))
        chunk = self.batch_size * self.num_ranks
        for start in range(0, len(order), chunk):
            ranks = [self.packer.parts(self.entries, mine) for mine in self._shares(order[start : start + chunk])]
            lacking = max(len(parts) for parts in ranks) - len(ranks[self.rank])
            yield ranks[self.rank] + ([[self._filler(order[start : start + chunk])]] * lacking if lacking else [])

    def _filler(self, indices: list[int]) -> int:
        return -1 - min(indices, key=lambda index: self.packer.size(self.entries[index]).tokens)

    def _shares(self, indices: list[int]) -> list[list[int]]:
        """One list for each rank, as equal in tokens as giving the longest to the one with least makes them."""
        if self.num_ranks == 1:
            return [indices]
        shares: list[list[int]] = [[] for _ in range(self.num_ranks)]
        loads = [0] * self.num_ranks
        sizes = {index: self.packer.size(self.entries[index]).tokens for index in indices}
        for index in sorted(indices, key=lambda i: -sizes[i]):
            rank = loads.index(min(loads))
            shares[rank].append(index)
            loads[rank] += sizes[index]
        return shares


def entry_loader(sampler: StepSampler, *, pin_memory: bool = False) -> DataLoader:
    """A loader of a rank's `Calls`. `pin_memory`: copies to a GPU then need not wait for what it computes."""
    return DataLoader(
        PartDataset(sampler.entries),
        batch_sampler=sampler,
        collate_fn=functools.partial(_collate, packer=sampler.packer),
        pin_memory=pin_memory,
        # a loader draws a seed for its workers: from the global generator, each pass would change the dropout after it
        generator=torch.Generator(),
    )


def _collate(parts: Sequence[Sequence[Entry]], *, packer: Packer) -> Calls:
    packed = [packer.pack(entries) for entries in parts]
    return {"parts": packed, "input_ids": torch.cat([part["input_ids"].flatten() for part in packed])}
