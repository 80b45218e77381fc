"""The records that stages pass to each other, as files of JSON lines.

`Question` (the data of a task), `Completion` (the text of a model), `Group` (a question with its rated candidates).
"""

from __future__ import annotations

import dataclasses
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import DataError, nearest
from .json_files import (
    iter_json_lines,
    iter_lines,
    json_line,
    require,
    require_texts,
    write_json,
    write_json_lines,
    write_text,
)

__all__ = [
    "LABELS",
    "NEGATIVE",
    "POSITIVE",
    "REFERENCE",
    "UNPARSED",
    "Candidate",
    "Completion",
    "Group",
    "Prefix",
    "Question",
    "has_pair",
    "iter_groups",
    "iter_json_lines",
    "iter_lines",
    "json_line",
    "read_completions",
    "read_groups",
    "read_questions",
    "write_json",
    "write_json_lines",
    "write_text",
]

POSITIVE = "positive"
NEGATIVE = "negative"
UNPARSED = "unparsed"
REFERENCE = "reference"
LABELS = (POSITIVE, NEGATIVE, UNPARSED, REFERENCE)

# Default number of questions in each split of a generated task. It is here because tasks and configuration both read
# it and may not import each other.
WORLD_SIZES = {
    "num_train": 100,
    "num_answer_only": 700,
    "num_validation": 400,
    "num_test": 1000,
    "num_pretrain": 96_000,
}


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of a task. `rationale` is None if only the answer is known.

    `question` is the whole text for the prompt, with the options of a multiple-choice question. `options` are the
    texts of these options in order, without letters; `answer` is then the letter of the right option. Accuracy is also
    reported for each `category`, for example for each subject.
    """

    id: str
    question: str
    answer: str
    rationale: str | None = None
    options: tuple[str, ...] | None = None
    category: str | None = None


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The beginning of a completion that was not sampled with it: the first `tokens` ids of another completion.

    `chain` is the index of that completion of the same question.
    """

    chain: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Completion:
    """One sampled completion with key (question_id, index). `truncated`: the length limit came before an end token.

    `num_tokens`: how many tokens were sampled. `token_ids`: the ids that were sampled, with the end token if there is
    one. None in records of other origin. `completion` is for people and for reading answers: it can encode to other
    ids. With `prefix`, text and ids begin with the tokens of another completion, which `num_tokens` does not count.
    `response_mask`: see `Candidate`.
    """

    question_id: str
    index: int
    completion: str
    truncated: bool
    num_tokens: int
    seed: int
    token_ids: tuple[int, ...] | None = None
    response_mask: tuple[int, ...] | None = None
    prefix: Prefix | None = None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One member of a group. `label` is positive, negative, unparsed or reference. A higher `rating` is better.

    `token_ids`: those of the sampled completion. None for a text that was not sampled; it is encoded where it is used.
    `response_mask`: 1 for each of the `token_ids` that counts in scores and losses, 0 for one that the model only
    reads; at least one is 1. None: all count. `prefix`: the beginning that a completion has from another one.
    """

    completion: str
    rating: float
    label: str
    answer: str | None = None
    truncated: bool = False
    index: int | None = None
    token_ids: tuple[int, ...] | None = None
    response_mask: tuple[int, ...] | None = None
    prefix: Prefix | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """A question, its gold answer, its reference response (None if unknown) and its rated candidates."""

    question_id: str
    question: str
    answer: str
    reference: str | None
    candidates: tuple[Candidate, ...]


def has_pair(ratings: Iterable[float], min_rating_gap: float = 0.0) -> bool:
    """Whether one of a group's candidates outranks another: its rating is higher by more than `min_rating_gap`.

    The losses decide the same of a batch with `groups_with_pair`. A batch holds ratings as float32, so these are
    rounded to it first: 0.3 and 0.2 then differ by more than 0.1.
    """
    rounded = array("f", ratings)
    if not rounded:
        return False
    gap, least = array("f", (max(rounded) - min(rounded), min_rating_gap))
    return gap > least


Record = TypeVar("Record")


def _once(name: str, line: int, lines: dict[Any, int], key: Any, where: str) -> None:
    """Note the line of a key. Raises a `DataError` with both lines if an earlier line has the key."""
    if lines.setdefault(key, line) != line:
        raise DataError(f"{where}: {name} appears twice, first in line {lines[key]}")


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a JSONL file, in file order. Raises `DataError` for an id that appears twice."""
    questions, lines = [], dict[str, int]()
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        question_id = require(value, "id", str, where)
        _once(f"question '{question_id}'", line, lines, question_id, where)
        known = {"rationale": None, "options": None, "category": None, **value}
        questions.append(
            Question(
                id=question_id,
                question=require(value, "question", str, where),
                answer=require(value, "answer", str, where),
                rationale=require(known, "rationale", (str, type(None)), where),
                options=None if known["options"] is None else require_texts(known, "options", where),
                category=require(known, "category", (str, type(None)), where),
            )
        )
    return questions


