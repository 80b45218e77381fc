"""Converts groups to rows of TRL's preference, unpaired and prompt-completion sets, and LLaMA-Factory's ranking data.

Each function returns the rows and the counts of all that was written and all that was left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import ConfigError
from ..prompts import chat_messages, render_prompt
from ..records import POSITIVE, Candidate, Group
from .pairs import ALL, outranking_pairs, select_pairs

Row = dict[str, Any]
Counts = dict[str, int]

REFERENCES, POSITIVES, BOTH, BEST = COMPLETIONS = ("references", "positives", "both", "best")


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Writes a question and a completion as text or as messages of a conversation."""

    template: str
    conversational: bool = False
    system: str | None = None

    def prompt(self, question: str) -> Any:
        """Returns the rendered question. In a conversation, it is the user's turn, after the system turn if any."""
        if self.conversational:
            return chat_messages(question, self.template, self.system)
        return render_prompt(question, self.template)

    def completion(self, text: str) -> Any:
        """Returns a completion. In a conversation, it is the assistant's turn."""
        return [{"role": "assistant", "content": text}] if self.conversational else text


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which pairs of a group are written. `pairs` is one of `SELECTIONS`. `seed` is only used if `pairs` is `one`."""

    pairs: str = ALL
    min_rating_gap: float = 0.0
    seed: int = 0
    drop_truncated: bool = False


def preference_rows(
    groups: Iterable[Group], prompts: Prompts, selection: Selection | None = None
) -> tuple[list[Row], Counts]:
    """Returns rows of a TRL preference set: `prompt`, `chosen`, `rejected`, both ratings and the question's id."""
    counts: Counter[str] = Counter()
    rows = [
        {
            "prompt": prompts.prompt(group.question),
            "chosen": prompts.completion(better.completion),
            "rejected": prompts.completion(worse.completion),
            **_origin(group, better, worse),
        }
        for group, better, worse in _pairs(groups, selection or Selection(), counts)
    ]
    return rows, _of_pairs(counts)


def ranking_rows(
    groups: Iterable[Group], prompts: Prompts, selection: Selection | None = None
) -> tuple[list[Row], Counts]:
    """Returns rows of LLaMA-Factory's ranking data in the alpaca format.

    LLaMA-Factory itself makes a user's turn of `instruction`.
    """
    counts: Counter[str] = Counter()
    system = {"system": prompts.system} if prompts.system else {}
    rows = [
        {
            "instruction": render_prompt(group.question, prompts.template),
            "input": "",
            "chosen": better.completion,
            "rejected": worse.completion,
            **system,
            **_origin(group, better, worse),
        }
        for group, better, worse in _pairs(groups, selection or Selection(), counts)
    ]
    return rows, _of_pairs(counts)


def _origin(group: Group, better: Candidate, worse: Candidate) -> Row:
    return {"score_chosen": better.rating, "score_rejected": worse.rating, "question_id": group.question_id}


def _pairs(
    groups: Iterable[Group], selection: Selection, counts: Counter[str]
) -> Iterator[tuple[Group, Candidate, Candidate]]:
    """Yields the group, the better and the worse candidate of every selected pair, and adds to `counts`."""
    for group in groups:
        candidates = _untruncated(group.candidates, selection.drop_truncated, counts)
        possible = outranking_pairs(candidates, selection.min_rating_gap)
        # a model gives equal texts the same score, so they cannot be a pair
        pairs = [(i, j) for i, j in possible if candidates[i].completion != candidates[j].completion]
        chosen = select_pairs(pairs, candidates, selection.pairs, f"{selection.seed} {group.question_id}")
        members = {member for pair in chosen for member in pair}
        counts["groups"] += 1
        counts["without pair"] += not chosen
        counts["candidates"] += len(group.candidates)
        counts["unpaired"] += len(candidates) - len(members)
        counts["truncated"] += sum(candidates[member].truncated for member in members)
        counts["same text"] += len(possible) - len(pairs)
        counts["not selected"] += len(pairs) - len(chosen)
        counts["rows"] += len(chosen)
        for i, j in chosen:
            yield group, candidates[i], candidates[j]


def _of_pairs(counts: Counter[str]) -> Counts:
    return {
        "groups": counts["groups"],
        "groups without a pair, left out": counts["without pair"],
        "candidates": counts["candidates"],
        "candidates in no pair, left out": counts["unpaired"],
        **_of_truncated(counts),
        "pairs of the same text, left out": counts["same text"],
        "pairs not selected, left out": counts["not selected"],
        "rows (pairs)": counts["rows"],
    }


