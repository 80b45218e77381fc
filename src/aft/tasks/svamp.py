"""SVAMP (Patel et al., 2021): one- and two-step word problems, each with the equation that solves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..answers import format_number, normalise_number
from ..errors import DataError
from ..json_files import require
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask
from .sources import Row, find_file, hub_rows, local_rows


class Svamp(FileTask):
    """SVAMP's 700 training and 300 test questions. The equation is the chain, and `category` is the field `Type`.

    Args:
        path: folder with train.jsonl and test.jsonl, with the hub's fields; None: `ChilleD/SVAMP` from the hub.
        num_train: number of questions with their equation; None: all that the other splits leave.
        num_answer_only: number of further training questions without their equation; None: those that have none.
        num_validation: number of questions taken from the training file.
        num_test: number of test questions; None: all.
        split_seed: seed of the shuffles.
        marker: text before the final answer in a response.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "SVAMP"
    HUB_NAME = "ChilleD/SVAMP"
    FILES = (TRAIN, TEST)
    BORROWS = (VALIDATION,)

    def __init__(
        self,
        path: str | None = None,
        num_train: int | None = None,
        num_answer_only: int | None = None,
        num_validation: int = 100,
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
            kind="number",
            skip_unreadable=skip_unreadable,
        )

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is not None:
            return local_rows(find_file(self.path, [f"{file}.jsonl"]))
        return hub_rows(self.HUB_NAME, None, file, instead="train.jsonl and test.jsonl")

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        return _question(row, where, f"svamp-{file}-{position:06d}")


def _question(row: dict[str, Any], where: str, question_id: str) -> Question:
    text = row.get("question_concat")
    if text is None:
        text = f"{require(row, 'Body', str, where).strip()} {require(row, 'Question', str, where).strip()}"
    answer = str(require(row, "Answer", (str, int, float), where))
    value = normalise_number(answer)
    if value is None:
        raise DataError(f"{where}: 'Answer' must be a number, got {answer!r}")
    return Question(
        id=question_id,
        question=text,
        answer=format_number(value),  # the data have 145.0 for 145
        rationale=require({"Equation": "", **row}, "Equation", str, where).strip() or None,
        category=require({"Type": None, **row}, "Type", (str, type(None)), where),
    )
