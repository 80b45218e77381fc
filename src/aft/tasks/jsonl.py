"""Your own task in JSONL files. Each line has a question, an answer and, if known, a rationale, or chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..answers import LETTERS
from ..errors import ConfigError, DataError
from ..json_files import require, require_texts
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .conversation import MESSAGES, read_exchange, split_response
from .files import FileTask
from .kinds import KINDS, with_options
from .sources import Row, local_rows

# What to do with lines of other known forms, by a key that such a line has.
_OTHERS = {
    "conversations": "'conversations' is another form of chat messages: write 'messages' with 'role' and 'content'",
    "chosen": "pairs of chosen and rejected responses become groups with aft-convert",
    "prompt": "set data.question_field: prompt, and data.rationale_field and data.answer_field likewise",
    "instruction": "set data.question_field: instruction, and data.rationale_field and data.answer_field likewise",
}


class Jsonl(FileTask):
    """Questions from local JSONL (or .jsonl.gz) files. A split without its own file is taken from the train file.

    A line without a question may have `messages`: the user's turn is the question, and the assistant's turn the
    rationale with the answer after the marker. An answer in a field of its own must agree with that.

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

    def _place(self, file: str) -> str:
        return str(self.files[file])

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        question = self._read_fields(row, where, f"{file}-{position:06d}")
        if problem := self.kind.problem(question):
            raise DataError(f"{where}: '{self.fields['answer']}' {problem}")
        return question

    def _read_fields(self, row: dict[str, Any], where: str, question_id: str) -> Question:
        name = self.fields
        if name["question"] not in row and MESSAGES in row:
            return self._from_messages(row, where, question_id)
        if name["question"] not in row and (hint := next((_OTHERS[key] for key in _OTHERS if key in row), None)):
            raise DataError(f"{where}: missing '{name['question']}'; {hint}")
        return self._from_fields(row, where, question_id)

    def _from_messages(self, row: dict[str, Any], where: str, question_id: str) -> Question:
        """A question from chat messages. Its answer is the line's own, or what the assistant's turn ends with."""
        name = self.fields
        text, response = read_exchange(row, where)
        given = row.get(name["answer"])
        fields = {**row, name["question"]: text}
        if response is None:
            return self._from_fields(fields, where, question_id)
        if row.get(name["rationale"]) is not None:
            raise DataError(f"{where}: '{name['rationale']}' and an assistant's turn; one of them is the rationale")
        boxed = self.answer_type == "boxed"  # the answer stands within the rationale
        chain, tail = (response.strip(), None) if boxed else split_response(response, self.marker, where)
        fields[name["rationale"]] = chain
        # only the options matter for reading an answer, so the answer itself can wait
        draft = self._from_fields({**fields, name["answer"]: "" if given is None else given}, where, question_id)
        read = self.kind.extract(response, self.marker, draft)
        if given is None and read.answer is None:
            place = "in \\boxed{}" if boxed else f"after '{self.marker}' (data.answer_marker)"
            raise DataError(
                f"{where}: no '{name['answer']}', and the assistant's turn has no answer {place}: {read.reason}"
            )
        if given is None:
            found = tail if self.answer_type == "text" else read.answer
            return self._from_fields({**fields, name["answer"]: found}, where, question_id)
        if read.answer is not None and not self.kind.equal(read.answer, draft):
            raise DataError(
                f"{where}: '{name['answer']}' is {given!r}, but the assistant's turn ends with {read.answer!r}"
            )
        return draft

    def _from_fields(self, row: dict[str, Any], where: str, question_id: str) -> Question:
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
