"""The base class of tasks whose records come from files or the hub. A subclass reads its own records."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..answers import Extraction
from ..errors import ConfigError, DataError, nearest
from ..records import Question
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from .kinds import KINDS
from .sources import (
    Row,
    check_common,
    count_questions,
    cut_training,
    describe_common,
    digest_questions,
    question_key,
    remove_overlaps,
    shuffled,
)

_SKIP = "data.skip_unreadable: true leaves such records out and counts them"
_SHOWN = 5  # skipped records that a note shows

Splits = dict[str, list[Question]]
Sizes = Mapping[str, int | None]


class FileTask:
    """A task with records from files. It loads each file once and makes splits, references, answers and fingerprint.

    A subclass implements `_rows`, the records of one of `FILES`, and `_question`, which reads one. A training question
    that is repeated, or also in another file, is removed before splits are drawn; `notes` counts these. Each file is
    shuffled by its own `random.Random(split_seed)`, so that a smaller split is a subset of a larger one.

    Args:
        path: folder of local files; None: the hub.
        sizes: num_train (None: all that is left), num_answer_only (None: the questions without a chain),
            num_validation, num_test (None: the whole file).
        split_seed: seed of the shuffles.
        marker: text before the final answer in a response.
        kind: kind of answer, a key of `KINDS`.
        skip_unreadable: leave out records that cannot be read, and count them in `notes`; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "the data"
    HUB_NAME: str | None = None  # data set on the hub, used if there is no path
    FILES: Collection[str] = (TRAIN, VALIDATION, TEST)
    BORROWS: Collection[str] = ()  # splits that fill up with questions from the training file

    def __init__(
        self,
        *,
        path: str | None,
        sizes: Sizes,
        split_seed: int,
        marker: str,
        kind: str,
        skip_unreadable: bool = False,
    ) -> None:
        self.path = None if path is None else Path(path)
        names = ("num_train", "num_answer_only", "num_validation", "num_test")
        self.sizes: Sizes = {**dict.fromkeys(names), **sizes}
        self.split_seed = split_seed
        self.marker = marker
        self.kind = KINDS[kind]
        self.skip_unreadable = skip_unreadable
        self._records: dict[str, list[Question]] = {}
        self._skipped: dict[str, list[str]] = {}
        if problems := check_common(self.sizes, marker):
            raise ConfigError(problems)

    # ---- methods that a subclass may override ----

    def _rows(self, file: str) -> Iterable[Row]:
        """The records of one file, in file order."""
        raise NotImplementedError

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        """The question of the record at `position` of its file, counted from 0. `DataError` for a broken record."""
        raise NotImplementedError

    def _place(self, file: str) -> str:
        """Where the records of a file come from, for messages."""
        return str(self.path or self.HUB_NAME or self.TITLE)

    def _key(self, question: Question) -> str:
        """A key of a question. A training question is removed if a held-out question has an equal key."""
        return question_key(question)

    def _final_sizes(self) -> Sizes:
        """The sizes of the splits. A subclass may let them depend on the number of questions."""
        return self.sizes

    def _cut_held_out(self) -> Splits:
        """The validation split and the test split."""
        return self._division[0]

    def _training_pool(self) -> list[Question]:
        """The questions of the training file that no held-out split has taken."""
        return self._division[1]

    def _data_notes(self) -> list[str]:
        """Additional notes of a subclass."""
        return []

    # ---- methods of the task protocol ----

    def records(self, file: str) -> list[Question]:
        """Every question of one file in file order, before overlaps are removed. `DataError` for a broken record."""
        if file not in self._records:
            questions = list(self._read(file))
            if not questions:
                raise DataError(f"{self._place(file)}: no question for {file}")
            self._records[file] = questions
        return self._records[file]

    def _read(self, file: str) -> Iterator[Question]:
        skipped = self._skipped[file] = []
        kept = 0
        for position, (where, row) in enumerate(self._rows(file)):
            try:
                question = self._checked(row, where, file, position)
            except DataError as error:
                if not self.skip_unreadable:
                    raise DataError(f"{error}. {_SKIP}") from None
                skipped.append(str(error))
            else:
                kept += 1
                yield question
        if skipped and not kept:
            raise DataError(f"{skipped[0]}; data.skip_unreadable leaves no record of {self.TITLE}'s {file} file")

    def _checked(self, row: dict[str, Any] | DataError, where: str, file: str, position: int) -> Question:
        if isinstance(row, DataError):
            raise row
        question = self._question(row, where, file, position)
        if problem := self.kind.problem(question):
            raise DataError(f"{where}: question '{question.id}': the answer {problem}")
        return question

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """The questions of one split; `pretrain` equals `train`. `seed` has no effect: all runs get the same questions.

        Raises `ConfigError` for an unknown split or more questions than there are, `DataError` for broken data.
        """
        if split not in SPLITS:
            raise ConfigError(f"split: unknown '{split}'; allowed: {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
        if split in (VALIDATION, TEST):
            return list(self._held_out[split])
        return list(self._training[TRAIN if split == PRETRAIN else split])

    def reference_response(self, question: Question) -> str:
        """The rationale with the gold answer as written in the data. `DataError` without a rationale."""
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        return self.kind.write(question.rationale, self.marker, question.answer)

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion in one spelling per value, or the reason why there is none."""
        return self.kind.extract(completion, self.marker, question)

    def is_correct(self, answer: str, question: Question) -> bool:
        """True if an extracted answer equals the question's gold answer."""
        return self.kind.equal(answer, question)

    def fingerprint(self) -> str:
        """SHA-256 of all questions, rationales and answers. Hub or local, .gz or not makes no difference."""
        return digest_questions(self.records(file) for file in self.FILES)

    def notes(self) -> list[str]:
        """Notes on questions removed from training, splits filled up from it, and questions without a chain."""
        notes = [*self._skipped_notes(), *self._cleaned[1], *self._data_notes()]
        files = {question.id for question in self._pools[TRAIN]}
        for split, questions in self._held_out.items():
            if split in self.FILES and (drawn := sum(question.id in files for question in questions)):
                notes.append(f"{count_questions(drawn)} of {split} drawn from the training file")
        if unchained := sum(question.rationale is None for question in self._training_pool()):
            notes.append(f"{count_questions(unchained)} to train on without a chain: at most the answer is used")
        return notes

    def _skipped_notes(self) -> list[str]:
        notes = []
        for file in self.FILES:
            self.records(file)
            if messages := self._skipped[file]:
                count = f"{len(messages):,} record{'' if len(messages) == 1 else 's'}"
                more = f"; and {len(messages) - _SHOWN:,} more" if len(messages) > _SHOWN else ""
                shown = "; ".join(messages[:_SHOWN])
                notes.append(f"{count} of {file} skipped as unreadable (data.skip_unreadable): {shown}{more}")
        return notes

    # ---- splits, each made on first use ----

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
        """(held-out splits, rest of the training file). Splits in `BORROWS` take questions from its end."""
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
