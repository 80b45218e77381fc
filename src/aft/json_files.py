"""Reads and writes JSON, JSON lines and text; every write is atomic."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import DataError
from .text_files import has_half_pair, iter_lines, read_text

MADE_AGAIN = "Delete it, and the command that wrote it makes it again."


def read_json(path: str | Path, hint: str = MADE_AGAIN) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file. Other content raises a `DataError` that ends in `hint`."""
    try:
        value = parse_json(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}. {hint}".rstrip()) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}. {hint}".rstrip())
    return value


def iter_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every non-blank line, `.gz` unpacked. A line that is no JSON object: `DataError`."""
    for number, text in iter_lines(path):
        yield number, json_object(text, f"{path}:{number}")


def json_object(line: str, where: str) -> dict[str, Any]:
    """The object in one line of JSON. Raises a `DataError` that begins with `where` for anything else."""
    try:
        value = parse_json(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # what `parse_json` refuses, or an integer of thousands of digits
        raise DataError(f"{where}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises `json.JSONDecodeError`, `RecursionError` for endless nesting, and `ValueError` for a repeated key or half of
    a surrogate pair: no tokenizer and no UTF-8 file takes such a text.
    """
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    if end != len(text):  # white space around the value, or an error
        value = _DECODER.decode(text)
    if "\\u" in text and _ESCAPED_SURROGATE.search(text) and (half := _half_pair(value)):
        raise ValueError(f"{half} holds half of a surrogate pair, which is no character")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' appears twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _half_pair(value: Any, name: str = "the text") -> str | None:
    """The name of a text of the value that holds half of a surrogate pair; None if no text does."""
    if isinstance(value, str):
        return name if has_half_pair(value) else None
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = ((f"'{key}'", item) for key, item in value.items())
        if any(map(has_half_pair, value)):
            return "a key"
    elif isinstance(value, list):
        inner = ((name, item) for item in value)
    return next((found for key, item in inner if (found := _half_pair(item, key))), None)


def require(value: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`value[key]`. Raises a `DataError` that begins with `where` (`file:line`) if it is absent or not a `kind`."""
    if key not in value:
        raise DataError(f"{where}: missing '{key}' (the line has {', '.join(map(repr, value)) or 'no keys'})")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # Python counts bool as int, but true is not a number in a JSON file.
    if not isinstance(value[key], kinds) or (isinstance(value[key], bool) and bool not in kinds):
        names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise DataError(f"{where}: '{key}' must be {names}, got {type(value[key]).__name__}")
    return value[key]


def require_texts(value: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """`value[key]` as a tuple. Raises a `DataError` that begins with `where` if it is absent or no list of texts."""
    items = require(value, key, list, where)
    for position, item in enumerate(items):
        if not isinstance(item, str):
            raise DataError(f"{where}: '{key}[{position}]' must be str, got {type(item).__name__}")
    return tuple(items)


def require_messages(value: dict[str, Any], key: str, where: str) -> list[tuple[str, str]]:
    """`value[key]`, a list of chat messages, as (role, content) pairs.

    Raises a `DataError` that begins with `where` if the list is absent or empty, or a message lacks role or content.
    """
    found = []
    for position, message in enumerate(require(value, key, list, where)):
        here = f"{where}: {key}[{position}]"
        if not isinstance(message, dict):
            raise DataError(f"{here}: expected a message with 'role' and 'content', got {type(message).__name__}")
        found.append((require(message, "role", str, here), require(message, "content", str, here)))
    if not found:
        raise DataError(f"{where}: '{key}' has no message")
    return found


def json_line(record: Any) -> str:
    """One record as a JSON line, newline included."""
    value = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return _json(value) + "\n"


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Half of a surrogate pair is legal as a JSON escape but has no UTF-8 form.
    return json.dumps(value, indent=indent) if has_half_pair(text) else text


def write_json_lines(path: str | Path, records: Iterable[Any]) -> None:
    """Write records as JSON lines, atomically: a reader sees the old file or the complete new file."""
    write_text(path, "".join(json_line(record) for record in records))


def write_json(path: str | Path, value: Any) -> None:
    """Write one indented JSON value, atomically."""
    write_text(path, _json(value, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file through a temporary file and a rename; compress it if its name ends in `.gz`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if path.suffix == ".gz":
        temporary.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))  # equal texts give equal bytes
    else:
        temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
