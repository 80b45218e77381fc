"""Completions from a model: a batch of prompts is read once, each prompt's samples share it, finished rows leave.

Randomness belongs to the item: every completion has its own seed, derived from what it is (purpose, run seed,
question, index), and draws its tokens from its own uniform numbers. So a completion does not depend on what it was
batched with, and a cut run continues as if it had not been cut. (Batches are planned over all items and cut runs
repeat whole batches, because the last bits of logits can depend on a batch's shape.)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from .errors import ConfigError
from .records import Completion

# Compacting the cache costs about a step, so rows leave in bulk.
_LEAVE_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to sample: completions `indices` of it are wanted."""

    question_id: str
    prompt_ids: tuple[int, ...]
    indices: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. temperature 0 is greedy; top_p keeps the smallest set of tokens with that probability."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


def derive_seed(*parts: str | int) -> int:
    """A seed below 2**63 from what an item is; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def plan_batches(requests: Sequence[Request], batch_size: int) -> list[list[Request]]:
    """Requests with prompts of similar length together, at most `batch_size` completions a batch, a question unsplit.

    A question with more completions than `batch_size` has a batch of its own.
    """
    batches: list[list[Request]] = []
    filled = 0
    for request in sorted(requests, key=lambda r: len(r.prompt_ids)):  # stable: equal lengths keep their order
        if not batches or filled + len(request.indices) > batch_size:
            batches.append([])
            filled = 0
        batches[-1].append(request)
        filled += len(request.indices)
    return batches


def sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Request],
    decoding: Decoding,
    seed_of: Callable[[str, int], int],
) -> list[Completion]:
    """The completions of one batch, in the order of its requests and their indices.

    `seed_of(question_id, index)` is the seed of a completion. Uses the model as it is: in evaluation mode, please.
    """
    keys = [(request.question_id, index) for request in batch for index in request.indices]
    seeds = [seed_of(*key) for key in keys]
    uniforms = _uniforms(seeds, decoding) if decoding.temperature > 0 else None
    tokens = _generate(model, tokenizer, batch, decoding, uniforms)
    completions = []
    for (question_id, index), seed, row in zip(keys, seeds, tokens, strict=True):
        ended = bool(row) and row[-1] in _end_ids(model, tokenizer)
        # as it was written: some tokenizers are told to tidy up spaces, and then the text would encode to other tokens
        text = tokenizer.decode(
            row[:-1] if ended else row, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        completions.append(Completion(question_id, index, text, not ended, len(row), seed))
    return completions


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    seed_of: Callable[[str, int], int],
    batch_size: int,
) -> Iterator[list[Completion]]:
    """Completions batch by batch."""
    for batch in plan_batches(requests, batch_size):
        yield sample_batch(model, tokenizer, batch, decoding, seed_of)


def _uniforms(seeds: Sequence[int], decoding: Decoding) -> Tensor:
    """(rows, max_new_tokens) float64 in [0, 1): a row's numbers come from its own seed, on the CPU on every machine."""
    rows = [
        torch.rand(decoding.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = [ids] if isinstance(ids, int) else list(ids or [])
    return {*ids, tokenizer.eos_token_id}


@torch.inference_mode()
def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Request],
    decoding: Decoding,
    uniforms: Tensor | None,
) -> list[list[int]]:
    """Token ids of every completion, end token included where it was reached."""
    device = model.device
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    ends = torch.tensor(sorted(_end_ids(model, tokenizer)), device=device)
    length = max(len(request.prompt_ids) for request in batch)
    # left padding: the last column is every prompt's last token
    input_ids = torch.tensor([[pad] * (length - len(r.prompt_ids)) + list(r.prompt_ids) for r in batch], device=device)
    mask = torch.tensor([[0] * (length - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch], device=device)
    cache = DynamicCache(config=model.config)
    logits = _step(model, input_ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
    copies = torch.tensor([row for row, r in enumerate(batch) for _ in r.indices], device=device)
    cache.reorder_cache(copies)  # not batch_select_indices: some layers then leave a state of theirs as it was
    logits, mask = logits[copies], mask[copies]
    next_position = mask.sum(-1, keepdim=True)

    rows = len(copies)
    uniforms = None if uniforms is None else uniforms.to(device)
    alive = torch.arange(rows, device=device)  # the rows that are still in the cache
    finished = torch.zeros(rows, dtype=torch.bool, device=device)  # of those
    output = torch.full((rows, decoding.max_new_tokens), -1, dtype=torch.long, device=device)
    for step in range(decoding.max_new_tokens):
        chosen = _choose(logits, decoding, None if uniforms is None else uniforms[alive, step])
        output[alive, step] = torch.where(finished, -1, chosen)
        finished = finished | torch.isin(chosen, ends)
        if finished.all() or step + 1 == decoding.max_new_tokens:
            break
        if finished.float().mean() >= _LEAVE_FRACTION:
            keep = (~finished).nonzero().squeeze(-1)
            cache.reorder_cache(keep)
            alive, mask, next_position, chosen = alive[keep], mask[keep], next_position[keep], chosen[keep]
            finished = finished[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
        logits = _step(model, chosen.unsqueeze(-1), mask, next_position, cache)
        next_position = next_position + 1
    return [[token for token in row if token >= 0] for row in output.tolist()]


def _step(model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    """Logits (rows, V) float32 of the next token, after reading `input_ids` into the cache."""
    result = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if result.get("past_key_values") is not cache:
        raise ConfigError(
            f"model: {type(model).__name__} does not use transformers' cache, so it cannot be sampled here"
        )
    return result.logits[:, -1].float()


def _choose(logits: Tensor, decoding: Decoding, uniforms: Tensor | None) -> Tensor:
    """Next tokens (rows,): the likeliest, or drawn by inverting the distribution function at `uniforms` (rows,)."""
    if uniforms is None:
        return logits.argmax(dim=-1)
    probabilities = (logits / decoding.temperature).softmax(dim=-1).double()
    if decoding.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= decoding.top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
    cumulative = probabilities.cumsum(dim=-1)
    # the first token whose cumulative probability exceeds the number; one of probability 0 never does
    threshold = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)