def _of_truncated(counts: Counter[str]) -> Counts:
    return {
        "truncated candidates, kept": counts["truncated"],
        "truncated candidates, left out": counts["dropped"],
    }


def _untruncated(candidates: Sequence[Candidate], drop: bool, counts: Counter[str]) -> list[Candidate]:
    kept = [candidate for candidate in candidates if not (drop and candidate.truncated)]
    counts["dropped"] += len(candidates) - len(kept)
    return kept


def unpaired_rows(
    groups: Iterable[Group], prompts: Prompts, *, threshold: float | None = None, drop_truncated: bool = False
) -> tuple[list[Row], Counts]:
    """Returns rows of a TRL unpaired preference set. `label` is true if a candidate's rating is above `threshold`.

    The default threshold is 0.5, for ratings of 0 and 1. Raises `ConfigError` if other ratings need a threshold.
    """
    counts: Counter[str] = Counter()
    rows = []
    for group in groups:
        if threshold is None:
            _check_binary(group)
        candidates = _untruncated(group.candidates, drop_truncated, counts)
        counts["groups"] += 1
        counts["empty"] += not candidates
        counts["candidates"] += len(group.candidates)
        counts["truncated"] += sum(candidate.truncated for candidate in candidates)
        for candidate in candidates:
            rows.append(
                {
                    "prompt": prompts.prompt(group.question),
                    "completion": prompts.completion(candidate.completion),
                    "label": candidate.rating > (0.5 if threshold is None else threshold),
                    "score": candidate.rating,
                    "question_id": group.question_id,
                }
            )
    true = sum(row["label"] for row in rows)
    return rows, {
        "groups": counts["groups"],
        "groups without a candidate, left out": counts["empty"],
        "candidates": counts["candidates"],
        **_of_truncated(counts),
        "rows with label true": true,
        "rows with label false": len(rows) - true,
    }


def _check_binary(group: Group) -> None:
    for position, candidate in enumerate(group.candidates):
        if candidate.rating not in (0.0, 1.0):
            raise ConfigError(
                f"--threshold: missing; candidates[{position}] of '{group.question_id}' is rated"
                f" {candidate.rating:g}, so say above which rating a completion is a good one"
            )


def completion_rows(
    groups: Iterable[Group], prompts: Prompts, *, completions: str = BOTH, drop_truncated: bool = False
) -> tuple[list[Row], Counts]:
    """Returns rows of a TRL prompt-completion set, for supervised training.

    references: the groups' references. positives: candidates labelled positive. both: references and positives, as in
    our RFT; a positive that equals the reference is left out. best: each group's highest-rated positive, the first if
    several are equal.
    """
    counts: Counter[str] = Counter()
    rows = []
    for group in groups:
        candidates = _untruncated(group.candidates, drop_truncated, counts)
        reference = group.reference if completions in (REFERENCES, BOTH) else None
        imitated = _imitated(candidates, completions)
        new = [candidate for candidate in imitated if candidate.completion != reference]
        texts = [*([reference] if reference is not None else []), *(candidate.completion for candidate in new)]
        counts["groups"] += 1
        counts["without"] += not texts
        counts["references"] += reference is not None
        counts["positives"] += len(new)
        counts["repeated"] += len(imitated) - len(new)
        counts["candidates"] += len(group.candidates)
        counts["left out"] += len(candidates) - len(imitated)
        counts["truncated"] += sum(candidate.truncated for candidate in new)
        for text in texts:
            rows.append(
                {
                    "prompt": prompts.prompt(group.question),
                    "completion": prompts.completion(text),
                    "question_id": group.question_id,
                }
            )
    return rows, {
        "groups": counts["groups"],
        "groups without a row, left out": counts["without"],
        "candidates": counts["candidates"],
        f"candidates not asked for ({completions}), left out": counts["left out"],
        "positives that repeat the reference, written once": counts["repeated"],
        **_of_truncated(counts),
        "rows of references": counts["references"],
        "rows of positives": counts["positives"],
    }


def _imitated(candidates: Sequence[Candidate], completions: str) -> list[Candidate]:
    positives = [candidate for candidate in candidates if candidate.label == POSITIVE]
    if completions == REFERENCES:
        return []
    if completions == BEST and positives:
        return [max(positives, key=lambda candidate: candidate.rating)]
    return positives
