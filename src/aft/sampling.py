"""Completions from a model: which are sampled together, with which random numbers, and as which text.

Randomness belongs to the item: every completion has its own seed, derived from what it is (purpose, run seed,
question, index), and draws its tokens from its own uniform numbers. So a completion does not depend on what it was
decoded with, and a cut run continues as if it had not been cut. (Shards are planned over all items and cut runs
repeat whole shards, because the last bits of logits can depend on what else is computed at the time.)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .decoding import Decoding, Wanted, decode
from .progress import say
from .records import Completion
from .slots import why_rows_cannot_join

CONTINUOUS, STATIC = "continuous", "static"

# A shard ends with a tail in which places stay free, and is repeated after a cut: longer wastes less of the one and
# more of the other.
_SHARD_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to sample: completions `indices` of it are wanted."""

    question_id: str
    prompt_ids: tuple[int, ...]
    indices: tuple[int, ...]


def derive_seed(*parts: str | int) -> int:
    """A seed below 2**63 from what an item is; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def usable_batching(model: PreTrainedModel, batching: str) -> str:
    """`batching`, or static with a line that says why this model's rows cannot take each other's places."""
    reason = why_rows_cannot_join(model) if batching == CONTINUOUS else None
    if reason is None:
        return batching
    say(f"sampling: {type(model).__name__} runs each batch to its end, because {reason}")
    return STATIC


def plan_shards(requests: Sequence[Request], batch_size: int, batching: str) -> list[list[Request]]:
    """Requests divided into shards, each sampled by one process in one go; a question is never split.

    Prompts of similar length stand together. Static: at most `batch_size` completions, unless one question wants more.
    Continuous: as even as questions allow, about 8 times `batch_size` at most.
    """
    ordered = sorted(requests, key=lambda r: len(r.prompt_ids))  # stable: equal lengths keep their order
    sizes = [len(request.indices) for request in ordered]
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


def sample_shard(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    shard: Sequence[Request],
    decoding: Decoding,
    *,
    seed_of: Callable[[str, int], int],
    batch_size: int,
    batching: str,
) -> Iterator[Completion]:
    """The completions of one shard as they finish.

    `seed_of(question_id, index)` is the seed of a completion. Uses the model as it is: in evaluation mode, please.
    """
    keys = [(request, index) for request in shard for index in request.indices]
    seeds = [seed_of(request.question_id, index) for request, index in keys]
    ends = _end_ids(model, tokenizer)
    finished = decode(
        model,
        [Wanted(request.prompt_ids, seed) for (request, _), seed in zip(keys, seeds, strict=True)],
        decoding,
        ends=ends,
        pad=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        slots=batch_size,
        continuous=batching == CONTINUOUS,
    )
    for place, tokens in finished:
        (request, index), ended = keys[place], tokens[-1] in ends
        # as it was written: some tokenizers are told to tidy up spaces, and then the text would encode to other tokens
        text = tokenizer.decode(
            tokens[:-1] if ended else tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        yield Completion(request.question_id, index, text, not ended, len(tokens), seeds[place])


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    seed_of: Callable[[str, int], int],
    batch_size: int,
    batching: str = CONTINUOUS,
) -> Iterator[Completion]:
    """All completions, in the order in which they finish."""
    batching = usable_batching(model, batching)
    for shard in plan_shards(requests, batch_size, batching):
        yield from sample_shard(
            model, tokenizer, shard, decoding, seed_of=seed_of, batch_size=batch_size, batching=batching
        )


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = [ids] if isinstance(ids, int) else list(ids or [])
    return frozenset({*ids, tokenizer.eos_token_id})
