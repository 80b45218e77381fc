"""Divides questions into optimizer steps, ranks and model calls. A token budget limits each call.

A step holds the same questions for any number of ranks and calls. A question is never split.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import torch
from torch.utils.data import DataLoader, Dataset

from .packing import PADDED, SHARED, Batch, Entry, Item, pack

Part = list[int]
"""Indices of the entries of one model call; -1 - i is entry i as a filler."""


class Calls(TypedDict):
    """A rank's batch of questions. `parts`: one per model call; `input_ids`: (tokens,), int64, inputs of all parts."""

    parts: list[Batch]
    input_ids: torch.Tensor  # transformers counts tokens with it


@dataclasses.dataclass
class Packer:
    """Turns entries into batches. `layout` is set once the model is placed; loaders made earlier see the change.

    `max_tokens` is the budget of one call in tokens that the model reads, padding included; None: no limit.
    """

    pad_id: int
    layout: str = PADDED
    max_tokens: int | None = None

    def parts(self, entries: Sequence[Entry], indices: Sequence[int]) -> list[Part]:
        """Splits the indices into calls within the budget, longest first. A larger entry gets its own call."""
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
        """The size that one entry adds to a call."""
        lengths = [len(item.prompt_ids) + len(response) for item in entry for response in item.responses]
        repeated = sum(lengths) - len(lengths)
        tokens = sum(map(unique_tokens, entry)) if self.layout == SHARED else repeated
        return _Size(len(lengths), max(lengths), tokens)

    def pack(self, entries: Sequence[Entry]) -> Batch:
        """The tensors of one call."""
        return pack([item for entry in entries for item in entry], self.pad_id, self.layout)


def unique_tokens(item: Item) -> int:
    """Tokens of a question that the model must read: the prompt once, each response without its last token."""
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
    """Maps a part to its entries; index -1 - i gives entry i as a filler."""

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
    """Yields batches of entry indices for one rank. A step holds the same entries however it is divided into calls.

    Every epoch has its own seeded order, cut into chunks of `batch_size * num_ranks`. Ranks share the `accumulation`
    chunks of an optimizer step so that each has equally many tokens, in the step and in each of its batches. A rank
    computes a batch in one or more model calls. No entry is dropped or repeated. All ranks must take part in every
    call, so a rank with fewer calls gets fillers.
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
        accumulation: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.entries, self.packer, self.batch_size, self.seed = entries, packer, batch_size, seed
        self.rank, self.num_ranks, self.accumulation, self.shuffle = rank, num_ranks, accumulation, shuffle
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
        for start in range(0, len(order), chunk * self.accumulation):
            step = order[start : start + chunk * self.accumulation]
            for batches in self._batches(step, math.ceil(len(step) / chunk)):
                ranks = [self.packer.parts(self.entries, mine) for mine in batches]
                lacking = max(len(parts) for parts in ranks) - len(ranks[self.rank])
                yield ranks[self.rank] + ([[self._filler(step)]] * lacking if lacking else [])

    def _filler(self, indices: list[int]) -> int:
        return -1 - min(indices, key=lambda index: self.packer.size(self.entries[index]).tokens)

    def _batches(self, step: list[int], count: int) -> list[list[list[int]]]:
        """Deals a step's entries into `count` batches, each with a list per rank."""
        if self.num_ranks == 1:
            return [[step[start : start + self.batch_size]] for start in range(0, len(step), self.batch_size)]
        sizes = {index: self.packer.size(self.entries[index]).tokens for index in step}
        ranks = [_deal(mine, count, sizes) for mine in _deal(step, self.num_ranks, sizes)]
        return [list(batches) for batches in zip(*ranks, strict=True)]


def _deal(indices: list[int], hands: int, sizes: Mapping[int, int]) -> list[list[int]]:
    """One list per hand, balanced by size: the largest entries first, each to the hand with the least so far."""
    shares: list[list[int]] = [[] for _ in range(hands)]
    loads = [(0, hand) for hand in range(hands)]
    for index in sorted(indices, key=lambda i: -sizes[i]):
        load, hand = heapq.heappop(loads)
        shares[hand].append(index)
        heapq.heappush(loads, (load + sizes[index], hand))
    return shares


def entry_loader(sampler: StepSampler, *, pin_memory: bool = False) -> DataLoader:
    """A loader of a rank's `Calls`. With `pin_memory`, copies to a GPU do not wait for the GPU's running work."""
    return DataLoader(
        PartDataset(sampler.entries),
        batch_sampler=sampler,
        collate_fn=functools.partial(_collate, packer=sampler.packer),
        pin_memory=pin_memory,
        # its own generator: drawing the workers' seed from the global one would change later dropout
        generator=torch.Generator(),
    )


def _collate(parts: Sequence[Sequence[Entry]], *, packer: Packer) -> Calls:
    packed = [packer.pack(entries) for entries in parts]
    return {"parts": packed, "input_ids": torch.cat([part["input_ids"].flatten() for part in packed])}
