"""Turns questions and groups into tokenised entries for training and scoring. Counts responses that do not fit."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..records import POSITIVE, REFERENCE, Candidate, Group
from .packing import Entry, Item


class Texts(Protocol):
    """Texts as token ids. `aft.encoding.TextEncoder` is one."""

    def prompt(self, question: str) -> list[int]:
        """Token ids of a question's prompt."""
        ...

    def response(self, question: str, text: str, *, ended: bool = True, is_sampled: bool = False) -> list[int]:
        """Token ids of a response that follows the prompt. `ended`: with an end token."""
        ...

    def sampled(self, ids: Sequence[int]) -> list[int]:
        """The ids of a sampled response, without any that follow an end."""
        ...

    def summary(self) -> str | None:
        """A message for the user about texts that are out of the ordinary; None if none is."""
        ...


@dataclasses.dataclass
class Encoder:
    """Gives responses as token ids up to a maximum length, and counts those that were too long.

    A sampled candidate has its own ids; other texts are encoded. A response whose sequence is longer than `max_length`
    tokens is dropped, or cut at its end and left without an end token. A response without tokens (cut before it had
    text) is dropped too, because a mean over no tokens is no score. So is one that is cut before the first token that
    its `response_mask` counts.
    """

    texts: Texts
    max_length: int
    overlong: str = "drop"
    responses: int = 0
    dropped: int = 0
    truncated: int = 0
    empty: int = 0
    masked: int = 0

    def prompt(self, question: str) -> list[int]:
        """Token ids of a question's prompt."""
        return self.texts.prompt(question)

    def reference(self, question: str, text: str) -> list[int] | None:
        """Token ids of a reference, or None if it was dropped."""
        return self._fitting(question, self.texts.response(question, text))

    def candidate(self, question: str, candidate: Candidate) -> list[int] | None:
        """Token ids of a candidate: its own if it has some. None if it was dropped."""
        if candidate.token_ids is not None:
            ids = self.texts.sampled(candidate.token_ids)
            return self._fitting(question, ids, candidate.response_mask)
        text, is_sampled = candidate.completion, candidate.label != REFERENCE
        ids = self.texts.response(question, text, ended=not candidate.truncated, is_sampled=is_sampled)
        return self._fitting(question, ids)

    def _fitting(self, question: str, ids: list[int], mask: Sequence[int] | None = None) -> list[int] | None:
        self.responses += 1
        if not ids:
            self.empty += 1
            return None
        room = self.max_length - len(self.prompt(question))
        is_long = len(ids) > room
        if is_long and (self.overlong != "truncate" or room <= 0):
            self.dropped += 1
            return None
        kept = ids[:room] if is_long else ids
        if mask is not None and 1 not in mask[: len(kept)]:
            self.masked += 1
            return None
        self.truncated += is_long
        return kept

    def summary(self) -> str | None:
        """A message for the user about responses that did not fit, and about odd texts; None if there are none."""
        lines = []
        if self.dropped or self.truncated:
            lines.append(
                f"{self.dropped:,} of {self.responses:,} responses dropped and {self.truncated:,} truncated:"
                f" longer than model.max_length = {self.max_length} tokens with their prompt"
            )
        if self.empty:
            lines.append(f"{self.empty:,} of {self.responses:,} responses dropped: without any token")
        if self.masked:
            lines.append(
                f"{self.masked:,} of {self.responses:,} responses dropped: cut before the first 1 of the response_mask"
            )
        if odd := self.texts.summary():
            lines.append(odd)
        return "\n".join(lines) or None


def reference_entries(pairs: Sequence[tuple[str, str, str]], encoder: Encoder) -> list[Entry]:
    """Entries of VFT: one per (question id, question, reference response) that fits."""
    entries: list[Entry] = []
    for question_id, question, reference in pairs:
        prompt, response = encoder.prompt(question), encoder.reference(question, reference)
        if response is not None:
            entries.append((Item(question_id, prompt, [response], [True], [None]),))
    return entries


