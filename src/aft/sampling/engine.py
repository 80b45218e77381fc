"""What samples completions: the interface between the stages and a sampling library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..records import Completion
from .decoding import Decoding
from .requests import Request


class Engine(Protocol):
    """Samples completions from one model. It knows nothing of files, processes or earlier runs.

    A shard is what one process samples in one go, and samples again whole if a cut left it unfinished. An engine whose
    completions do not depend on their neighbours makes a shard of every completion: only what is missing is then
    sampled again.
    """

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """All of `requests`, divided into shards. The same requests always give the same shards."""
        ...

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Completion]:
        """Every completion of the shards, each as soon as it is finished, in any order."""
        ...
