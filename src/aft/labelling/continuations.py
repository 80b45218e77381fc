"""Adds completions that continue the beginning of a right chain to the groups. Needs no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ..errors import DataError
from ..grading import Grader
from ..markdown import aligned
from ..records import POSITIVE, UNPARSED, Candidate, Completion, Group, Question
from .labels import RATINGS


@dataclasses.dataclass
class ContinuationCounts:
    """Counts of continuations: `continuations` = `wrong` + `unparsed` + `right`; `tokens` were sampled for them.

    `right` ones are left out. `kept` are candidates now: wrong or unparsed ones, less `duplicates` of continuations,
    less unparsed ones where these are dropped, less those `without_ids` that needed a mask. `groups` have one that was
    kept. Of the kept ones, `as_samples` have the text of a candidate that was there before.
    """

    continuations: int = 0
    tokens: int = 0
    right: int = 0
    wrong: int = 0
    unparsed: int = 0
    duplicates: int = 0
    without_ids: int = 0
    kept: int = 0
    groups: int = 0
    as_samples: int = 0

    def table(self) -> str:
        """A Markdown table with one row per count."""
        rows = [(name.replace("_", " "), f"{value:,}") for name, value in vars(self).items()]
        return aligned(("continued from a right chain", "count"), rows)


def add_continuations(
    groups: Sequence[Group],
    questions: Sequence[Question],
    continuations: Iterable[Completion],
    grader: Grader,
    *,
    unparsed: str,
    deduplicate: str,
    credit: str,
) -> tuple[list[Group], ContinuationCounts]:
    """Returns the groups with the continuations that end wrong, behind their other candidates in index order.

    `credit`: step gives them a `response_mask` that leaves out the beginning they share with the right chain; chain
    gives them none. A right chain never has one. It stands against every wrong chain of its group, each with a
    beginning of its own or none, so no mask of it would fit them all. `unparsed` and `deduplicate` are as in
    `label_completions`, but a duplicate is the text of another continuation alone. A sample's text stays, as a method
    may use the continuation and not the sample; `chosen_candidates` knows what a method uses, and drops what repeats.
    Raises `DataError` for an unknown question.
    """
    by_id = {question.id: question for question in questions}
    members = {group.question_id: list(group.candidates) for group in groups}
    before = {name: {candidate.completion for candidate in candidates} for name, candidates in members.items()}
    seen: dict[str, set[str]] = {name: set() for name in members}
    counts, grown = ContinuationCounts(), set()
    for completion in sorted(continuations, key=lambda c: c.index):
        name = completion.question_id
        if name not in members or completion.prefix is None:
            what = "is of no training question" if name not in members else "has no 'prefix'"
            raise DataError(f"continuation {completion.index} of question '{name}' {what}")
        graded = grader.grade(completion, by_id[name])
        counts.continuations += 1
        counts.tokens += completion.num_tokens
        if graded.label == POSITIVE:
            counts.right += 1
            continue
        counts.wrong += graded.label != UNPARSED
        counts.unparsed += graded.label == UNPARSED
        if graded.label == UNPARSED and unparsed == "drop":
            continue
        if deduplicate == "exact" and completion.completion in seen[name]:
            counts.duplicates += 1
            continue
        if credit == "step" and completion.token_ids is None:
            counts.without_ids += 1
            continue
        seen[name].add(completion.completion)
        grown.add(name)
        counts.kept += 1
        counts.as_samples += completion.completion in before[name]
        members[name].append(
            Candidate(
                completion=completion.completion,
                rating=RATINGS[graded.label],
                label=graded.label,
                answer=graded.answer,
                truncated=completion.truncated,
                index=completion.index,
                token_ids=completion.token_ids,
                response_mask=_behind(completion) if credit == "step" else completion.response_mask,
                prefix=completion.prefix,
            )
        )
    counts.groups = len(grown)
    return [dataclasses.replace(group, candidates=tuple(members[group.question_id])) for group in groups], counts


def _behind(completion: Completion) -> tuple[int, ...]:
    """1 for each token that was sampled, 0 for those of the beginning."""
    assert completion.prefix is not None and completion.token_ids is not None
    before = completion.prefix.tokens
    return (0,) * before + (1,) * (len(completion.token_ids) - before)
