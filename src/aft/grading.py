"""Whether a completion is right: the one answer for labelling, validation, evaluation and audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Extraction
from .records import NEGATIVE, POSITIVE, UNPARSED, Completion, Question
from .tasks.base import Task

CUT = "cut inside the answer by the length limit"


@dataclass(frozen=True)
class Verdict:
    """A completion's final answer and whether it is right. Without an answer, `reason` says why there is none."""

    answer: str | None
    is_correct: bool
    reason: str | None

    @property
    def label(self) -> str:
        """The verdict as a candidate's label: positive, negative or unparsed."""
        if self.answer is None:
            return UNPARSED
        return POSITIVE if self.is_correct else NEGATIVE


def grade(task: Task, completion: Completion, question: Question) -> Verdict:
    """The verdict by the task's own reading, except where the length limit may have cut the answer.

    A truncated completion that ends in its answer has none: `12` may be what is left of 120. That is so if the answer
    changes both without the last word and with one more digit. `(C)`, `\\boxed{12}` and `12 apples` keep their answers.
    """
    text = completion.completion
    found = task.extract_answer(text, question)
    if found.answer is not None and completion.truncated:
        others = (_without_last_word(text), text + "7")
        if all(task.extract_answer(other, question).answer != found.answer for other in others):
            found = Extraction(None, CUT)
    return grade_answer(task, found, question)


def grade_answer(task: Task, found: Extraction, question: Question) -> Verdict:
    """The verdict on an answer that is already extracted."""
    is_correct = found.answer is not None and task.is_correct(found.answer, question)
    return Verdict(found.answer, is_correct, found.reason)


def _without_last_word(text: str) -> str:
    """The text up to its last white space, in linear time."""
    return text.removesuffix(text.rsplit(maxsplit=1)[-1]) if text[-1:].strip() else text


def grade_all(task: Task, completions: Sequence[Completion], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """One line for each completion, in order: its verdict beside its question and its text."""
    by_id = {question.id: question for question in questions}
    lines = []
    for completion in completions:
        question = by_id[completion.question_id]
        graded = grade(task, completion, question)
        lines.append(
            {
                "question_id": completion.question_id,
                "index": completion.index,
                "is_correct": graded.is_correct,
                "answer": graded.answer,
                "gold": question.answer,
                "category": question.category,
                "unparsed": graded.reason,
                "truncated": completion.truncated,
                "question": question.question,
                "completion": completion.completion,
            }
        )
    return lines