def read_completions(path: str | Path, *, once: bool = True) -> list[Completion]:
    """The completions of a JSONL file, in file order. Raises `DataError` for one that appears twice, if `once`."""
    completions, lines = [], dict[tuple[str, int], int]()
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        key = require(value, "question_id", str, where), require(value, "index", int, where)
        if once:
            _once(f"completion {key[1]} of question '{key[0]}'", line, lines, key, where)
        completions.append(
            Completion(
                question_id=key[0],
                index=key[1],
                completion=require(value, "completion", str, where),
                truncated=require(value, "truncated", bool, where),
                num_tokens=require(value, "num_tokens", int, where),
                seed=require(value, "seed", int, where),
                **_of_tokens(value, where),
            )
        )
    return completions


def read_groups(path: str | Path) -> list[Group]:
    """The groups of a JSONL file, in file order."""
    return list(iter_groups(path))


def iter_groups(path: str | Path) -> Iterator[Group]:
    """Yields the groups of a JSONL file in file order, one at a time. Raises `DataError` for a question that appears
    twice."""
    lines: dict[str, int] = {}
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        items = require(value, "candidates", list, where)
        question_id = require(value, "question_id", str, where)
        _once(f"question '{question_id}'", line, lines, question_id, where)
        yield Group(
            question_id=question_id,
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
    if not abs(rating) <= sys.float_info.max:  # written so that NaN fails too
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
        **_of_tokens(item, where),
    )


def _of_tokens(value: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a record that are about its tokens."""
    ids = _token_ids(value, where)
    return {"token_ids": ids, "response_mask": _response_mask(value, ids, where), "prefix": _prefix(value, ids, where)}


def _response_mask(value: dict[str, Any], ids: tuple[int, ...] | None, where: str) -> tuple[int, ...] | None:
    """The mask of a record's token ids; None if it has none."""
    mask = require({"response_mask": None, **value}, "response_mask", (list, type(None)), where)
    if mask is None:
        return None
    if ids is None:
        raise DataError(f"{where}: 'response_mask' has a value for each of the token ids, but 'token_ids' is absent")
    if not set(map(type, mask)) <= {int} or not {*mask} <= {0, 1}:
        raise DataError(f"{where}: 'response_mask' must hold 0 and 1 alone")
    if len(mask) != len(ids):
        raise DataError(f"{where}: 'response_mask' has {len(mask):,} values for {len(ids):,} token ids")
    if 1 not in mask:
        raise DataError(f"{where}: 'response_mask' has no 1: at least one token must count")
    return tuple(mask)


def _prefix(value: dict[str, Any], ids: tuple[int, ...] | None, where: str) -> Prefix | None:
    """Where a record left the chain that it begins with; None if it begins by itself."""
    found = require({"prefix": None, **value}, "prefix", (dict, type(None)), where)
    if found is None:
        return None
    here = f"{where}: prefix"
    prefix = Prefix(require(found, "chain", int, here), require(found, "tokens", int, here))
    if prefix.tokens < 1 or (ids is not None and prefix.tokens >= len(ids)):
        of = "" if ids is None else f" and fewer than the {len(ids):,} token ids"
        raise DataError(f"{here}: 'tokens' must be at least 1{of}, got {prefix.tokens}")
    return prefix


def _token_ids(value: dict[str, Any], where: str) -> tuple[int, ...] | None:
    """The token ids of a record; None if it has none."""
    ids = require({"token_ids": None, **value}, "token_ids", (list, type(None)), where)
    if ids is None:
        return None
    if not set(map(type, ids)) <= {int} or min(ids, default=0) < 0:
        raise DataError(f"{where}: 'token_ids' must be integers of at least 0")
    return tuple(ids)
