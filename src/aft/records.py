"""The records that stages hand to each other, as JSON lines a person can open.

`Question` (a task's data), `Completion` (what a model wrote), `Group` (a question with its rated candidates).
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import DataError, nearest

POSITIVE = "positive"
NEGATIVE = "negative"
UNPARSED = "unparsed"
REFERENCE = "reference"
LABELS = (POSITIVE, NEGATIVE, UNPARSED, REFERENCE)

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of a task. `rationale` is None where only the answer is known.

    `question` is the whole text that a prompt holds, a multiple-choice question's options included; `options` are
    their bare texts in order, and `answer` is then the letter of the right one. `category` groups questions whose
    accuracy is reported apart, such as a subject.
    """

    id: str
    question: str
    answer: str
    rationale: str | None = None
    options: tuple[str, ...] | None = None
    category: str | None = None


@dataclasses.dataclass(frozen=True)
class Completion:
    """One sampled completion, keyed by (question_id, index). `truncated`: the length limit came before an end token."""

    question_id: str
    index: int
    completion: str
    truncated: bool
    num_tokens: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One member of a group. `label` is positive, negative, unparsed or reference; `rating`: higher is better."""

    completion: str
    rating: float
    label: str
    answer: str | None = None
    truncated: bool = False
    index: int | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """A question, its gold answer, its reference response (None where unknown) and its rated candidates."""

    question_id: str
    question: str
    answer: str
    reference: str | None
    candidates: tuple[Candidate, ...]


Record = TypeVar("Record")


def iter_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every non-blank line, `.gz` unpacked. Any line that is no JSON object: `DataError`."""
    for number, text in iter_lines(path):
        yield number, _json_object(text, f"{path}:{number}")


def iter_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of every non-blank line of a UTF-8 file, `.gz` unpacked; only a line feed ends a line."""
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            # bytes, so that a wrong one is found with its line
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield number, _decode(line, f"{path}:{number}").removesuffix("\n")
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text: {error.reason} at byte {error.start + 1} of the line") from None


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or endless nesting
        raise DataError(f"{where}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def require(value: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`value[key]`, checked; `where` (`file:line`) begins the `DataError` if it is absent or of another type."""
    if key not in value:
        raise DataError(f"{where}: missing '{key}' (the line has {', '.join(map(repr, value)) or 'no keys'})")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # bool is an int to Python, never to a reader of the file
    if not isinstance(value[key], kinds) or (isinstance(value[key], bool) and bool not in kinds):
        names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise DataError(f"{where}: '{key}' must be {names}, got {type(value[key]).__name__}")
    return value[key]


def require_texts(value: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """`value[key]` as `require`, where it must be a list of texts."""
    items = require(value, key, list, where)
    for position, item in enumerate(items):
        if not isinstance(item, str):
            raise DataError(f"{where}: '{key}[{position}]' must be str, got {type(item).__name__}")
    return tuple(items)


def read_questions(path: str | Path) -> list[Question]:
    """Questions of a JSONL file, in file order."""
    questions = []
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        known = {"rationale": None, "options": None, "category": None, **value}
        questions.append(
            Question(
                id=require(value, "id", str, where),
                question=require(value, "question", str, where),
                answer=require(value, "answer", str, where),
                rationale=require(known, "rationale", (str, type(None)), where),
                options=None if known["options"] is None else require_texts(known, "options", where),
                category=require(known, "category", (str, type(None)), where),
            )
        )
    return questions


def read_completions(path: str | Path) -> list[Completion]:
    """Completions of a JSONL file, in file order."""
    completions = []
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        completions.append(
            Completion(
                question_id=require(value, "question_id", str, where),
                index=require(value, "index", int, where),
                completion=require(value, "completion", str, where),
                truncated=require(value, "truncated", bool, where),
                num_tokens=require(value, "num_tokens", int, where),
                seed=require(value, "seed", int, where),
            )
        )
    return completions


def read_groups(path: str | Path) -> list[Group]:
    """Groups of a JSONL file, in file order."""
    return list(iter_groups(path))


def iter_groups(path: str | Path) -> Iterator[Group]:
    """The same one after the other."""
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        items = require(value, "candidates", list, where)
        yield Group(
            question_id=require(value, "question_id", str, where),
            question=require(value, "question", str, where),
            answer=require(value, "answer", str, where),
            reference=require({"reference": None, **value}, "reference", (str, type(None)), where),
            candidates=tuple(_candidate(item, f"{where}: candidates[{i}]") for i, item in enumerate(items)),
        )


def _candidate(item: Any, where: str) -> Candidate:
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(item).__name__}")
    item = {"answer": None, "truncated": False, "index": None, **item}
    rating, label = require(item, "rating", (int, float), where), require(item, "label", str, where)
    if not abs(rating) <= sys.float_info.max:  # NaN compares false
        raise DataError(f"{where}: 'rating' must be finite, got {rating}")
    if label not in LABELS:
        raise DataError(f"{where}: 'label' must be one of {', '.join(LABELS)}, got '{label}'.{nearest(label, LABELS)}")
    return Candidate(
        completion=require(item, "completion", str, where),
        rating=float(rating),
        label=label,
        answer=require(item, "answer", (str, type(None)), where),
        truncated=require(item, "truncated", bool, where),
        index=require(item, "index", (int, type(None)), where),
    )


def json_line(record: Any) -> str:
    """One record as a JSON line, newline included."""
    value = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return _json(value) + "\n"


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # half of a surrogate pair is legal in JSON's escapes but has no UTF-8 form
    return json.dumps(value, indent=indent) if _SURROGATE.search(text) else text


def write_json_lines(path: str | Path, records: Iterable[Any]) -> None:
    """Write records as JSON lines, atomically: a reader sees the old file or the whole new one."""
    write_text(path, "".join(json_line(record) for record in records))


def write_json(path: str | Path, value: Any) -> None:
    """Write one indented JSON value, atomically."""
    write_text(path, _json(value, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, packed where its name ends in `.gz`, through a temporary file beside it and a rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.suffix == ".gz":
        temporary.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))  # the same bytes for the same text
    else:
        temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
