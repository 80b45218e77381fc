"""Samples completions with a transformers model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..model import as_ends, pad_id
from ..progress import say
from ..records import Completion
from .decoding import Decoding, Wanted, decode
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

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Shards over all requests, because the last bits of logits can depend on what is decoded beside them."""
        return plan_shards(requests, self.batch_size, self.batching)

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Completion]:
        """The completions of one shard after the other, in the order of finishing."""
        for shard in shards:
            yield from self._generate(shard, decoding)

    def _generate(self, shard: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        keys = [(request, index) for request in shard for index in request.seeds]
        tokenizer = self.tokenizer
        finished = decode(
            self.model,
            [Wanted(request.prompt_ids, request.seeds[index]) for request, index in keys],
            decoding,
            ends=self._ends,
            pad=pad_id(tokenizer),
            slots=self.batch_size if self.batching == CONTINUOUS else None,
        )
        for place, tokens in finished:
            (request, index), ended = keys[place], tokens[-1] in self._ends
            text = tokenizer.decode(
                tokens[:-1] if ended else tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            seed = request.seeds[index]
            yield Completion(request.question_id, index, text, not ended, len(tokens), seed, tuple(tokens))


def _usable_batching(model: PreTrainedModel, batching: str) -> str:
    reason = why_rows_cannot_join(model) if batching == CONTINUOUS else None
    if reason is None:
        return batching
    say(f"sampling: {type(model).__name__} runs each batch to its end, because {reason}")
    return STATIC
