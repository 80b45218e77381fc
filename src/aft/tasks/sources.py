"""Reads records from local files or the hub, cuts splits and removes overlaps. It does not import torch."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError, raise_of_machine
from ..json_files import iter_lines, json_line, json_object
from ..records import Question

Row = tuple[str, dict[str, Any] | DataError]
"""The place of a record (`file:line`, for messages) and its fields, or why its line has none."""


def find_file(folder: Path, names: Sequence[str]) -> Path:
    """The first file of `folder` with one of `names`, with or without `.gz`; `ConfigError` if there is none."""
    tried = [version for name in names for version in (name, f"{name}.gz")]
    for name in tried:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"data.path: {folder} has no {' or '.join(tried)}")


def local_rows(path: Path) -> Iterator[Row]:
    """The records of a JSONL file, `.gz` unpacked."""
    for line, text in iter_lines(path):
        where = f"{path}:{line}"
        yield where, read_row(json_object, text, where)


def read_row(read: Callable[[str, str], dict[str, Any]], text: str, where: str) -> dict[str, Any] | DataError:
    """`read(text, where)`, or the `DataError` that it raises: one bad line must not end the reading of a file."""
    try:
        return read(text, where)
    except DataError as error:
        return error


def hub_rows(name: str, config: str | None, split: str, *, instead: str) -> Iterator[Row]:
    """The records of a data set on the hub.

    If loading fails, a `DataError` names the local files that can be used `instead` on a machine without network.
    """
    import datasets  # imported here because it is slow and only the hub needs it

    title = f"{name} ({config})" if config else name
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise_of_machine(error)
        reason = " ".join(str(error).split()).rstrip(".")
        if "script" in reason.lower() or "trust_remote_code" in reason:
            raise DataError(
                f"data set {title} on the hub has a loading script, which datasets does not run ({reason}). "
                f"data.path=DIR takes a folder with {instead}"
            ) from None
        raise DataError(
            f"data set {title} cannot be loaded from the hub: {reason}. "
            f"Without a network, data.path=DIR takes a folder with {instead}"
        ) from None
    for number, row in enumerate(rows, start=1):
        yield f"{title}, {split}:{number}", row


def check_common(sizes: Mapping[str, int | None], marker: str) -> list[str]:
    """Problems of the sizes and the marker, which all tasks have."""
    problems = [
        f"data.{name}: must be at least 0, got {size}" for name, size in sizes.items() if size is not None and size < 0
    ]
    if not marker.strip() or "\n" in marker:
        problems.append(f"data.answer_marker: must be visible text on one line, got {marker!r}")
    return problems


def shuffled(questions: Sequence[Question], seed: int) -> list[Question]:
    """A shuffled copy. The same questions and seed give the same order on every machine."""
    result = list(questions)
    random.Random(seed).shuffle(result)
    return result


def cut(questions: Sequence[Question], sizes: Mapping[str, int | None], available: str) -> list[list[Question]]:
    """Consecutive parts of `questions` with the given sizes. One size may be None: all that the others leave.

    If there are too few questions, raises a `ConfigError` that names the sizes and what is `available`.
    """
    left = len(questions) - sum(size for size in sizes.values() if size is not None)
    if left < 0:
        asked = ", ".join(f"data.{name}: got {size}" for name, size in sizes.items() if size is not None)
        raise ConfigError(f"{asked}; available: {available}")
    parts, start = [], 0
    for size in sizes.values():
        size = left if size is None else size
        parts.append(list(questions[start : start + size]))
        start += size
    return parts


def cut_training(
    questions: Sequence[Question], num_train: int | None, num_answer_only: int | None, title: str
) -> tuple[list[Question], list[Question]]:
    """(train, answer_only): training questions with their chain, and training questions without.

    answer_only takes questions with unknown chains first, then withholds the chains of others. With `num_answer_only`
    None, it is exactly the questions with unknown chains.
    """
    chained = [question for question in questions if question.rationale is not None]
    unchained = [question for question in questions if question.rationale is None]
    only = len(unchained) if num_answer_only is None else num_answer_only
    bare = unchained[:only]
    available = f"{len(questions)} questions in {title}'s train file"
    if unchained:
        available += f", {len(chained)} of them with a chain"
    train, withheld = cut(chained, {"num_train": num_train, "num_answer_only": only - len(bare)}, available)
    return train, bare + [dataclasses.replace(question, rationale=None) for question in withheld]


def question_key(question: Question) -> str:
    """A key of a question, options included. Questions that differ only in case and white space have equal keys."""
    return " ".join(question.question.split()).casefold()


def remove_overlaps(
    train: Sequence[Question],
    held_out: Mapping[str, Sequence[Question]],
    key: Callable[[Question], str] = question_key,
) -> tuple[list[Question], list[str]]:
    """(the first copy of each training question that is in no held-out split, notes on the removed questions)."""
    keys = {name: {key(question) for question in questions} for name, questions in held_out.items()}
    found = dict.fromkeys(keys, 0)
    kept: dict[str, Question] = {}
    overlapping = repeated = 0
    for question in train:
        this = key(question)
        hits = [name for name in keys if this in keys[name]]
        for name in hits:
            found[name] += 1
        overlapping += bool(hits)
        repeated += not hits and this in kept
        if not hits:
            kept.setdefault(this, question)
    notes = []
    if overlapping:
        where = ", ".join(f"{count} in {name}" for name, count in found.items() if count)
        notes.append(f"{count_questions(overlapping)} removed from training: also held out ({where})")
    if repeated:
        notes.append(f"{count_questions(repeated)} removed from training: the wording of an earlier one")
    return list(kept.values()), notes


def describe_common(
    held_out: Mapping[str, Sequence[Question]], key: Callable[[Question], str] = question_key
) -> list[str]:
    """Notes on questions that held-out splits share. They are kept, because no training uses them."""
    keys = {name: {key(question) for question in questions} for name, questions in held_out.items()}
    names, notes = list(keys), []
    for position, name in enumerate(names):
        for other in names[position + 1 :]:
            if common := len(keys[name] & keys[other]):
                notes.append(f"{count_questions(common)} of {name} also in {other}: kept in both")
    return notes


def count_questions(count: int) -> str:
    """A number of questions as text: `1 question`, `1,200 questions`."""
    return f"{count:,} question{'' if count == 1 else 's'}"


def digest_questions(files: Iterable[Sequence[Question]]) -> str:
    """SHA-256 of all questions. The same content gives the same digest, whatever its source."""
    digest = hashlib.sha256()
    for questions in files:
        for question in questions:
            # Fields that are None are left out, so that a new field of `Question` does not change existing digests.
            # `rationale` stays even if it is None, because existing digests include it.
            values = {"rationale": question.rationale}
            values |= {key: value for key, value in vars(question).items() if value is not None}
            order = {field.name: values[field.name] for field in dataclasses.fields(question) if field.name in values}
            digest.update(json_line(order).encode())
    return digest.hexdigest()
