"""Decides whether a completion is right. Labelling, validation, evaluation and audit all use this module."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .answers import VALUE_WORDS, Extraction
from .records import NEGATIVE, POSITIVE, UNPARSED, Completion, Question
from .tasks.base import Task

CUT = "cut inside the answer by the length limit"


@dataclass(frozen=True)
class Verdict:
    """The final answer of a completion and whether it is right. If there is no answer, `reason` says why."""

    answer: str | None
    is_correct: bool
    reason: str | None

    @property
    def label(self) -> str:
        """The label of a candidate with this verdict: positive, negative or unparsed."""
        if self.answer is None:
            return UNPARSED
        return POSITIVE if self.is_correct else NEGATIVE


def grade(task: Task, completion: Completion, question: Question) -> Verdict:
    """The verdict of the task, except that an answer which the length limit may have cut does not count.

    A truncated completion that ends inside its answer has no answer: `12` may be the beginning of 120, and `12 tho`
    that of 12 thousand. `(C)`, `\\boxed{12}` and `12 apples` count.
    """
    return grade_answer(task, read_answer(task, completion, question), question)


def read_answer(task: Task, completion: Completion, question: Question) -> Extraction:
    """The answer that `grade` compares with the gold answer. It compares nothing itself."""
    text = completion.completion
    found = task.extract_answer(text, question)
    if found.answer is not None and completion.truncated and _is_cut(task, text, question, found.answer):
        return Extraction(None, CUT)
    return found


class Grader:
    """Grades each text of a question once, and keeps the verdicts. Comparing can take seconds for a symbolic answer."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._verdicts: dict[tuple[str, str, bool], Verdict] = {}

    def grade(self, completion: Completion, question: Question) -> Verdict:
        """The verdict that the function `grade` gives."""
        key = (question.id, completion.completion, completion.truncated)
        if key not in self._verdicts:
            self._verdicts[key] = grade(self.task, completion, question)
        return self._verdicts[key]


def _is_cut(task: Task, text: str, question: Question, answer: str) -> bool:
    """True if the rest of the last word may change the answer.

    It may if removing that word and adding a digit both do, or if the word begins one that changes a number.
    If further words change nothing, the answer is closed, and it may not.
    """

    def differs(other: str) -> bool:
        return task.extract_answer(other, question).answer != answer

    begun = _letters_at_the_end(text)
    open_ = (differs(_without_last_word(text)) and differs(text + "7")) or any(
        differs(text + word[len(begun) :]) for word in VALUE_WORDS if begun and word.startswith(begun.lower())
    )
    return open_ and differs(text + " 7 7 7")


_LONGEST = max(map(len, VALUE_WORDS))


def _letters_at_the_end(text: str) -> str:
    """The letters in which the text ends; empty if they are more than the longest of `VALUE_WORDS` has."""
    end = text[-_LONGEST - 1 :]
    letters = end[len(end.rstrip(string.ascii_letters)) :]
    return letters if len(letters) <= _LONGEST else ""


def grade_answer(task: Task, found: Extraction, question: Question) -> Verdict:
    """The verdict on an answer that is already extracted."""
    is_correct = found.answer is not None and task.is_correct(found.answer, question)
    return Verdict(found.answer, is_correct, found.reason)


def _without_last_word(text: str) -> str:
    """The text up to its last white space. It takes linear time."""
    return text.removesuffix(text.rsplit(maxsplit=1)[-1]) if text[-1:].strip() else text


def grade_all(task: Task, completions: Sequence[Completion], questions: Sequence[Question]) -> list[dict[str, Any]]:
    """One dict for each completion, in order: the verdict, the question and the completion."""
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
