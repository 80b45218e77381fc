"""ECQA (Aggarwal et al., 2021): CommonsenseQA questions with five options and a free-flow explanation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..answers import LETTERS, normalise_text
from ..errors import ConfigError, DataError
from ..json_files import require, require_texts
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask
from .kinds import with_options
from .sources import Row, find_file, hub_rows, local_rows

_FILE_NAMES = {TRAIN: "ecqa_train.jsonl", VALIDATION: "ecqa_val.jsonl", TEST: "ecqa_test.jsonl"}


class Ecqa(FileTask):
    """ECQA in its authors' split, 7,598 / 1,090 / 2,194, which the paper uses. The explanation is the rationale.

    The authors' files share some questions; these are removed from training. A training question without an
    explanation belongs to answer_only.

    Args:
        path: folder with ecqa_train.jsonl, ecqa_val.jsonl and ecqa_test.jsonl; None: `tasksource/ecqa` from the hub.
        num_train: number of questions with their explanation; None: all that `num_answer_only` leaves.
        num_answer_only: number of questions used without explanation; None: those that have no explanation.
        num_validation, num_test: number of questions; None: all.
        split_seed: seed of the shuffles.
        marker: text before the final answer in a response.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
        answer_as: `letter`, or `text`: a reference ends with the option's text. Completions are read in both forms.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "ECQA"
    HUB_NAME = "tasksource/ecqa"

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
        answer_as: str = "letter",
    ) -> None:
        if answer_as not in ("letter", "text"):
            raise ConfigError(f"answer_as: got {answer_as!r}; allowed: letter, text")
        self.answer_as = answer_as
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

    def reference_response(self, question: Question) -> str:
        """The explanation with the gold answer as a letter or as text. `DataError` without an explanation.

        A text that is not read back as the answer, as that of a repeated option, is replaced by the letter.
        """
        by_letter = super().reference_response(question)
        if self.answer_as == "letter" or question.options is None:
            return by_letter
        text = question.options[LETTERS.index(question.answer)]
        by_text = f"{by_letter.removesuffix(f'({question.answer})')}{text}"
        found = self.extract_answer(by_text, question).answer
        return by_text if found is not None and self.is_correct(found, question) else by_letter

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is None:
            return hub_rows(self.HUB_NAME, None, file, instead="ecqa_train.jsonl, ecqa_val.jsonl and ecqa_test.jsonl")
        return local_rows(find_file(self.path, [_FILE_NAMES[file]]))

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        return _question(row if "q_text" not in row else _from_hub(row, where), where, file)


def _question(row: dict[str, Any], where: str, file: str) -> Question:
    options = require_texts(row, "options", where)
    known = {"explanation": None, **row}
    return Question(
        # The id contains the file name because the authors' files share some ids.
        id=f"ecqa-{file}-{require(row, 'id', str, where)}",
        question=with_options(require(row, "question", str, where), options),
        answer=require(row, "answer", str, where),
        rationale=(require(known, "explanation", (str, type(None)), where) or "").strip() or None,
        options=options,
    )


def _from_hub(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A record of the hub or of the authors' table, converted to the fields of the local files."""
    options = [require(row, f"q_op{number}", str, where) for number in range(1, 6)]
    return {
        "id": require(row, "q_no", str, where),
        "question": require(row, "q_text", str, where),
        "options": options,
        "answer": _letter(require(row, "q_ans", str, where), options, where),
        "explanation": require({"taskB": None, **row}, "taskB", (str, type(None)), where),
    }


def _letter(answer: str, options: list[str], where: str) -> str:
    """The letter of the first option with the text of the answer. If the option is repeated, either letter is right."""
    for same in (lambda option: option == answer, lambda option: normalise_text(option) == normalise_text(answer)):
        for letter, option in zip(LETTERS, options, strict=False):
            if same(option):
                return letter
    raise DataError(f"{where}: 'q_ans' must be the text of an option, got {answer!r}; options: {options}")
