"""How one packed row is divided into segments, and which tokens attend to which.

Axes: `S` segments of the row. A question's prompt is one segment. Each response is another segment with the prompt as
its prefix. A response token attends to the prompt's tokens and to the response's tokens up to itself.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Segments:
    """How a row is divided. Segment s covers `lengths[s]` tokens and starts where segment s - 1 ends.

    prefixes[s] is the segment whose keys segment s attends to before its own; -1 if none. A prefix has no prefix.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int, ...]
    _cache: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def prefix_length(self, segment: int) -> int:
        """Number of tokens in the segment's prefix."""
        prefix = self.prefixes[segment]
        return 0 if prefix < 0 else self.lengths[prefix]

    @functools.cached_property
    def _longest_prefix(self) -> int:
        # cached: `mask` reads it once per segment and layer, which would be quadratic in the segments
        return max(map(self.prefix_length, range(len(self.lengths))))

    def mask(self, segment: int, window: int | None, like: Tensor) -> Tensor:
        """Additive mask (length, prefix length + length): 0 where a query attends to a key, -inf elsewhere.

        The mask depends only on distance, so all segments slice it from one cached band.
        """
        key = ("band", window, like.dtype, like.device)
        before = self._longest_prefix
        if key not in self._cache:
            longest = max(self.lengths)
            query = torch.arange(longest, device=like.device).unsqueeze(1)
            distance = query - torch.arange(-before, longest, device=like.device)  # (longest, before + longest)
            seen = (distance >= 0) & (distance < (window or 2**62))
            self._cache[key] = torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, -math.inf)
        length = self.lengths[segment]
        return self._cache[key][:length, before - self.prefix_length(segment) : before + length]

    def varlen(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """For one call over all segments: key index (keys,), ends of queries and keys (S + 1,) int32, longest of each.

        The keys of a segment are its prefix's keys, then its own. The key index gathers them from the row.
        """
        if ("varlen", device) not in self._cache:
            starts = [0]
            for length in self.lengths:
                starts.append(starts[-1] + length)
            index: list[int] = []
            ends = [0]
            for segment, prefix in enumerate(self.prefixes):
                if prefix >= 0:
                    index.extend(range(starts[prefix], starts[prefix + 1]))
                index.extend(range(starts[segment], starts[segment + 1]))
                ends.append(len(index))
            longest_keys = max(end - start for start, end in itertools.pairwise(ends))
            # Made on the CPU and copied: to make a tensor on the device would wait for its running work. Only the copy
            # of a very long row can still wait, because this memory is not pinned.
            made = (torch.tensor(index), torch.tensor(starts, dtype=torch.int32), torch.tensor(ends, dtype=torch.int32))
            tensors = [tensor.to(device, non_blocking=True) for tensor in made]
            self._cache["varlen", device] = (*tensors, max(self.lengths), longest_keys)
        return self._cache["varlen", device]
