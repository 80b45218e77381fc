"""Which completions are sampled, with which seeds, and which are sampled together.

Every completion has a seed of its own, derived from its purpose, the run's seed, its question and its index. So its
random numbers do not depend on what is sampled beside it, and an interrupted run resumes with the same ones. The last
bits of logits do depend on that: so shards are planned over all requests, and repeated whole after a cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from ..records import Prefix

CONTINUOUS, STATIC = "continuous", "static"

# Length of a shard. At its end slots stay free, so longer shards waste less. After a cut a shard is sampled again, so
# longer shards lose more.
_SHARD_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to sample. `seeds`: index of each completion that is wanted -> seed of its random numbers.

    With `prefix`, the last `prefix.tokens` of `prompt_ids` are the beginning of another completion of the question. The
    completions begin with these ids, and they are no longer than a completion of the question alone.
    """

    question_id: str
    prompt_ids: tuple[int, ...]
    seeds: Mapping[int, int]
    prefix: Prefix | None = None

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The ids with which every completion begins."""
        return self.prompt_ids[len(self.prompt_ids) - self.prefix.tokens :] if self.prefix else ()

    def most_new(self, limit: int) -> int:
        """The most tokens to sample, where a completion has at most `limit` tokens."""
        return max(1, limit - self.prefix.tokens) if self.prefix else limit


def derive_seed(*parts: str | int) -> int:
    """A seed below 2**63; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_seeds(question_id: str, indices: Iterable[int], *parts: str | int) -> dict[int, int]:
    """The seeds of a question's completions, derived from `parts`, the question and the index."""
    return {index: derive_seed(*parts, question_id, index) for index in indices}


def plan_shards(requests: Sequence[Request], batch_size: int, batching: str) -> list[list[Request]]:
    """Requests divided into shards, each sampled by one process in one go. A request is never split.

    Prompts of similar length stand together. Static: at most `batch_size` completions, unless one request has more.
    Continuous: shards are about equal, of at most about 8 times `batch_size` completions.
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
