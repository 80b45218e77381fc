"""Samples completions with a transformers model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..model import pad_id
from ..progress import say
from ..records import Completion
from .decoding import Decoding, Wanted, decode
from .requests import CONTINUOUS, STATIC, Request, plan_shards
from .slots import why_rows_cannot_join


def usable_batching(model: PreTrainedModel, batching: str) -> str:
    """`batching`, or static with a line that says why this model's rows cannot take each other's places."""
    reason = why_rows_cannot_join(model) if batching == CONTINUOUS else None
    if reason is None:
        return batching
    say(f"sampling: {type(model).__name__} runs each batch to its end, because {reason}")
    return STATIC


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
        pad=pad_id(tokenizer),
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
