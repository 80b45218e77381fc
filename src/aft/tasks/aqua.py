"""AQuA-RAT (Ling et al., 2017): algebra problems with five options and a written rationale."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..answers import LETTERS
from ..errors import DataError
from ..json_files import iter_lines, require, require_texts
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask, Sizes
from .kinds import with_options
from .sources import Row, find_file, hub_rows, local_rows, read_row

HUB_CONFIG = "raw"
PAPER_SIZES = {"num_train": 5000, "num_validation": 400, "num_test": 1254}
SELECTION = "flan_aqua_train.tsv"
_FILE_NAMES = {TRAIN: "train.json", VALIDATION: "dev.json", TEST: "test.json"}
_LABEL = re.compile(r"\s*\(?[A-Ea-e]\s*\)\s*")
_SELECTION_OPTIONS = re.compile(r"\\n\([A-E]\) ")
_NOT_A_WORD = re.compile(r"[\W_]+")


class Aqua(FileTask):
    """AQuA-RAT in the paper's sizes, 5,000 / 400 / 1,254, if the training file has enough questions.

    The paper splits at random and does not say how. Here validation is the official dev file, and test is the official
    test file. The missing 146 and 1,000 questions are drawn from the training file, as are the 5,000 for training.
    If the training file is too small for this, validation is dev, test is test, and train is the training file.
    Questions that differ only in punctuation, case and options count as one.

    Args:
        path: folder with dev.json, test.json and train.json. Instead of train.json it may hold flan_aqua_train.tsv, a
            selection of 2,728 training records. None: `deepmind/aqua_rat` (`raw`) from the hub.
        num_train, num_validation, num_test: number of questions; None: the sizes above.
        num_answer_only: number of further training questions without their rationale; None: only the questions that
            have no rationale in the data.
        split_seed: seed of the shuffles.
        marker: text before the final letter in a response.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "AQuA-RAT"
    HUB_NAME = "deepmind/aqua_rat"
    BORROWS = (VALIDATION, TEST)

    def __init__(
        self,
        path: str | None = None,
        num_train: int | None = None,
        num_answer_only: int | None = None,
        num_validation: int | None = None,
        num_test: int | None = None,
        split_seed: int = 0,
        marker: str = "[ANS]",
        skip_unreadable: bool = False,
    ) -> None:
        sizes = {
            "num_train": num_train,
            "num_answer_only": num_answer_only,
            "num_validation": num_validation,
            "num_test": num_test,
        }
        super().__init__(
            path=path,
            sizes=sizes,
            split_seed=split_seed,
            marker=marker,
            kind="choice",
            skip_unreadable=skip_unreadable,
        )

    def _final_sizes(self) -> Sizes:
        if not self._is_enough():
            return self.sizes
        return {
            name: PAPER_SIZES.get(name) if size is None and name in PAPER_SIZES else size
            for name, size in self.sizes.items()
        }

    def _is_enough(self) -> bool:
        """True if the training file has enough questions for the paper's sizes."""
        lacking = [max(0, PAPER_SIZES[f"num_{split}"] - len(self._pools[split])) for split in (VALIDATION, TEST)]
        return len(self._pools[TRAIN]) >= PAPER_SIZES["num_train"] + sum(lacking)

    def _data_notes(self) -> list[str]:
        if self._is_enough():
            return []
        source = f" ({self._local_file(TRAIN).name})" if self.path is not None else ""
        return [
            f"the training file{source} has {len(self._pools[TRAIN]):,} usable questions, too few for the paper's"
            " 5,000 / 400 / 1,254: dev is validation, test is test, the rest is train, except for sizes that are set"
        ]

    def _key(self, question: Question) -> str:
        stem = question.question.partition("\nOptions:\n")[0]
        return _NOT_A_WORD.sub("", stem.casefold()) or stem

    def _local_file(self, file: str) -> Path:
        assert self.path is not None
        names = [_FILE_NAMES[file], f"{_FILE_NAMES[file]}l"]
        return find_file(self.path, [*names, SELECTION] if file == TRAIN else names)

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is None:
            return hub_rows(self.HUB_NAME, HUB_CONFIG, file, instead="train.json, dev.json and test.json")
        path = self._local_file(file)
        return _selection_rows(path) if SELECTION in path.name else local_rows(path)

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        texts = require_texts(row, "options", where)
        options = tuple(
            _without_label(text, letter) for text, letter in itertools.zip_longest(texts, LETTERS[: len(texts)])
        )
        return Question(
            id=f"aqua-{file}-{position:06d}",
            question=with_options(require(row, "question", str, where), options),
            answer=require(row, "correct", str, where).strip(),
            rationale=require(row, "rationale", str, where).strip() or None,
            options=options,
        )


def _without_label(text: str, letter: str | None) -> str:
    """An option without its label, also where the data have the option's own label twice: `A)A)59` is 59."""
    text = _LABEL.sub("", text, count=1)
    own = re.compile(rf"\(?{letter}\s*\)\s*", re.IGNORECASE)
    while letter and (label := own.match(text)) and label.end() < len(text):
        text = text[label.end() :]
    return text.strip()


def _selection_rows(path: Path) -> Iterator[Row]:
    """The lines of the selection as records of the official form. The file writes a newline as backslash and n."""
    for line, text in iter_lines(path):
        where = f"{path}:{line}"
        yield where, read_row(_selection_row, text, where)


def _selection_row(text: str, where: str) -> dict[str, Any]:
    columns = text.split("\t")
    if len(columns) != 3:
        raise DataError(f"{where}: expected 3 columns separated by tabs, got {len(columns)}")
    question, found, listed = columns[0].rpartition("\\nOptions:")
    options = _SELECTION_OPTIONS.split(listed)[1:]
    if not found or not options or not re.fullmatch(r"\([A-E]\)", columns[1]):
        raise DataError(f"{where}: expected a question with 'Options:', then a letter in brackets")
    return {
        "question": question.replace("\\n", "\n"),
        "options": [option.replace("\\n", "\n") for option in options],
        "correct": columns[1].strip("()"),
        "rationale": columns[2].replace("\\n", "\n"),
    }
