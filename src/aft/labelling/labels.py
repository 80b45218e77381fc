"""Stage 2b: labels completions by their final answer and builds the groups for alignment. Needs no model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import ConfigError, DataError
from ..grading import Grader
from ..markdown import aligned, per_cent
from ..records import NEGATIVE, POSITIVE, REFERENCE, UNPARSED, Candidate, Completion, Group, Question, has_pair
from ..tasks.base import Task

# Binary feedback (paper, section 4.1) as ratings, so that ranking losses also handle binary feedback.
RATINGS = {POSITIVE: 1.0, REFERENCE: 1.0, NEGATIVE: 0.0, UNPARSED: 0.0}
BINARY = "binary"

# (question id, completion index); the index of the reference is None.
CandidateKey = tuple[str, int | None]
References = Mapping[str, str | None] | Callable[[Question], str | None]


@dataclass
class Counts:
    """Counts of the completions: `completions` = `positives` + `negatives` + all `unparsed` + `duplicates`.

    `unparsed` is by reason. `unparsed_as` says if they were rated as negatives or dropped. `truncated` counts all
    completions that were cut. `unrated` counts candidates that were dropped because they have no rating.
    Groups are counted by their final candidates. `groups_with_pair`: two candidates have different ratings.
    `groups_without_positive` and `groups_without_negative` are by label. The reference counts as a positive, and an
    unparsed completion as a negative. A group without candidates counts in both.
    """

    unparsed_as: str = NEGATIVE
    rated_by: str = BINARY
    questions: int = 0
    questions_without_completions: int = 0
    completions: int = 0
    positives: int = 0
    negatives: int = 0
    unparsed: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    truncated: int = 0
    references: int = 0
    unrated: int = 0
    groups_with_pair: int = 0
    groups_without_positive: int = 0
    groups_without_negative: int = 0

    def table(self) -> str:
        """Returns a Markdown table with one row per count and its share of the completions or questions."""
        fate = "dropped"
        if self.unparsed_as == NEGATIVE:
            fate = "rated as negatives" if self.rated_by == BINARY else "rated like the others"
        of_completions = {
            "completions": self.completions,
            "positive": self.positives,
            "negative": self.negatives,
            f"unparsed, {fate}": sum(self.unparsed.values()),
            **{f"unparsed: {reason}": count for reason, count in sorted(self.unparsed.items())},
            "duplicates, dropped": self.duplicates,
            **({} if self.rated_by == BINARY else {"unrated, dropped (among the candidates)": self.unrated}),
            "truncated (among all the above)": self.truncated,
        }
        of_questions = {
            "questions": self.questions,
            "without completions": self.questions_without_completions,
            "reference among the candidates": self.references,
            "groups with a pair": self.groups_with_pair,
            "groups without a positive": self.groups_without_positive,
            "groups without a negative": self.groups_without_negative,
        }
        rows = []
        for counts, total in ((of_questions, self.questions), (of_completions, self.completions)):
            rows += [(name, f"{n:,}", f"{per_cent(n, total)} %" if total else "") for name, n in counts.items()]
        return aligned(("labelling", "count", "share"), rows)


def label_completions(
    questions: Sequence[Question],
    references: References,
    completions: Iterable[Completion],
    task: Task,
    *,
    unparsed: Literal["negative", "drop"] = "negative",
    deduplicate: Literal["exact", "none"] = "exact",
    include_reference: bool = False,
    grader: Grader | None = None,
) -> tuple[list[Group], Counts]:
    """Returns one group per question, in the given order, and the counts. Candidates are in index order.

    A question without a positive, a negative or any completion also has a group: the VFT term uses its reference.

    Args:
        references: reference responses by question id, or a function of the question. The function is only called for
            questions with a known rationale, so it can be `task.reference_response`.
        unparsed: `negative` rates a completion without an answer 0; `drop` leaves it out. Both cases are counted.
        deduplicate: `exact` keeps only the first of a question's completions with the same text, and its token ids.
            The texts are compared: one text is one chain, however it was divided into tokens.
        include_reference: add the reference before the samples, rated 1. A sampled copy is then a duplicate.
        grader: a grader of `task` that keeps the verdicts for later readers; None: the verdicts are not kept.
    Raises: `DataError` for a repeated question, a completion of an unknown question or a repeated (question, index).
    """
    for name, value, allowed in (
        ("label.unparsed", unparsed, ("negative", "drop")),
        ("label.deduplicate", deduplicate, ("exact", "none")),
    ):
        if value not in allowed:
            raise ConfigError(f"{name}: got '{value}', allowed: {', '.join(allowed)}")
    grader = grader or Grader(task)
    counts = Counts(unparsed_as=unparsed, questions=len(questions))
    groups = []
    for question, sampled in _by_question(questions, completions):
        reference = _reference(references, question)
        candidates = []
        if include_reference and reference is not None:
            answer = task.extract_answer(reference, question).answer
            candidates.append(Candidate(reference, RATINGS[REFERENCE], REFERENCE, answer))
            counts.references += 1
        seen = {candidate.completion for candidate in candidates}
        for completion in sampled:
            if deduplicate == "exact" and completion.completion in seen:
                counts.duplicates += 1
                continue
            seen.add(completion.completion)
            candidate = _candidate(completion, question, grader, counts)
            if candidate.label != UNPARSED or unparsed == "negative":
                candidates.append(candidate)
        groups.append(Group(question.id, question.question, question.answer, reference, tuple(candidates)))
        counts.completions += len(sampled)
        counts.truncated += sum(completion.truncated for completion in sampled)
        counts.questions_without_completions += not sampled
    return groups, count_groups(counts, groups)


def replace_ratings(
    groups: Sequence[Group], counts: Counts, ratings: Mapping[CandidateKey, float], rated_by: str
) -> tuple[list[Group], Counts]:
    """Returns the groups of `label_completions` with new ratings, and their counts. Labels do not change.

    A candidate without a rating is left out and counted.
    """

    def rate(group: Group) -> Group:
        keyed = [((group.question_id, item.index), item) for item in group.candidates]
        kept = (dataclasses.replace(item, rating=ratings[key]) for key, item in keyed if key in ratings)
        return dataclasses.replace(group, candidates=tuple(kept))

    rated = [rate(group) for group in groups]
    unrated = sum(len(before.candidates) - len(now.candidates) for before, now in zip(groups, rated, strict=True))
    return rated, count_groups(dataclasses.replace(counts, rated_by=rated_by, unrated=unrated), rated)


def _by_question(
    questions: Sequence[Question], completions: Iterable[Completion]
) -> list[tuple[Question, list[Completion]]]:
    """Returns each question with its completions, in index order."""
    sampled: dict[str, dict[int, Completion]] = {question.id: {} for question in questions}
    if len(sampled) < len(questions):
        question_id, times = Counter(question.id for question in questions).most_common(1)[0]
        raise DataError(f"question '{question_id}' occurs {times} times")
    for completion in completions:
        key = f"completion {completion.index} of question '{completion.question_id}'"
        if completion.question_id not in sampled:
            raise DataError(f"{key}: there is no such question among the {len(questions):,} given")
        if completion.index in sampled[completion.question_id]:
            raise DataError(f"{key} occurs twice")
        sampled[completion.question_id][completion.index] = completion
    return [(question, [sampled[question.id][i] for i in sorted(sampled[question.id])]) for question in questions]


def _reference(references: References, question: Question) -> str | None:
    if isinstance(references, Mapping):
        return references.get(question.id)
    return references(question) if question.rationale is not None else None


def _candidate(completion: Completion, question: Question, grader: Grader, counts: Counts) -> Candidate:
    """Returns a completion with its label and rating, and adds it to `counts`."""
    graded = grader.grade(completion, question)
    if graded.answer is None:
        reason = graded.reason or "no reason given"
        counts.unparsed[reason] = counts.unparsed.get(reason, 0) + 1
    elif graded.is_correct:
        counts.positives += 1
    else:
        counts.negatives += 1
    return Candidate(
        completion=completion.completion,
        rating=RATINGS[graded.label],
        label=graded.label,
        answer=graded.answer,
        truncated=completion.truncated,
        index=completion.index,
        token_ids=completion.token_ids,
        response_mask=completion.response_mask,
        prefix=completion.prefix,
    )


def count_groups(counts: Counts, groups: Sequence[Group]) -> Counts:
    """The counts, with those of groups with different ratings, without a positive label and without a negative one."""
    labels = [{candidate.label for candidate in group.candidates} for group in groups]
    return dataclasses.replace(
        counts,
        groups_with_pair=sum(has_pair(candidate.rating for candidate in group.candidates) for group in groups),
        groups_without_positive=sum(not found & {POSITIVE, REFERENCE} for found in labels),
        groups_without_negative=sum(not found & {NEGATIVE, UNPARSED} for found in labels),
    )
