"""Task accuracy, assessment accuracy and perplexity from completions and scores. No model and no torch.

Definitions: the paper, section 3 and 5 (arXiv 2309.02144). Scores are means of token log-probs, nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .intervals import mean_interval, mean_sd, wilson
from .records import POSITIVE, REFERENCE, Candidate, Completion, Group, Question
from .tasks.base import Task


def judge(completions: Sequence[Completion], questions: Sequence[Question], task: Task) -> list[dict[str, Any]]:
    """One line per completion: its answer, whether it is right, and why there is no answer where there is none."""
    by_id = {question.id: question for question in questions}
    lines = []
    for completion in completions:
        question = by_id[completion.question_id]
        extraction = task.extract_answer(completion.completion)
        lines.append(
            {
                "question_id": completion.question_id,
                "index": completion.index,
                "is_correct": extraction.answer is not None and task.is_correct(extraction.answer, question),
                "answer": extraction.answer,
                "gold": question.answer,
                "unparsed": extraction.reason,
                "truncated": completion.truncated,
                "question": question.question,
                "completion": completion.completion,
            }
        )
    return lines


def task_accuracy(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of right final answers with Wilson's 95 % interval over questions; an unparsed completion is wrong."""
    correct = sum(line["is_correct"] for line in predictions)
    low, high = wilson(correct, len(predictions))
    return {
        "value": correct / len(predictions),
        "low": low,
        "high": high,
        "n": len(predictions),
        "correct": correct,
        "unparsed": sum(line["answer"] is None for line in predictions),
        "truncated": sum(line["truncated"] for line in predictions),
    }


def has_tokens(chain: Completion | Candidate) -> bool:
    """Whether a chain can be scored: one that was cut before it had any text has no token."""
    return bool(chain.completion) or not chain.truncated


@dataclass
class Assessed:
    """Right and wrong chains of one question, in the order in which they were sampled, each text once."""

    positives: list[Completion] = field(default_factory=list)
    negatives: list[Completion] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, completion: Completion, is_correct: bool, per_label: int) -> None:
        """Take a sample, unless it has no token, its text is there already or its side is full."""
        side = self.positives if is_correct else self.negatives
        if has_tokens(completion) and completion.completion not in self.seen and len(side) < per_label:
            self.seen.add(completion.completion)
            side.append(completion)

    def is_full(self, per_label: int) -> bool:
        """Whether both sides are."""
        return len(self.positives) >= per_label and len(self.negatives) >= per_label


def assessment_accuracy(lines: Sequence[Mapping[str, Any]], *, skipped: int) -> dict[str, Any] | None:
    """Share of (right, wrong) pairs of a question in which the right chain scores higher, averaged over questions.

    `lines` have question_id, is_positive and score; a tie counts half. A question without both kinds has no pair: it
    is counted in `skipped` beside those given. The interval is over questions. None if no question has a pair.
    """
    questions: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        sides = questions.setdefault(line["question_id"], ([], []))
        sides[0 if line["is_positive"] else 1].append(line["score"])
    shares = []
    for right, wrong in questions.values():
        wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in right for n in wrong]
        if wins:
            shares.append(sum(wins) / len(wins))
    skipped += len(questions) - len(shares)
    return None if not shares else {**_mean(shares, (0.0, 1.0)), "skipped": skipped}


def perplexity(scores: Sequence[float]) -> dict[str, Any] | None:
    """Mean over chains of exp(-score), with a 95 % interval over chains; None without any.

    Infinite where a float cannot hold it: beyond 709 nats per token, as a collapsed model reaches.
    """
    return _mean([_exp(-score) for score in scores], None) if scores else None


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def describe_scores(scores: Sequence[float]) -> dict[str, Any] | None:
    """Mean, standard deviation and number of scores; None without any."""
    if not scores:
        return None
    mean, sd = mean_sd(scores)
    return {"mean": mean, "sd": sd, "n": len(scores)}


def pool_metrics(lines: Sequence[Mapping[str, Any]], *, questions: int) -> dict[str, Any] | None:
    """Assessment accuracy and scores on a fixed pool of another model's chains."""
    if not lines:
        return None
    absent = questions - len({line["question_id"] for line in lines})
    return {
        "assessment_accuracy": assessment_accuracy(lines, skipped=absent),
        "positive": describe_scores([line["score"] for line in lines if line["is_positive"]]),
        "negative": describe_scores([line["score"] for line in lines if not line["is_positive"]]),
    }


def score_lines(groups: Sequence[Group], scores: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One line per candidate of the groups with the score that a model gives it, in group and slot order."""
    return [
        {
            "question_id": group.question_id,
            "index": candidate.index,
            "is_positive": candidate.label in (POSITIVE, REFERENCE),
            "score": score,
        }
        for group in groups
        for candidate, score in zip(group.candidates, scores.get(group.question_id, ()), strict=True)
    ]


def _mean(values: Sequence[float], within: tuple[float, float] | None) -> dict[str, Any]:
    low, high = mean_interval(values, within=within)
    return {"value": mean_sd(values)[0], "low": low, "high": high, "n": len(values)}
