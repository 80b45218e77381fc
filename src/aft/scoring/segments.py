"""How one packed row is divided, and who sees whom in it.

Axes: `S` segments of the row. A question's prompt is one segment; each of its responses is another, whose prefix is the
prompt: a response sees the prompt's tokens and its own up to itself, as if it stood alone behind the prompt.
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
    """How a row is divided. Segment s covers `lengths[s]` tokens, right behind segment s - 1.

    prefixes[s] is the segment whose tokens stand before its own, as keys; -1 if none. A prefix has no prefix itself.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int, ...]
    _cache: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def prefix_length(self, segment: int) -> int:
        """Tokens before the segment's own."""
        prefix = self.prefixes[segment]
        return 0 if prefix < 0 else self.lengths[prefix]

    @functools.cached_property
    def _longest_prefix(self) -> int:
        # kept: asked for once a segment and layer, it would make a row of many segments quadratic
        return max(map(self.prefix_length, range(len(self.lengths))))

    def mask(self, segment: int, window: int | None, like: Tensor) -> Tensor:
        """Additive mask (length, prefix length + length): 0 where a query sees a key, -inf elsewhere.

        A cut-out of one band that all segments of the row share: who sees whom depends on the distance alone.
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

        The keys of a segment are its prefix's, then its own, gathered from the row.
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
            # made on the CPU and moved: a tensor made on a device waits for what that computes
            made = (torch.tensor(index), torch.tensor(starts, dtype=torch.int32), torch.tensor(ends, dtype=torch.int32))
            tensors = [tensor.to(device, non_blocking=True) for tensor in made]
            self._cache["varlen", device] = (*tensors, max(self.lengths), longest_keys)
        return self._cache["varlen", device]
