"""A task whose records come from files or the hub: what all of these share. A subclass reads its own records."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..answers import Extraction
from ..errors import ConfigError, DataError, nearest
from ..records import Question
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from .kinds import KINDS
from .sources import (
    check_common,
    count_questions,
    cut,
    cut_training,
    digest_questions,
    question_key,
    remove_overlaps,
    shuffled,
)

Splits = dict[str, list[Question]]


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
    FILES: Sequence[str] = (TRAIN, VALIDATION, TEST)

    def __init__(
        self, *, path: str | None, sizes: Mapping[str, int | None], split_seed: int, marker: str, kind: str
    ) -> None:
        self.path = None if path is None else Path(path)
        self.sizes = {"num_train": None, "num_answer_only": None, "num_validation": None, "num_test": None, **sizes}
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

    def _cut_held_out(self) -> Splits:
        """Validation and test out of the shuffled files."""
        splits: Splits = {}
        for split in (VALIDATION, TEST):
            pool = self._pools.get(split, [])
            available = f"{len(pool)} questions in {self.TITLE}'s {split} file"
            splits[split] = cut(pool, {f"num_{split}": self.sizes[f"num_{split}"]}, available)[0]
        return splits

    def _cut_training(self) -> Splits:
        """Train and answer_only out of the shuffled training file, which is without overlaps already."""
        num_train, num_answer_only = self.sizes["num_train"], self.sizes["num_answer_only"]
        train, only = cut_training(self._pools[TRAIN], num_train, num_answer_only, self.TITLE)
        return {TRAIN: train, ANSWER_ONLY: only}

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
        unchained = sum(question.rationale is None for question in self._pools.get(TRAIN, []))
        notes = [*self._cleaned[1], *self._data_notes()]
        if unchained:
            notes.append(f"{count_questions(unchained)} to train on without a chain: at most the answer is used")
        return notes

    # ---- splits, each made when it is first asked for ----

    @functools.cached_property
    def _cleaned(self) -> tuple[list[Question], list[str]]:
        train = self.records(TRAIN) if TRAIN in self.FILES else []
        return remove_overlaps(train, {file: self.records(file) for file in self.FILES if file != TRAIN}, self._key)

    @functools.cached_property
    def _pools(self) -> Splits:
        pools = {TRAIN: self._cleaned[0], **{file: self.records(file) for file in self.FILES if file != TRAIN}}
        return {file: shuffled(questions, self.split_seed) for file, questions in pools.items()}

    @functools.cached_property
    def _held_out(self) -> Splits:
        return self._cut_held_out()

    @functools.cached_property
    def _training(self) -> Splits:
        return self._cut_training()
