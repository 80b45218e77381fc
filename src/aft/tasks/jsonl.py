"""Your own task in JSONL files. Each line has a question, an answer and, if known, a rationale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..answers import LETTERS
from ..errors import ConfigError, DataError
from ..json_files import require, require_texts
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask
from .kinds import KINDS, with_options
from .sources import Row, local_rows


class Jsonl(FileTask):
    """Questions from local JSONL (or .jsonl.gz) files. A split without its own file is taken from the train file.

    Args:
        train, validation, test: files; at least one. Training needs a train file.
        answer_type: number, choice (a letter or the text of one of the options), text, or boxed (LaTeX).
        question_field, answer_field, rationale_field, options_field, category_field: field names in the files.
            Rationale, options (a list of texts, for choices) and category (text) may be missing or null.
        num_train: number of questions with their rationale; None: all that the other splits leave.
        num_answer_only: number of questions used without rationale; None: those that have no rationale.
        num_validation, num_test: number of questions; None: the whole file, or no question if there is no file.
        split_seed: seed of the shuffles.
        marker: text before the final answer in a response; a boxed answer needs none.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "the JSONL files"

    def __init__(
        self,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        answer_type: str = "number",
        question_field: str = "question",
        answer_field: str = "answer",
        rationale_field: str = "rationale",
        options_field: str = "options",
        category_field: str = "category",
        num_train: int | None = None,
        num_answer_only: int | None = None,
        num_validation: int | None = None,
        num_test: int | None = None,
        split_seed: int = 0,
        marker: str = "[ANS]",
        skip_unreadable: bool = False,
    ) -> None:
        if answer_type not in KINDS:
            raise ConfigError(f"data.answer_type: got '{answer_type}', allowed: {', '.join(KINDS)}")
        sizes = {
            "num_train": num_train,
            "num_answer_only": num_answer_only,
            "num_validation": num_validation,
            "num_test": num_test,
        }
        super().__init__(
            path=None,
            sizes=sizes,
            split_seed=split_seed,
            marker=marker,
            kind=answer_type,
            skip_unreadable=skip_unreadable,
        )
        named = {TRAIN: train, VALIDATION: validation, TEST: test}
        self.files = {file: Path(name) for file, name in named.items() if name is not None}
        if not self.files:
            raise ConfigError("data.train: null, and so are data.validation and data.test; name at least one file")
        self.FILES = tuple(self.files)
        self.BORROWS = tuple(split for split in (VALIDATION, TEST) if split not in self.files)
        self.answer_type = answer_type
        self.fields = {
            "question": question_field,
            "answer": answer_field,
            "rationale": rationale_field,
            "options": options_field,
            "category": category_field,
        }

    def _rows(self, file: str) -> Iterator[Row]:
        path = self.files[file]
        if not path.is_file():
            raise ConfigError(f"data.{file}: no file {path} (looked in {Path.cwd()})")
        return local_rows(path)

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        question = self._read_fields(row, where, f"{file}-{position:06d}")
        if problem := self.kind.problem(question):
            raise DataError(f"{where}: '{self.fields['answer']}' {problem}")
        return question

    def _read_fields(self, row: dict[str, Any], where: str, question_id: str) -> Question:
        name = self.fields
        known = {name["rationale"]: None, name["options"]: None, name["category"]: None, **row}
        text = require(row, name["question"], str, where)
        answer = str(require(row, name["answer"], (str, int, float), where)).strip()
        rationale = require(known, name["rationale"], (str, type(None)), where)
        options = None
        if self.answer_type == "choice":
            options = require_texts(known, name["options"], where)
            text = with_options(text, options)
            if options.count(answer) == 1 and answer not in LETTERS[: len(options)]:
                answer = LETTERS[options.index(answer)]
        return Question(
            id=question_id,
            question=text,
            answer=answer,
            rationale=(rationale or "").strip() or None,
            options=options,
            category=require(known, name["category"], (str, type(None)), where),
        )
