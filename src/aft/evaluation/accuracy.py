"""Task accuracy, overall and by category, and self-consistency from graded completions. No model, no torch.

Definitions: the paper, sections 3 and 5 (arXiv 2309.02144).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Question
from ..stats.bootstrap import accuracy_interval, macro_interval
from ..stats.estimate import Estimate
from ..stats.intervals import mean_sd, wilson
from ..tasks.base import Task
from .voting import Tally, pass_at_k, tally, vote_accuracy


def task_accuracy(predictions: Sequence[Mapping[str, Any]]) -> Estimate:
    """Share of right final answers with Wilson's 95 % interval over questions; an unparsed completion is wrong.

    Without any prediction there is no mean, and n is 0.
    """
    correct = sum(line["is_correct"] for line in predictions)
    counts = {
        "correct": correct,
        "unparsed": sum(line["answer"] is None for line in predictions),
        "truncated": sum(line["truncated"] for line in predictions),
    }
    if not predictions:
        return Estimate(None, n=0, beside=counts)
    low, high = wilson(correct, len(predictions))
    return Estimate(correct / len(predictions), low=low, high=high, n=len(predictions), beside=counts)


def category_accuracy(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Task accuracy of each category, over all its questions (micro) and as the mean of the categories (macro).

    The macro interval is a bootstrap over questions within their categories. Questions without a category are counted,
    and stay in micro only. None where no question has one.
    """
    by_category: dict[str, list[Mapping[str, Any]]] = {}
    for line in predictions:
        if line.get("category") is not None:
            by_category.setdefault(line["category"], []).append(line)
    if not by_category:
        return None
    sizes = {name: len(lines) for name, lines in sorted(by_category.items())}
    right = {name: sum(line["is_correct"] for line in by_category[name]) for name in sizes}
    low, high = macro_interval([(right[name], sizes[name]) for name in sizes])
    mean = sum(right[name] / sizes[name] for name in sizes) / len(sizes)
    return {
        "macro": Estimate(mean, low=low, high=high, n=len(sizes)),
        "micro": task_accuracy(predictions),
        "without_category": len(predictions) - sum(sizes.values()),
        "categories": {name: task_accuracy(by_category[name]) for name in sizes},
    }


def vote_lines(
    predictions: Sequence[Mapping[str, Any]], questions: Sequence[Question], task: Task, ns: Sequence[int]
) -> list[dict[str, Any]]:
    """One line per question: how often its paths reached each answer, and the chances of n of these paths.

    `predictions` are those of `grade_all` on all paths. `vote` and `pass` hold n (as text) -> probability that the
    majority of n paths is right, and that any of n paths is.
    """
    by_question: dict[str, list[Mapping[str, Any]]] = {question.id: [] for question in questions}
    for line in predictions:
        by_question[line["question_id"]].append(line)
    lines = []
    for question in questions:
        own = by_question[question.id]
        votes = _tally(own, question, task)
        vote = vote_accuracy(votes, ns)
        lines.append(
            {
                "question_id": question.id,
                "category": question.category,
                "gold": question.answer,
                "right": votes.right,
                "wrong": dict(sorted(votes.wrong.items(), key=lambda item: -item[1])),
                "unparsed": votes.unparsed,
                "truncated": sum(line["truncated"] for line in own),
                "vote": {str(n): vote[n] for n in ns},
                "pass": {str(n): pass_at_k(votes.right, votes.total, n) for n in ns},
            }
        )
    return lines


def _tally(lines: Sequence[Mapping[str, Any]], question: Question, task: Task) -> Tally:
    """The votes of one question. Two wrong answers count as one if the task accepts one where the other is gold."""
    right = {line["answer"] for line in lines if line["is_correct"]}
    return tally(
        [line["answer"] for line in lines],
        is_right=lambda answer: answer in right,
        is_same=lambda earlier, answer: task.is_correct(answer, dataclasses.replace(question, answer=earlier)),
    )


def self_consistency(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Majority vote and pass@k over all questions of `vote_lines`, for every n, with intervals over questions.

    Without any line `vote` and `pass` are empty.
    """
    ns = list(lines[0]["vote"]) if lines else []
    return {
        "questions": len(lines),
        "unparsed": sum(line["unparsed"] for line in lines),
        "truncated": sum(line["truncated"] for line in lines),
        "vote": {n: mean_with_interval([line["vote"][n] for line in lines]) for n in ns},
        "pass": {n: mean_with_interval([line["pass"][n] for line in lines]) for n in ns},
    }


def mean_with_interval(values: Sequence[float], **beside: int) -> Estimate:
    """Mean of shares in [0, 1], one for each question, with its interval over questions."""
    low, high = accuracy_interval(values)
    return Estimate(mean_sd(values)[0], low=low, high=high, n=len(values), beside=beside)
