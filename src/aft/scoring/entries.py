"""Turns questions and groups into tokenised entries for training and scoring. Counts responses that do not fit."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence

from ..records import POSITIVE, Group
from .packing import Entry, Item


@dataclasses.dataclass
class Encoder:
    """Turns text into token ids up to a maximum length, and counts responses that were too long.

    `encode_prompt(text)` and `encode_response(text, ended)` come from the tokenizer. A response whose sequence is
    longer than `max_length` tokens is dropped, or cut at its end and left without an end token. A response without
    tokens (cut before it had text) is dropped too, because a mean over no tokens is no score.
    """

    encode_prompt: Callable[[str], list[int]]
    encode_response: Callable[[str, bool], list[int]]
    max_length: int
    overlong: str = "drop"
    responses: int = 0
    dropped: int = 0
    truncated: int = 0
    empty: int = 0

    def response(self, prompt_ids: list[int], text: str, ended: bool = True) -> list[int] | None:
        """Token ids of a response, or None if it was dropped."""
        self.responses += 1
        ids = self.encode_response(text, ended)
        if not ids:
            self.empty += 1
            return None
        room = self.max_length - len(prompt_ids)
        if len(ids) <= room:
            return ids
        if self.overlong == "truncate" and room > 0:
            self.truncated += 1
            return ids[:room]
        self.dropped += 1
        return None

    def summary(self) -> str | None:
        """A message for the user about responses that did not fit; None if all did."""
        lines = []
        if self.dropped or self.truncated:
            lines.append(
                f"{self.dropped:,} of {self.responses:,} responses dropped and {self.truncated:,} truncated:"
                f" longer than model.max_length = {self.max_length} tokens with their prompt"
            )
        if self.empty:
            lines.append(f"{self.empty:,} of {self.responses:,} responses dropped: without any token")
        return "\n".join(lines) or None


def reference_entries(pairs: Sequence[tuple[str, str, str]], encoder: Encoder) -> list[Entry]:
    """Entries of VFT: one per (question id, question, reference response) that fits."""
    entries: list[Entry] = []
    for question_id, question, reference in pairs:
        prompt = encoder.encode_prompt(question)
        response = encoder.response(prompt, reference)
        if response is not None:
            entries.append((Item(question_id, prompt, [response], [True], [None]),))
    return entries


def group_item(group: Group, encoder: Encoder, *, supervise: str = "none", ranked: bool = True) -> Item:
    """One group as an item. `supervise`: none, reference, or reference_and_positives; `ranked`: keep the candidates.

    A response that no loss uses (for example a negative if not `ranked`) is left out.
    """
    prompt = encoder.encode_prompt(group.question)
    responses: list[list[int]] = []
    supervised: list[bool] = []
    ratings: list[float | None] = []
    if group.reference is not None and supervise != "none":
        response = encoder.response(prompt, group.reference)
        if response is not None:
            responses, supervised, ratings = [response], [True], [None]
    # in training, a candidate equal to the reference is computed once and used as both
    reference_text = group.reference if responses else None
    for candidate in group.candidates:
        in_vft = supervise == "reference_and_positives" and candidate.label == POSITIVE
        if not ranked and not in_vft:
            continue
        if candidate.completion == reference_text and ratings[0] is None and not candidate.truncated:
            ratings[0] = candidate.rating if ranked else None
            continue
        response = encoder.response(prompt, candidate.completion, not candidate.truncated)
        if response is not None:
            responses.append(response)
            supervised.append(in_vft)
            ratings.append(candidate.rating if ranked else None)
    return Item(group.question_id, prompt, responses, supervised, ratings)


def first_samples(groups: Sequence[Group], count: int | None) -> Sequence[Group]:
    """The groups that `count` samples per question would have given; None: all samples.

    Candidates are kept by their sample index, so a repeated sample counts. A candidate without an index (the reference)
    is not a sample and stays.
    """
    if count is None:
        return groups
    return [
        dataclasses.replace(group, candidates=tuple(c for c in group.candidates if c.index is None or c.index < count))
        for group in groups
    ]


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
