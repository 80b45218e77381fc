"""The sampling loop. A prompt is computed once for all its completions.

Continuous batching: the next completion takes the slot of a finished one. Static batching: all completions start
together, and the batch runs until the last one ends. In both, finished rows leave the cache once nothing waits.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from ..errors import AftError, ConfigError
from .slots import SlotCache

# Prompts are read when this share of the slots is free, because reading them costs about as much as a step. Rows leave
# when this share is finished, because leaving copies the cache.
_JOIN_FRACTION = 1 / 16
_LEAVE_FRACTION = 1 / 8

NOT_FINITE = -1
"""In place of a token: the model's logits are not finite."""


class NotFiniteLogits(AftError):
    """A model's logits are nan or inf, so no token can be chosen."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. Temperature 0 is greedy; `top_p` keeps the smallest set of tokens of that probability."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The ids that can be chosen: those below `size` except `holes` (H,), int64. All others have no token."""

    size: int
    holes: Tensor

    def only(self, logits: Tensor) -> Tensor:
        """Logits (rows, size) of `logits` (rows, V), in which holes have probability 0."""
        kept = logits[:, : self.size]
        return kept.index_fill(-1, self.holes, -torch.inf) if len(self.holes) else kept


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One completion: its prompt, and the seed of its random numbers.

    `max_new_tokens`: at most that of the decoding; None: that of the decoding.
    """

    prompt_ids: tuple[int, ...]
    seed: int
    max_new_tokens: int | None = None


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    wanted: Sequence[Wanted],
    decoding: Decoding,
    *,
    ends: frozenset[int],
    pad: int,
    slots: int | None,
    vocabulary: Vocabulary | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """Yields (place in `wanted`, token ids) of every completion, in the order of finishing.

    The token ids include the one of `ends` that ended them; without it the length limit did. Completions of one prompt
    stand together in `wanted`. With `slots`, batching is continuous and at most so many rows are decoded at once;
    None: static, all rows together. `vocabulary`: the ids that can be chosen; None: all. Memory: a cache of these rows,
    64 columns wider than the longest unfinished one, and the cache of the prompts read last until all their
    completions have begun. Raises `NotFiniteLogits` where the model's logits are.
    """
    rows = _Rows(model, wanted, decoding, ends, pad, slots, vocabulary)
    while rows.waiting or rows.num_live:
        if rows.may_join():
            yield from rows.join()
        elif rows.should_leave():
            rows.leave()
        else:
            yield from rows.step()


@dataclasses.dataclass
class _Prompts:
    """P prompts that were read: their cache of `columns`, logits (P, V) of the next token, and each prompt's row."""

    cache: Cache
    columns: int
    logits: Tensor
    rows: dict[tuple[int, ...], int]


