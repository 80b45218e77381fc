"""GSM8K (Cobbe et al., 2021): grade-school word problems with a worked solution and an integer answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..answers import normalise_number
from ..errors import DataError
from ..json_files import require
from ..records import Question
from .base import TEST, TRAIN, VALIDATION
from .files import FileTask, Splits
from .sources import Row, cut, find_file, hub_rows, local_rows

HUB_CONFIG = "main"
_ANSWER_LINE = "\n#### "
_ANNOTATION = re.compile(r"<<[^<>]*>>")


class Gsm8k(FileTask):
    """GSM8K in the paper's splits: 7,473 train questions; the official test file gives 400 validation and 919 test.

    Each official file is shuffled by its own `random.Random(split_seed)`. The first parts of the train file are `train`
    and `answer_only` (answer known, chain withheld); the first parts of the test file are `validation` and `test`.
    The paper's GSM8K-RANK uses questions of this train split, with `num_train=1000`.

    Args:
        path: folder with train.jsonl and test.jsonl, or the same as .jsonl.gz; None: `openai/gsm8k` from the hub.
        num_train: number of questions with their chain; None: all that `num_answer_only` leaves.
        num_answer_only: number of further training questions without their chain.
        num_validation: number of questions of the official test file for choosing hyper-parameters.
        num_test: number of test questions; None: all that `num_validation` leaves.
        split_seed: seed of both shuffles.
        marker: text before the final answer in a response.
        keep_annotations: keep `<<48/2=24>>`, as the paper does.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "GSM8K"
    HUB_NAME = "openai/gsm8k"
    FILES = (TRAIN, TEST)

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
        self.keep_annotations = keep_annotations

    def _cut_held_out(self) -> Splits:
        sizes = {name: self.sizes[name] for name in ("num_validation", "num_test")}
        pool = self._pools[TEST]
        validation, test = cut(pool, sizes, f"{len(pool)} questions in GSM8K's test file")
        return {VALIDATION: validation, TEST: test}

    def _training_pool(self) -> list[Question]:
        return self._pools[TRAIN]

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is not None:
            return local_rows(find_file(self.path, [f"{file}.jsonl"]))
        return hub_rows(self.HUB_NAME, HUB_CONFIG, file, instead="train.jsonl and test.jsonl")

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        text = require(row, "question", str, where)
        rationale, found, answer = require(row, "answer", str, where).rpartition(_ANSWER_LINE)
        if not found:
            raise DataError(f"{where}: 'answer' has no last line '#### ' with the final answer")
        if "\n" in answer or normalise_number(answer) is None:
            raise DataError(f"{where}: the text behind '#### ' must be a number, got {answer!r}")
        if not self.keep_annotations:
            rationale = _ANNOTATION.sub("", rationale)
        return Question(f"gsm8k-{file}-{position:06d}", text, answer, rationale)
