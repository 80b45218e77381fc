"""A task whose records come from files or the hub: what all of these share. A subclass reads its own records."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ..answers import Extraction
from ..errors import ConfigError, DataError, nearest
from ..records import Question
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from .kinds import KINDS
from .sources import (
    check_common,
    count_questions,
    cut_training,
    describe_common,
    digest_questions,
    question_key,
    remove_overlaps,
    shuffled,
)

Splits = dict[str, list[Question]]
Sizes = Mapping[str, int | None]


class FileTask:
    """Loading once, splits, references, answers, fingerprint. `_read` gives the records of one of `FILES`.

    A training question that also occurs in another file, or twice, is removed before anything is drawn; `notes` counts
    them. Each file is shuffled by its own `random.Random(split_seed)`, so that a smaller size is a part of a larger.

    Args:
        path: where local files lie; None: the hub.
        sizes: num_train (None: all that is left), num_answer_only (None: the questions without a chain),
            num_validation, num_test (None: the whole file).
        split_seed: of the shuffles.
        marker: stands before the final answer in a response.
        kind: of the answers, a key of `KINDS`.
    Raises: `ConfigError` for an argument out of range. Nothing is read before the first `load`.
    """

    TITLE = "the data"
    HUB_NAME: str | None = None  # what is loaded where no path is given
    FILES: Collection[str] = (TRAIN, VALIDATION, TEST)
    BORROWS: Collection[str] = ()  # splits that take from the training file what their own file lacks

    def __init__(self, *, path: str | None, sizes: Sizes, split_seed: int, marker: str, kind: str) -> None:
        self.path = None if path is None else Path(path)
        names = ("num_train", "num_answer_only", "num_validation", "num_test")
        self.sizes: Sizes = {**dict.fromkeys(names), **sizes}
        self.split_seed = split_seed
        self.marker = marker
        self.kind = KINDS[kind]
        self._records: dict[str, list[Question]] = {}
        if problems := check_common(self.sizes, marker):
            raise ConfigError(problems)

    # ---- what a subclass may change ----

    def _read(self, file: str) -> Iterable[Question]:
        """The records of one file, in file order."""
        raise NotImplementedError

    def _key(self, question: Question) -> str:
        """Equal for two questions that must not be both trained on and held out."""
        return question_key(question)

    def _final_sizes(self) -> Sizes:
        """The sizes where they depend on how many questions there are."""
        return self.sizes

    def _cut_held_out(self) -> Splits:
        """Validation and test."""
        return self._division[0]

    def _training_pool(self) -> list[Question]:
        """What the other splits leave of the training file."""
        return self._division[1]

    def _data_notes(self) -> list[str]:
        """Further notes of a task's own."""
        return []

    # ---- the task ----

    def records(self, file: str) -> list[Question]:
        """Every question of one file in file order, before overlaps are removed. `DataError` for a broken record."""
        if file not in self._records:
            questions = list(self._read(file))
            for question in questions:
                if problem := self.kind.problem(question):
                    raise DataError(f"question '{question.id}': the answer {problem}")
            self._records[file] = questions
        return self._records[file]

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """Questions of one split; `pretrain` is `train`. `seed` changes nothing: every run sees the same questions.

        Raises `ConfigError` for an unknown split or more questions than there are, `DataError` for broken data.
        """
        if split not in SPLITS:
            raise ConfigError(f"split: unknown '{split}'; allowed: {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
        if split in (VALIDATION, TEST):
            return list(self._held_out[split])
        return list(self._training[TRAIN if split == PRETRAIN else split])

    def reference_response(self, question: Question) -> str:
        """The rationale with the answer as the data have it. `DataError` without a rationale."""
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        return self.kind.write(question.rationale, self.marker, question.answer)

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, one spelling per value, or the reason why there is none."""
        return self.kind.extract(completion, self.marker, question)

    def is_correct(self, answer: str, question: Question) -> bool:
        """Whether an extracted answer equals the question's."""
        return self.kind.equal(answer, question)

    def fingerprint(self) -> str:
        """SHA-256 of every question, solution and answer: the same for the same content, hub or local, .gz or not."""
        return digest_questions(self.records(file) for file in self.FILES)

    def notes(self) -> list[str]:
        """What was removed from training, and what stands in for what is not there."""
        notes = [*self._cleaned[1], *self._data_notes()]
        files = {question.id for question in self._pools[TRAIN]}
        for split, questions in self._held_out.items():
            if split in self.FILES and (drawn := sum(question.id in files for question in questions)):
                notes.append(f"{count_questions(drawn)} of {split} drawn from the training file")
        if unchained := sum(question.rationale is None for question in self._training_pool()):
            notes.append(f"{count_questions(unchained)} to train on without a chain: at most the answer is used")
        return notes

    # ---- splits, each made when it is first asked for ----

    @functools.cached_property
    def _cleaned(self) -> tuple[list[Question], list[str]]:
        train = self.records(TRAIN) if TRAIN in self.FILES else []
        held_out = {file: self.records(file) for file in self.FILES if file != TRAIN}
        kept, notes = remove_overlaps(train, held_out, self._key)
        return kept, notes + describe_common(held_out, self._key)

    @functools.cached_property
    def _pools(self) -> Splits:
        pools = {TRAIN: self._cleaned[0], **{file: self.records(file) for file in self.FILES if file != TRAIN}}
        return {file: shuffled(questions, self.split_seed) for file, questions in pools.items()}

    @functools.cached_property
    def _held_out(self) -> Splits:
        return self._cut_held_out()

    @functools.cached_property
    def _division(self) -> tuple[Splits, list[Question]]:
        """Validation and test, and what they leave of the training file: they borrow from its end."""
        sizes, left, splits = self._final_sizes(), self._pools[TRAIN], {}
        for split in (VALIDATION, TEST):
            own, size = self._pools.get(split, []), sizes[f"num_{split}"]
            lacking = max(0, (size or 0) - len(own))
            available = len(own) + (len(left) if split in self.BORROWS else 0)
            if size is not None and size > available:
                raise ConfigError(
                    f"data.num_{split}: got {size}; available: {available} questions of {self.TITLE} for {split}"
                )
            splits[split] = own[:size] + left[len(left) - lacking :]
            left = left[: len(left) - lacking]
        return splits, left

    @functools.cached_property
    def _training(self) -> Splits:
        sizes = self._final_sizes()
        train, only = cut_training(self._training_pool(), sizes["num_train"], sizes["num_answer_only"], self.TITLE)
        return {TRAIN: train, ANSWER_ONLY: only}
