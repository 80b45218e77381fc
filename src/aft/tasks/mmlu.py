"""MMLU (Hendrycks et al., 2021): four-option questions of 57 subjects, answered zero-shot. It has no training data."""

from __future__ import annotations

import csv
import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..answers import LETTERS
from ..errors import ConfigError, DataError
from ..json_files import require, require_texts
from ..records import Question
from ..text_files import LARGEST_FILE, LONGEST_LINE, TooLarge, Unreadable, decode, open_regular, read_text
from .base import TEST, VALIDATION
from .files import FileTask
from .kinds import with_options
from .sources import Row, hub_rows

HUB_CONFIG = "all"
NUMBER = "number within the subject"  # a field of our own
_FILE_NAMES = {VALIDATION: "dev", TEST: "test"}


class Mmlu(FileTask):
    """MMLU's test questions of every subject, and its dev questions as validation. `category` is the subject.

    The splits `train` and `answer_only` are empty. Evaluate a checkpoint on MMLU, or make it a part of a mixture.

    Args:
        path: folder with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv, folder with a .tar.gz of these files, or the
            .tar.gz itself; None: `cais/mmlu` (`all`) from the hub.
        num_validation, num_test: number of questions of all subjects together; None: all, 285 and 14,042.
        split_seed: seed of the shuffles.
        marker: text before the final letter in a response.
        skip_unreadable: leave out records that cannot be read, and count them; False: the first one stops.
    Raises: `ConfigError` for an argument out of range. No data are read before the first `load`.
    """

    TITLE = "MMLU"
    HUB_NAME = "cais/mmlu"
    FILES = (VALIDATION, TEST)

    def __init__(
        self,
        path: str | None = None,
        num_validation: int | None = None,
        num_test: int | None = None,
        split_seed: int = 0,
        marker: str = "[ANS]",
        skip_unreadable: bool = False,
    ) -> None:
        sizes = {"num_validation": num_validation, "num_test": num_test}
        super().__init__(
            path=path,
            sizes=sizes,
            split_seed=split_seed,
            marker=marker,
            kind="choice",
            skip_unreadable=skip_unreadable,
        )

    def _rows(self, file: str) -> Iterator[Row]:
        if self.path is None:
            rows = hub_rows(self.HUB_NAME, HUB_CONFIG, _FILE_NAMES[file], instead="dev/*.csv and test/*.csv")
        else:
            rows = _local_rows(self.path, _FILE_NAMES[file])
        return _numbered(rows)

    def _question(self, row: dict[str, Any], where: str, file: str, position: int) -> Question:
        subject = require(row, "subject", str, where)
        options = require_texts(row, "choices", where)
        index = require(row, "answer", int, where)
        if not 0 <= index < len(options):
            raise DataError(f"{where}: 'answer' must be from 0 to {len(options) - 1}, got {index}")
        number = require(row, NUMBER, int, where)
        return Question(
            id=f"mmlu-{_FILE_NAMES[file]}-{subject}-{number:04d}",
            question=with_options(require(row, "question", str, where), options),
            answer=LETTERS[index],
            options=options,
            category=subject,
        )


def _numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The records with their number within the subject, from 0, for their ids."""
    numbers: Counter[str] = Counter()
    for where, row in rows:
        if isinstance(row, DataError):
            yield where, row
        else:
            subject = str(row.get("subject"))
            yield where, {**row, NUMBER: numbers[subject]}
            numbers[subject] += 1


def _local_rows(path: Path, name: str) -> Iterator[Row]:
    """The records of all subjects' CSV files, in alphabetical order of the files, with the hub's fields."""
    ending = f"_{name}.csv"
    for file, text in sorted(_csv_files(path, name)):
        subject = Path(file).name.removesuffix(ending)
        records = 0
        for number, row in enumerate(_csv_rows(text, f"{path}: {file}"), start=1):
            if number == 1 and row[:2] == ["question", "choice0"]:
                continue  # a header, which the original release does not have
            records += 1
            where = f"{path}: {file}, record {number}"
            try:
                yield where, {"subject": subject, **_fields(row, f"{file}, record {number}")}
            except DataError as error:
                yield where, error
        if not records:
            raise DataError(f"{path}: {file}: no question; expected records of a question, four options and the answer")


def _csv_rows(text: str, where: str) -> Iterator[list[str]]:
    """The records of a CSV text. Raises `DataError` with the line for text that is no CSV."""
    rows = csv.reader(io.StringIO(text, newline=""))
    while True:
        # the limit belongs to the whole process, so it is set for the reading of a record alone
        before = csv.field_size_limit(LONGEST_LINE)
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{where}, line {rows.line_num}: not CSV: {error}") from None
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield row


def _csv_files(path: Path, name: str) -> list[tuple[str, str]]:
    """(name, text) of the CSV file of each subject, for one split."""
    ending = f"_{name}.csv"
    archives = [path] if path.is_file() else sorted(path.glob("*.tar.gz"))
    place = path
    try:
        files = []
        for place in sorted(path.glob(f"{name}/*{ending}")):
            files.append((str(place), read_text(place)))
        for place in archives[: not files]:
            with open_regular(place) as raw, tarfile.open(fileobj=raw) as opened:
                for member in opened:
                    if member.size > LARGEST_FILE:
                        raise Unreadable(f"{member.name}: {TooLarge(LARGEST_FILE)}")
                    if member.isfile() and member.name.endswith(ending) and Path(member.name).parent.name == name:
                        files.append((member.name, _member_text(opened, member)))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{place}: cannot be read: {reason}") from None
    except Unreadable as error:
        raise DataError(f"{place}: {error}") from None
    if not files:
        raise ConfigError(f"data.path: {path} has no {name}/SUBJECT{ending}, nor a .tar.gz with these")
    return files


def _member_text(opened: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    handle = opened.extractfile(member)
    assert handle is not None  # None only for members that are no regular files
    try:
        return decode(handle.read())
    except Unreadable as error:
        raise Unreadable(f"{member.name}: {error}") from None


def _fields(row: list[str], where: str) -> dict[str, Any]:
    """A CSV row with the hub's fields. The answer in the row is an index or, in the original release, a letter."""
    if len(row) != 6:
        raise DataError(f"{where}: expected 6 columns, got {len(row)}")
    question, *choices, answer = row
    if answer not in {*"0123", *"ABCD"}:
        raise DataError(f"{where}: the answer must be 0 to 3 or A to D, got {answer!r}")
    index = int(answer) if answer.isdigit() else LETTERS.index(answer)
    return {"question": question, "choices": choices, "answer": index}
