"""What a task is: where its questions come from, how a reference reads, and when an answer is right."""

from __future__ import annotations

from typing import Protocol

from ..answers import Extraction
from ..records import Question

TRAIN = "train"  # reference chains known: VFT data
ANSWER_ONLY = "answer_only"  # gold answer known, chain not: alignment groups only
VALIDATION = "validation"
TEST = "test"
PRETRAIN = "pretrain"  # what a from-scratch base model reads; may hold wrong chains
SPLITS = (TRAIN, ANSWER_ONLY, VALIDATION, TEST, PRETRAIN)


class Task(Protocol):
    """A task knows its data, its reference response, its answer extraction and its equality."""

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """Questions of one split. The same arguments give the same list."""
        ...

    def reference_response(self, question: Question) -> str:
        """The reference chain of thought with its final answer after the marker, as the model should write it."""
        ...

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, or the reason why there is none.

        A task whose answers cannot be read without their question (options, a mixture's parts) needs `question`.
        """
        ...

    def fingerprint(self) -> str:
        """A digest of the data itself: equal for equal questions, wherever they come from."""
        ...

    def is_correct(self, answer: str, question: Question) -> bool:
        """Whether an extracted answer equals the question's gold answer."""
        ...

    def notes(self) -> list[str]:
        """What a reader should know about the data as loaded, a line each: what was removed, what stands in."""
        ...


def closed_vocabulary(task: Task) -> list[str] | None:
    """Every token of a task's texts where it says so by a `vocabulary` of its own, as generated tasks do; else None."""
    own = getattr(task, "vocabulary", None)
    return own() if own else None


def has_pretrain_text(task: Task) -> bool:
    """Whether its pretrain split is more than its training questions."""
    return bool(getattr(task, "HAS_PRETRAIN_TEXT", False))
