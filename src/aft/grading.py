"""The final answer of a sampled completion: as its task reads it, unless the length limit cut into it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .answers import Extraction
from .records import Completion, Question
from .tasks.base import Task

CUT = "cut inside the answer by the length limit"
_LAST_WORD = re.compile(r"\S+\Z")


def read_answer(task: Task, completion: Completion, question: Question) -> Extraction:
    """The task's reading, or none where a truncated completion ends in its answer: `12` may be what is left of 120.

    That is so where the answer needs the last word and more letters in that word would make it another. An answer that
    closes before, `(C)` or `\\boxed{12}`, or that other words follow, stands.
    """
    text = completion.completion
    found = task.extract_answer(text, question)
    if found.answer is None or not completion.truncated:
        return found
    before, longer = _LAST_WORD.sub("", text), text + "7"
    changed = (task.extract_answer(other, question).answer != found.answer for other in (before, longer))
    return Extraction(None, CUT) if all(changed) else found


def judge(completions: Sequence[Completion], questions: Sequence[Question], task: Task) -> list[dict[str, Any]]:
    """One line per completion: its answer, whether it is right, and why there is no answer where there is none."""
    by_id = {question.id: question for question in questions}
    lines = []
    for completion in completions:
        question = by_id[completion.question_id]
        extraction = read_answer(task, completion, question)
        lines.append(
            {
                "question_id": completion.question_id,
                "index": completion.index,
                "is_correct": extraction.answer is not None and task.is_correct(extraction.answer, question),
                "answer": extraction.answer,
                "gold": question.answer,
                "category": question.category,
                "unparsed": extraction.reason,
                "truncated": completion.truncated,
                "question": question.question,
                "completion": completion.completion,
            }
        )
    return lines
