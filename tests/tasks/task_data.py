"""What the tests of the tasks share: files written from rows, and the hub with rows in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aft.records import Question
from aft.tasks.base import SPLITS, TEST, TRAIN, VALIDATION, Task


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def serve(monkeypatch: pytest.MonkeyPatch, sets: dict[tuple[str, str | None, str], list[dict[str, Any]]]) -> None:
    """The hub's data sets by (name, configuration, split): only the download is replaced, rows arrive in the type that
    the datasets library serves them in."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config, split: datasets.Dataset.from_list(sets[name, config, split])
    )


def ids(questions: list[Question]) -> list[str]:
    """The ids, in order."""
    return [question.id for question in questions]


def splits(task: Task) -> dict[str, int]:
    """How many questions each split has."""
    return {split: len(task.load(split)) for split in (TRAIN, "answer_only", VALIDATION, TEST)}


def round_trip(task: Task, question: Question) -> bool:
    """Whether the reference response (a bare final answer where there is none) is read as the question's answer."""
    if question.rationale is not None:
        response = task.reference_response(question)
    else:
        response = f"[ANS] ({question.answer})" if question.options else f"[ANS] {question.answer}"
    extraction = task.extract_answer(response, question)
    return extraction.answer is not None and task.is_correct(extraction.answer, question)


def tokens_of(task: Task) -> set[str]:
    """Every token of the questions and references of all splits, each text being tokens joined by single spaces."""
    used: set[str] = set()
    for split in SPLITS:
        for question in task.load(split):
            known = question.rationale is not None
            for text in (question.question, *([task.reference_response(question)] if known else [])):
                assert " ".join(text.split()) == text
                used.update(text.split())
    return used
