"""Completions from a model: which are sampled together, with which random numbers, and as which text.

Randomness belongs to the item: every completion has its own seed, derived from what it is (purpose, run seed,
question, index), and draws its tokens from its own uniform numbers. So a completion does not depend on what it was
decoded with, and a cut run continues as if it had not been cut. (Shards are planned over all items and cut runs
repeat whole shards, because the last bits of logits can depend on what else is computed at the time.)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

CONTINUOUS, STATIC = "continuous", "static"

# A shard ends with a tail in which places stay free, and is repeated after a cut: longer wastes less of the one and
# more of the other.
_SHARD_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to sample. `seeds`: index of each completion that is wanted -> seed of its random numbers."""

    question_id: str
    prompt_ids: tuple[int, ...]
    seeds: Mapping[int, int]


def derive_seed(*parts: str | int) -> int:
    """A seed below 2**63 from what an item is; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_seeds(question_id: str, indices: Iterable[int], *parts: str | int) -> dict[int, int]:
    """The seeds of a question's completions, derived from `parts`, the question and the index."""
    return {index: derive_seed(*parts, question_id, index) for index in indices}


def plan_shards(requests: Sequence[Request], batch_size: int, batching: str) -> list[list[Request]]:
    """Requests divided into shards, each sampled by one process in one go; a question is never split.

    Prompts of similar length stand together. Static: at most `batch_size` completions, unless one question wants more.
    Continuous: as even as questions allow, about 8 times `batch_size` at most.
    """
    ordered = sorted(requests, key=lambda r: len(r.prompt_ids))  # stable: equal lengths keep their order
    sizes = [len(request.seeds) for request in ordered]
    total = sum(sizes)
    num_shards = -(-total // (_SHARD_BATCHES * batch_size))
    shards: list[list[Request]] = []
    before, filled = 0, 0
    for request, size in zip(ordered, sizes, strict=True):
        if batching == STATIC:
            opens = not shards or filled + size > batch_size
        else:
            opens = len(shards) <= before * num_shards // total
        if opens:
            shards.append([])
            filled = 0
        shards[-1].append(request)
        before, filled = before + size, filled + size
    return shards
