"""Completions from token ids, for every engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set

from transformers import PreTrainedTokenizerBase

from ..progress import say
from ..records import Completion
from .requests import Request


def finished(
    request: Request, index: int, tokens: Sequence[int], ends: Set[int], tokenizer: PreTrainedTokenizerBase
) -> Completion:
    """The completion of the ids that were sampled behind `request.prefix_ids`. Truncated if the last one is no end."""
    ended = bool(tokens) and tokens[-1] in ends
    whole = [*request.prefix_ids, *tokens]
    text = tokenizer.decode(
        whole[:-1] if ended else whole, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return Completion(
        question_id=request.question_id,
        index=index,
        completion=text,
        truncated=not ended,
        num_tokens=len(tokens),
        seed=request.seeds[index],
        token_ids=tuple(whole),
        prefix=request.prefix,
    )


def alone(requests: Sequence[Request]) -> list[list[Request]]:
    """A shard for every completion."""
    return [
        [dataclasses.replace(request, seeds={index: seed})]
        for request in requests
        for index, seed in request.seeds.items()
    ]


class Unnamed:
    """Counts completions with ids that have no token. The embeddings of many models have rows for such ids.

    The transformers engine never chooses one. Other engines may, with the probability that the model gives it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> None:
        self._known = {*tokenizer.get_vocab().values(), *ends}
        self._count = 0

    def count(self, tokens: Sequence[int]) -> None:
        """Count a completion if it has such an id."""
        self._count += not self._known.issuperset(tokens)

    def tell(self) -> None:
        """Print how many there were."""
        if self._count:
            say(f"sampling: {self._count:,} completions hold an id without a token; their texts leave it out")
