"""MATH (Hendrycks et al., 2021): competition problems in LaTeX. The solutions have a boxed answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..answers import extract_boxed
from ..errors import DataError
from ..json_files import require
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask
from .sources import Row, find_file, hub_rows, local_rows

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


class Math(FileTask):
    r"""MATH's 7,500 training and 5,000 test problems. The answer is the last \boxed{...}; `category` is the `type`.

    A response is the solution with its box, so there is no argument `marker`.

    Args:
        path: folder with train.jsonl and test.jsonl, with the hub's fields; None: `EleutherAI/hendrycks_math`.
        num_train: number of problems with their solution; None: all that the other splits leave.
        num_answer_only: number of further training problems without their solution.
        num_validation: number of problems taken from the training file.
        num_test: number of test problems; None: all.
        split_seed: seed of the shuffles.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "MATH"
    HUB_NAME = "EleutherAI/hendrycks_math"
    FILES = (TRAIN, TEST)
    BORROWS = (VALIDATION,)

    def __init__(
        self,
        path: str | None = None,
        num_train: int | None = None,
        num_answer_only: int = 0,
        num_validation: int = 500,
        num_test: int | None = None,
        split_seed: int = 0,
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
            marker="\\boxed",
            kind="boxed",
            skip_unreadable=skip_unreadable,
        )

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is not None:
            yield from local_rows(find_file(self.path, [f"{file}.jsonl"]))
            return
        for subject in SUBJECTS:
            yield from hub_rows(self.HUB_NAME, subject, file, instead="train.jsonl and test.jsonl")

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        solution = require(row, "solution", str, where)
        answer = extract_boxed(solution)
        if answer.answer is None:
            raise DataError(f"{where}: 'solution' has no answer in \\boxed{{...}}: {answer.reason}")
        return Question(
            id=f"math-{file}-{position:06d}",
            question=require(row, "problem", str, where),
            answer=answer.answer,
            rationale=solution,
            category=require({"type": None, **row}, "type", (str, type(None)), where),
        )
