"""Requests that continue the beginning of a chain: where its steps end, and which ends are taken."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from ..records import Completion, Prefix
from .requests import Request, derive_seed

# A step ends behind a sentence or a line. White space behind it belongs to the step, if it has tokens of its own.
_STEP_END = re.compile(r"""(?:[.!?…]["')\]”’»]*(?=\s)|[。！？]["')\]”’»]*|\n)\s*""")
_LIST_NUMBER = re.compile(r"\s*\d+")  # a whole line before its full stop: "2. Take 5" begins a step there


class Steps:
    """Finds where the steps of a completion end. It reads texts of token pairs, and remembers them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[int, ...], str] = {}

    def ends(self, ids: Sequence[int]) -> list[int]:
        """How many of the ids stand before each step end, ascending. No ids are encoded anew.

        The end before the last step is none: what follows it only states the answer. Nor is one inside a token.
        """
        text, starts = "", []
        for place, token in enumerate(ids):
            starts.append(len(text))
            text += self._piece(ids[place - 1] if place else None, token)
        places = {start: number for number, start in enumerate(starts)}  # the last of those that begin there
        found = []
        for match in _STEP_END.finditer(text):
            line = text[: match.start()].rpartition("\n")[2]
            if match[0].startswith(".") and "\n" not in match[0] and _LIST_NUMBER.fullmatch(line):
                continue
            least = match.start() + max(1, len(match[0].rstrip()))
            inside = [at for at in range(least, match.end() + 1) if places.get(at)]
            if match.end() < len(text) and inside:
                found.append(places[inside[-1]])
        return sorted(set(found))[:-1]

    def _piece(self, before: int | None, token: int) -> str:
        """The text that a token adds behind another one. Decoded alone, some tokens lose a space."""
        if before is None:
            return self._text(token)
        first, both = self._text(before), self._text(before, token)
        return both[len(first) :] if both.startswith(first) else self._text(token)

    def _text(self, *ids: int) -> str:
        if ids not in self._known:
            self._known[ids] = str(
                self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )
        return self._known[ids]


@dataclasses.dataclass
class Cuts:
    """Requests that continue right chains, and how many questions have none, by reason.

    `without_right`: no right completion. `without_step`: right completions, but none with a step end to cut at.
    `without_ids`: no right completion with token ids, which a server may not give.
    """

    requests: list[Request] = dataclasses.field(default_factory=list)
    questions: int = 0
    without_right: int = 0
    without_ids: int = 0
    without_step: int = 0

    def counts(self) -> dict[str, int]:
        """The numbers of questions, and of the chains and places that are continued."""
        chains = {(r.question_id, r.prefix.chain) for r in self.requests if r.prefix is not None}
        questions = {name: value for name, value in vars(self).items() if name != "requests"}
        return {**questions, "chains": len(chains), "places": len(self.requests)}


def cut_chains(
    questions: Iterable[tuple[str, tuple[int, ...], Sequence[Completion]]],
    ends: Callable[[Sequence[int]], list[int]],
    *,
    first_index: int,
    chains: int,
    steps: int,
    num_samples: int,
    seed: int,
) -> Cuts:
    """Requests that continue right completions where a step ends.

    Args:
        questions: id, prompt ids and right completions of each question, in index order.
        ends: `Steps.ends`.
        first_index: index of a question's first continuation. The others follow it; a place that is not there leaves
            a gap, so that an index does not depend on how other chains are cut.
        chains: most completions of a question that are cut. A text is cut once.
        steps: most places of a completion. They are chosen by a hash of seed, question, index and place.
        num_samples: continuations of each place.
        seed: of the run.
    """
    found = Cuts()
    for question_id, prompt, right in questions:
        found.questions += 1
        with_ids = {c.completion: c for c in reversed(right) if c.token_ids is not None}  # the first of each text
        cut = 0
        for completion in sorted(with_ids.values(), key=lambda c: c.index):
            if cut == chains:
                break
            ids = completion.token_ids or ()
            chance = {at: derive_seed("prefix", seed, question_id, completion.index, at) for at in ends(ids)}
            places = sorted(chance, key=chance.__getitem__)[:steps]
            for number, place in enumerate(sorted(places)):
                first = first_index + (cut * steps + number) * num_samples
                seeds = {
                    index: derive_seed("from_prefix", seed, question_id, completion.index, place, index)
                    for index in range(first, first + num_samples)
                }
                prefix = Prefix(completion.index, place)
                found.requests.append(Request(question_id, (*prompt, *ids[:place]), seeds, prefix))
            cut += bool(places)
        found.without_right += not right
        found.without_ids += bool(right) and not with_ids
        found.without_step += bool(with_ids) and not cut
    return found