def group_item(group: Group, encoder: Encoder, *, supervise: str = "none", ranked: bool = True) -> Item:
    """One group as an item. `supervise`: none, reference, or reference_and_positives; `ranked`: keep the candidates.

    A response that no loss uses (for example a negative if not `ranked`) is left out. A candidate's `response_mask`
    counts for every use of the response.
    """
    prompt = encoder.prompt(group.question)
    responses: list[list[int]] = []
    supervised: list[bool] = []
    ratings: list[float | None] = []
    masks: list[Sequence[int] | None] = []
    if group.reference is not None and supervise != "none":
        response = encoder.reference(group.question, group.reference)
        if response is not None:
            responses, supervised, ratings, masks = [response], [True], [None], [None]
    # in training, a candidate with the reference's ids is computed once and used as both, unless a mask sets it apart
    reference = responses[0] if responses else None
    for candidate in group.candidates:
        in_vft = supervise == "reference_and_positives" and candidate.label == POSITIVE
        if not ranked and not in_vft:
            continue
        response = encoder.candidate(group.question, candidate)
        mask = candidate.response_mask
        if response is not None and response == reference and ratings[0] is None and mask is None:
            ratings[0] = candidate.rating if ranked else None
        elif response is not None:
            responses.append(response)
            supervised.append(in_vft)
            ratings.append(candidate.rating if ranked else None)
            masks.append(None if mask is None else mask[: len(response)])
    return Item(group.question_id, prompt, responses, supervised, ratings, masks=masks if any(masks) else None)


def first_samples(groups: Sequence[Group], count: int | None) -> Sequence[Group]:
    """The groups that `count` samples per question would have given; None: all samples.

    Candidates are kept by their sample index, so a repeated sample counts. A candidate without an index (the reference)
    is not a sample and stays. One that continues another chain stays if that chain is among the samples.
    """
    if count is None:
        return groups

    def stays(candidate: Candidate) -> bool:
        index = candidate.index if candidate.prefix is None else candidate.prefix.chain
        return index is None or index < count

    return [dataclasses.replace(group, candidates=tuple(filter(stays, group.candidates))) for group in groups]


def chosen_candidates(groups: Sequence[Group], negatives: str, *, masked: bool) -> Sequence[Group]:
    """The groups with the wrong candidates that `negatives` names: all, sampled (whole) or from_prefix.

    Right candidates stay. A continuation with the text of another one that stays is left out: labelling cannot know
    which samples a method uses. So `first_samples` comes before. `masked=False` takes the `response_mask` from every
    candidate, so that it counts whole.
    """

    def stays(candidate: Candidate) -> bool:
        if candidate.label in (POSITIVE, REFERENCE):
            return True
        return negatives == "all" or (candidate.prefix is not None) == (negatives == "from_prefix")

    def kept(candidate: Candidate) -> Candidate:
        return candidate if masked else dataclasses.replace(candidate, response_mask=None)

    def chosen(group: Group) -> Group:
        candidates = [candidate for candidate in group.candidates if stays(candidate)]
        whole = {candidate.completion for candidate in candidates if candidate.prefix is None}
        return dataclasses.replace(
            group, candidates=tuple(kept(c) for c in candidates if c.prefix is None or c.completion not in whole)
        )

    return [chosen(group) for group in groups]


def alignment_entries(
    groups: Sequence[Group], encoder: Encoder, *, supervise: str, ranked: bool, pair_references: bool, seed: int
) -> list[Entry]:
    """Entries of stage 3: each group. With `pair_references` a group without a reference gets that of another.

    References are borrowed in a seeded order, again from the start when all are used. Every step then has as many
    references as questions. A group without any response, own or borrowed, gives no entry.
    """
    lenders = [group for group in groups if group.reference is not None]
    random.Random(seed).shuffle(lenders)
    entries: list[Entry] = []
    borrowed = 0
    for group in groups:
        items = [group_item(group, encoder, supervise=supervise, ranked=ranked)]
        if group.reference is None and pair_references and lenders:
            lender = lenders[borrowed % len(lenders)]
            borrowed += 1
            items.append(group_item(dataclasses.replace(lender, candidates=()), encoder, supervise="reference"))
        entry = tuple(item for item in items if item.responses)
        if entry:
            entries.append(entry)
    return entries


def with_initial_scores(entries: Sequence[Entry], scores: Mapping[str, Sequence[float]]) -> list[Entry]:
    """The entries with the candidates' scores before training. `scores`: by question id, in slot order."""

    def give(item: Item) -> Item:
        return dataclasses.replace(item, initial_scores=scores[item.question_id]) if item.candidates else item

    return [tuple(give(item) for item in entry) for entry in entries]


def scoring_entries(groups: Sequence[Group], encoder: Encoder) -> list[Entry]:
    """Entries for scoring candidates without training."""
    items = [group_item(group, encoder) for group in groups]
    return [(item,) for item in items if item.responses]


def count_work(entries: Sequence[Entry]) -> dict[str, int]:
    """The number of sequences (responses with their prompts) and response tokens in one pass over the entries."""
    responses = [response for entry in entries for item in entry for response in item.responses]
    return {"sequences": len(responses), "response_tokens": sum(map(len, responses))}