class _Rows:
    """The state of the loop: which completion has which row (slot) of the cache, and the tokens written so far."""

    def __init__(
        self,
        model: PreTrainedModel,
        wanted: Sequence[Wanted],
        decoding: Decoding,
        ends: frozenset[int],
        pad: int,
        slots: int | None,
        vocabulary: Vocabulary | None,
    ) -> None:
        self.vocabulary = vocabulary
        self.model, self.wanted, self.decoding = model, wanted, decoding
        self.ends, self.pad, self.continuous = ends, pad, slots is not None
        self.waiting = deque(range(len(wanted)))
        self.prompts: _Prompts | None = None
        self.cache: Cache | None = None
        self.columns = 0  # of the cache
        size = len(wanted) if slots is None else min(slots, len(wanted))
        self.owners: list[int | None] = [None] * size
        self.written: dict[int, list[int]] = {}
        # state of each row on the device
        self.tokens = torch.zeros(size, dtype=torch.long, device=model.device)  # chosen last, not yet in the cache
        self.positions = torch.zeros_like(self.tokens)  # of `tokens` in their rows
        self.drawn = torch.zeros_like(self.tokens)  # how many of the row's uniform numbers are used
        self.moving = torch.zeros_like(self.tokens)  # 1 until the row is finished, then 0
        numbers = decoding.max_new_tokens if decoding.temperature > 0 else 1
        self.uniforms = torch.zeros(size, numbers, dtype=torch.float64, device=model.device)

    @property
    def num_live(self) -> int:
        """How many rows are unfinished."""
        return len(self.owners) - self.owners.count(None)

    def may_join(self) -> bool:
        """Whether completions wait and enough slots are free to read their prompts."""
        free = self.owners.count(None)
        enough = max(1, int(_JOIN_FRACTION * len(self.owners))) if self.continuous else len(self.owners)
        return bool(self.waiting) and free >= min(enough, len(self.waiting))

    def should_leave(self) -> bool:
        """Whether no completion waits and enough rows are finished to copy the cache without them."""
        return not self.waiting and self.owners.count(None) >= max(1, _LEAVE_FRACTION * len(self.owners))

    def join(self) -> Iterator[tuple[int, list[int]]]:
        """Begin waiting completions in the free slots, and choose their first tokens."""
        free = [slot for slot, owner in enumerate(self.owners) if owner is None]
        while free and self.waiting:
            if self.prompts is None:
                self.prompts = self._read_prompts(len(free))
            prompts, numbers = self.prompts, self._take(len(free))
            slots, free = free[: len(numbers)], free[len(numbers) :]
            rows = torch.tensor([prompts.rows[self.wanted[n].prompt_ids] for n in numbers], device=self.tokens.device)
            at = torch.tensor(slots, device=self.tokens.device)
            self._place(at, prompts, rows)
            for slot, number in zip(slots, numbers, strict=True):
                self.owners[slot] = number
                self.written[number] = []
            lengths = [len(self.wanted[number].prompt_ids) for number in numbers]
            self.positions[at] = torch.tensor(lengths, device=at.device) - 1
            self.drawn[at], self.moving[at] = 0, 1
            if self.decoding.temperature > 0:
                self.uniforms[at] = self._uniforms(numbers).to(at.device)
            yield from self._choose(at, prompts.logits.index_select(0, rows))

    def step(self) -> Iterator[tuple[int, list[int]]]:
        """Read the rows' newest tokens into the cache, and choose the next."""
        assert self.cache is not None
        if isinstance(self.cache, SlotCache):
            live = [number for number in self.owners if number is not None]
            # the cache holds all of the longest row but its newest token
            self.columns = max(len(self.wanted[n].prompt_ids) + len(self.written[n]) for n in live) - 1
            self.cache.trim(self.columns)
        self.columns += 1
        columns = torch.arange(self.columns, device=self.tokens.device)
        positions = self.positions.unsqueeze(-1)
        mask = columns >= self.columns - 1 - positions  # every row ends at the last column
        logits = _forward(self.model, self.tokens.unsqueeze(-1), mask.long(), positions, self.cache)
        yield from self._choose(slice(None), logits)

    def leave(self) -> None:
        """Drop the finished rows from the cache and the state."""
        assert self.cache is not None
        keep = [slot for slot, owner in enumerate(self.owners) if owner is not None]
        self.owners = [self.owners[slot] for slot in keep]
        rows = torch.tensor(keep, device=self.tokens.device)
        self.cache.reorder_cache(rows)  # not batch_select_indices: it leaves the state of some layers unchanged
        self.tokens, self.positions, self.drawn, self.moving, self.uniforms = (
            values.index_select(0, rows)
            for values in (self.tokens, self.positions, self.drawn, self.moving, self.uniforms)
        )

    def _read_prompts(self, count: int) -> _Prompts:
        """Compute the prompts of the next `count` completions."""
        order = [self.wanted[number].prompt_ids for number in list(self.waiting)[:count]]
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(order))}
        length = max(map(len, rows))
        # left padding: the last column is every prompt's last token
        device = self.tokens.device
        input_ids = torch.tensor([[self.pad] * (length - len(p)) + list(p) for p in rows], device=device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in rows], device=device)
        # without the config, a layer with a sliding window keeps all its columns, as `SlotCache` needs
        cache = DynamicCache() if self.continuous else DynamicCache(config=self.model.config)
        logits = _forward(self.model, input_ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        return _Prompts(cache, length, logits, rows)

    def _take(self, count: int) -> list[int]:
        """Take at most `count` waiting completions whose prompts were read; forget the prompts after the last one."""
        assert self.prompts is not None
        taken: list[int] = []
        while self.waiting and self.wanted[self.waiting[0]].prompt_ids in self.prompts.rows:
            if len(taken) == count:
                return taken
            taken.append(self.waiting.popleft())
        self.prompts = None
        return taken

    def _place(self, slots: Tensor, prompts: _Prompts, rows: Tensor) -> None:
        """Copy `rows` of the prompts' cache to the rows `slots`."""
        if not self.continuous:
            prompts.cache.reorder_cache(rows)
            self.cache, self.columns = prompts.cache, prompts.columns
            return
        if self.cache is None:
            self.cache = SlotCache(prompts.cache, len(self.owners))
        assert isinstance(self.cache, SlotCache)
        self.cache.put(slots, prompts.cache, rows)

    def _uniforms(self, numbers: Sequence[int]) -> Tensor:
        """(rows, max_new_tokens) float64 in [0, 1), each row from its own seed; on the CPU, as devices differ."""
        generators = [torch.Generator().manual_seed(self.wanted[number].seed) for number in numbers]
        limit = self.decoding.max_new_tokens
        return torch.stack([torch.rand(limit, generator=generator, dtype=torch.float64) for generator in generators])

    def _choose(self, at: Tensor | slice, logits: Tensor) -> Iterator[tuple[int, list[int]]]:
        """Choose the next tokens of the rows `at` by `logits` (rows, V); yields what is now finished."""
        if self.vocabulary is not None:
            logits = self.vocabulary.only(logits)
        uniforms = None
        if self.decoding.temperature > 0:
            uniforms = self.uniforms[at].gather(-1, self.drawn[at].unsqueeze(-1)).squeeze(-1)
        chosen = choose(logits, self.decoding, uniforms)
        self.tokens[at] = chosen.clamp(min=0)
        self.positions[at] += self.moving[at]
        self.drawn[at] += self.moving[at]
        slots = range(len(self.owners)) if isinstance(at, slice) else at.tolist()
        finished = []
        for slot, token in zip(slots, chosen.tolist(), strict=True):
            number = self.owners[slot]
            if number is None:
                continue
            if token == NOT_FINITE:
                raise NotFiniteLogits("sampling: the model's logits are not finite")
            self.written[number].append(token)
            limit = self.wanted[number].max_new_tokens or self.decoding.max_new_tokens
            if token in self.ends or len(self.written[number]) == limit:
                finished.append(slot)
        if not finished:
            return
        stopped = torch.tensor(finished, device=self.tokens.device)
        self.moving[stopped] = self.drawn[stopped] = 0
        for slot in finished:
            number = self.owners[slot]
            assert number is not None
            self.owners[slot] = None
            yield number, self.written.pop(number)


def _forward(model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
    """Logits (rows, V) float32 of the next token; `input_ids` (rows, T) are added to the cache."""
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


def choose(logits: Tensor, decoding: Decoding, uniforms: Tensor | None) -> Tensor:
    """Next tokens (rows,) of `logits` (rows, V): the likeliest, or drawn by inverse transform of `uniforms` (rows,).

    `NOT_FINITE` stands for a row with nan or inf among its logits, or with nothing but -inf.
    """
    if uniforms is None:
        likeliest = logits.argmax(dim=-1)  # of a nan, if there is one
        highest = logits.gather(-1, likeliest.unsqueeze(-1)).squeeze(-1)
        return likeliest.masked_fill(~highest.isfinite(), NOT_FINITE)
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
    drawn = drawn.clamp(max=logits.shape[-1] - 1)
    return drawn.masked_fill(~cumulative[:, -1].isfinite(), NOT_FINITE)
