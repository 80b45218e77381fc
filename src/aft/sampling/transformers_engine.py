"""Samples completions with a transformers model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import AftError
from ..model import as_ends, describe_not_finite, pad_id
from ..progress import say
from ..records import Completion
from ..sizes import check_ids, check_length, positions_of
from .decoding import Decoding, NotFiniteLogits, Vocabulary, Wanted, decode
from .finished import finished
from .requests import CONTINUOUS, STATIC, Request, plan_shards
from .slots import why_rows_cannot_join


class TransformersEngine:
    """The `Engine` of a transformers model, which should be in evaluation mode.

    At most `batch_size` completions are decoded at once. If the model's rows cannot take each other's places,
    `continuous` batching becomes `static`, and a line says why. A completion stops at any of `ends`; None: at those of
    the model's generation config and at the tokenizer's end token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        batching: str = CONTINUOUS,
        *,
        ends: Iterable[int] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.batching = _usable_batching(model, batching)
        if ends is None:
            ends = [*as_ends(getattr(model.generation_config, "eos_token_id", None)), tokenizer.eos_token_id]
        self._ends = frozenset(ends)
        check_ids({"the end": tokenizer.eos_token_id, "padding": pad_id(tokenizer)}, -1, _rows(model))
        self._vocabulary = _vocabulary(model, tokenizer, self._ends)

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Shards over all requests, because the last bits of logits can depend on what is decoded beside them."""
        return plan_shards(requests, self.batch_size, self.batching)

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Completion]:
        """The completions of one shard after the other, in the order of finishing.

        Raises `ConfigError` before the first if a prompt and its completion do not fit in the model's positions, and
        `AftError` with the model's first damaged tensor if its logits are not finite.
        """
        check_ids(
            {}, max((max(r.prompt_ids, default=0) for shard in shards for r in shard), default=0), _rows(self.model)
        )
        limit = decoding.max_new_tokens
        longest = max((len(r.prompt_ids) + r.most_new(limit) for shard in shards for r in shard), default=limit)
        settings = self.model.config.get_text_config(decoder=True).to_dict()
        # the newest token has no position yet
        check_length(longest - 1, positions_of(settings), "a prompt with its completion", "max_new_tokens")
        try:
            for shard in shards:
                yield from self._generate(shard, decoding)
        except NotFiniteLogits:
            raise AftError(f"sampling: {describe_not_finite(self.model, 'logits')}") from None

    def _generate(self, shard: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        keys = [(request, index) for request in shard for index in request.seeds]
        decoded = decode(
            self.model,
            [
                Wanted(request.prompt_ids, request.seeds[index], request.most_new(decoding.max_new_tokens))
                for request, index in keys
            ],
            decoding,
            ends=self._ends,
            pad=pad_id(self.tokenizer),
            slots=self.batch_size if self.batching == CONTINUOUS else None,
            vocabulary=self._vocabulary,
        )
        for place, tokens in decoded:
            request, index = keys[place]
            yield finished(request, index, tokens, self._ends, self.tokenizer)


def _usable_batching(model: PreTrainedModel, batching: str) -> str:
    reason = why_rows_cannot_join(model) if batching == CONTINUOUS else None
    if reason is None:
        return batching
    say(f"sampling: {type(model).__name__} runs each batch to its end, because {reason}")
    return STATIC


def _vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> Vocabulary | None:
    """The ids that have a token or end a completion; None: the model has no other. Embeddings are often padded."""
    rows = _rows(model)
    known = {*tokenizer.get_vocab().values(), *ends}
    absent = [number for number in range(rows) if number not in known]
    if not absent:
        return None
    size = max(number for number in known if number < rows) + 1
    return Vocabulary(size, torch.tensor([n for n in absent if n < size], dtype=torch.long, device=model.device))


def _rows(model: PreTrainedModel) -> int:
    """Rows of the embeddings."""
    rows: int = model.config.get_text_config(decoder=True).vocab_size
    return rows
