"""GSM8K (Cobbe et al., 2021): grade-school word problems with a worked solution and an integer answer."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..answers import Extraction, extract_number, normalise_number, numbers_equal
from ..errors import ConfigError, DataError, nearest
from ..records import Question, iter_json_lines, json_line, require
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION

HUB_NAME = "openai/gsm8k"
HUB_CONFIG = "main"
_ANSWER_LINE = "\n#### "
_ANNOTATION = re.compile(r"<<[^<>]*>>")
# Where each split is cut from: the official file, and which of the two parts of its shuffle.
_PARTS = {
    TRAIN: ("train", 0),
    PRETRAIN: ("train", 0),
    ANSWER_ONLY: ("train", 1),
    VALIDATION: ("test", 0),
    TEST: ("test", 1),
}


class Gsm8k:
    """GSM8K in the paper's splits: 7,473 train, and the official test file divided into 400 validation and 919 test.

    Each official file is shuffled by its own `random.Random(split_seed)`; the first two parts of the given sizes are
    `train` and `answer_only` (answer known, chain withheld), and on the other file `validation` and `test`.

    Args:
        path: folder with train.jsonl and test.jsonl, or the same as .jsonl.gz; None: `openai/gsm8k` from the hub.
        num_train: questions with their chain; None: all that `num_answer_only` leaves.
        num_answer_only: further training questions without their chain.
        num_validation: questions of the official test file for choosing hyper-parameters.
        num_test: test questions; None: all that `num_validation` leaves.
        split_seed: of both shuffles.
        marker: stands before the final answer in a response.
        keep_annotations: keep `<<48/2=24>>`, as the paper does.
    Raises: `ConfigError` for an argument out of range. Nothing is read before the first `load`.
    """

    def __init__(
        self,
        path: str | None = None,
        num_train: int | None = None,
        num_answer_only: int = 0,
        num_validation: int = 400,
        num_test: int | None = None,
        split_seed: int = 0,
        marker: str = "[ANS]",
        keep_annotations: bool = True,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.sizes: dict[str, dict[str, int | None]] = {
            "train": {"num_train": num_train, "num_answer_only": num_answer_only},
            "test": {"num_validation": num_validation, "num_test": num_test},
        }
        self.split_seed = split_seed
        self.marker = marker
        self.keep_annotations = keep_annotations
        self._files: dict[str, list[Question]] = {}
        problems = [
            f"data.{name}: must be at least 0, got {size}"
            for sizes in self.sizes.values()
            for name, size in sizes.items()
            if size is not None and size < 0
        ]
        if not marker.strip() or "\n" in marker:
            problems.append(f"data.answer_marker: must be visible text on one line, got {marker!r}")
        if problems:
            raise ConfigError(problems)

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """Questions of one split; `pretrain` is `train`. `seed` changes nothing: every run sees the same questions.

        Raises `ConfigError` for an unknown split or more questions than there are, `DataError` for broken data.
        """
        if split not in SPLITS:
            raise ConfigError(f"split: unknown '{split}'; allowed: {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
        file, part = _PARTS[split]
        questions = list(self._questions(file))
        sizes = self._part_sizes(file, len(questions))
        random.Random(self.split_seed).shuffle(questions)
        start = sum(sizes[:part])
        questions = questions[start : start + sizes[part]]
        return [dataclasses.replace(item, rationale=None) for item in questions] if split == ANSWER_ONLY else questions

    def reference_response(self, question: Question) -> str:
        """The worked solution, then the marker and the answer as upstream wrote it. `DataError` without a solution.

        No period behind the answer, though the paper's example shows `[ANS] 36.`: `extract_answer` reads both alike,
        and the period would be one more near-certain token in the mean that scores are.
        """
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        return f"{question.rationale}\n{self.marker} {question.answer}"

    def extract_answer(self, completion: str) -> Extraction:
        """The number behind the last marker, one spelling per value, or the reason why there is none."""
        return extract_number(completion, self.marker)

    def is_correct(self, answer: str, question: Question) -> bool:
        """Whether an extracted answer is the same number as the question's answer."""
        return numbers_equal(answer, question.answer)

    def fingerprint(self) -> str:
        """SHA-256 of every question, solution and answer: the same for the same content, hub or local, .gz or not."""
        digest = hashlib.sha256()
        for file in self.sizes:
            for question in self._questions(file):
                digest.update(json_line(question).encode())
        return digest.hexdigest()

    def _part_sizes(self, file: str, available: int) -> list[int]:
        """How many questions each part of a file takes; at most one of the two sizes is None."""
        sizes = self.sizes[file]
        left = available - sum(size for size in sizes.values() if size is not None)
        if left < 0:
            asked = ", ".join(f"data.{name}: got {size}" for name, size in sizes.items() if size is not None)
            raise ConfigError(f"{asked}; available: {available} questions in GSM8K's {file} file")
        return [left if size is None else size for size in sizes.values()]

    def _questions(self, file: str) -> list[Question]:
        """All questions of an official file, in file order."""
        if file not in self._files:
            rows = _hub_rows(file) if self.path is None else iter_json_lines(_local_file(self.path, file))
            where = f"{HUB_NAME} ({HUB_CONFIG}), {file}" if self.path is None else _local_file(self.path, file)
            self._files[file] = [
                self._question(row, f"{where}:{number}", f"gsm8k-{file}-{position:06d}")
                for position, (number, row) in enumerate(rows)
            ]
        return self._files[file]

    def _question(self, row: dict[str, Any], where: str, question_id: str) -> Question:
        text = require(row, "question", str, where)
        rationale, found, answer = require(row, "answer", str, where).rpartition(_ANSWER_LINE)
        if not found:
            raise DataError(f"{where}: 'answer' has no last line '#### ' with the final answer")
        if "\n" in answer or normalise_number(answer) is None:
            raise DataError(f"{where}: the text behind '#### ' must be a number, got {answer!r}")
        if not self.keep_annotations:
            rationale = _ANNOTATION.sub("", rationale)
        return Question(question_id, text, answer, rationale)


def _local_file(folder: Path, file: str) -> Path:
    names = (f"{file}.jsonl", f"{file}.jsonl.gz")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"data.path: {folder} has no {' or '.join(names)}")


def _hub_rows(file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, row) of the hub's data set."""
    import datasets  # slow to import, and needed for the hub alone

    try:
        rows = datasets.load_dataset(HUB_NAME, HUB_CONFIG, split=file)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data set {HUB_NAME} ({HUB_CONFIG}) cannot be loaded from the hub: {error}. "
            "Without a network, data.path=DIR takes a folder with train.jsonl and test.jsonl"
        ) from None
    yield from enumerate(rows, start=1)
