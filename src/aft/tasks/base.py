"""The protocol of a task: its questions, its reference responses, and when an answer is right."""

from __future__ import annotations

from typing import Protocol

from ..answers import Extraction
from ..records import Question

TRAIN = "train"  # reference chains known: VFT data
ANSWER_ONLY = "answer_only"  # only the gold answer is known: used for alignment groups alone
VALIDATION = "validation"
TEST = "test"
PRETRAIN = "pretrain"  # text for training a base model from scratch; may hold wrong chains
SPLITS = (TRAIN, ANSWER_ONLY, VALIDATION, TEST, PRETRAIN)


class Task(Protocol):
    """A task provides data, reference responses, answer extraction and comparison of answers."""

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """The questions of one split. The same arguments give the same list."""
        ...

    def reference_response(self, question: Question) -> str:
        """The reference chain of thought with its final answer after the marker, as the model should write it."""
        ...

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, or the reason why there is none.

        `question` is required if the answer cannot be read without it: multiple choice, mixtures.
        """
        ...

    def fingerprint(self) -> str:
        """A digest of the data. Equal questions give an equal digest, whatever their source."""
        ...

    def is_correct(self, answer: str, question: Question) -> bool:
        """True if an extracted answer equals the question's gold answer."""
        ...

    def notes(self) -> list[str]:
        """Notes on the loaded data, one line each: which questions were removed, and what replaces missing data."""
        ...


def closed_vocabulary(task: Task) -> list[str] | None:
    """Every token of a task's texts if the task has a method `vocabulary`, as generated tasks do; else None."""
    own = getattr(task, "vocabulary", None)
    return own() if own else None


def has_pretrain_text(task: Task) -> bool:
    """True if the pretrain split of a task holds other questions than its train split."""
    return bool(getattr(task, "HAS_PRETRAIN_TEXT", False))
