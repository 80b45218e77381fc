"""Reads and writes JSON, JSON lines and text; every write is atomic."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import DataError

MADE_AGAIN = "Delete it, and the command that wrote it makes it again."
_LONGEST_LINE = 2**24  # bytes that are looked at for the last line of a file
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(path: str | Path) -> dict[str, Any] | None:
    """The object in a JSON file of a run; None if there is no file. Any other content raises `DataError`."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}. {MADE_AGAIN}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}. {MADE_AGAIN}")
    return value


def iter_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every non-blank line, `.gz` unpacked. A line that is no JSON object: `DataError`."""
    for number, text in iter_lines(path):
        try:
            value = json_object(text, f"{path}:{number}")
        except DataError as error:
            if Path(path).suffix != ".gz" and cut_line(Path(path)) == number:
                raise DataError(f"{error}; it is the last line, which was cut while it was written") from None
            raise
        yield number, value


def cut_line(path: Path) -> int | None:
    """Returns the number of the last line of a JSONL file if it was cut while it was written, or None.

    Such a line has no line feed at its end, or is no JSON.
    """
    lines, size = 0, path.stat().st_size
    with path.open("rb") as handle:
        while part := handle.read(2**20):
            lines += part.count(b"\n")
        handle.seek(max(0, size - _LONGEST_LINE))
        end = handle.read()
    if not end.strip():
        return None
    is_whole = end.endswith(b"\n")
    try:
        json.loads(end.rstrip(b"\n").rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        return lines + (not is_whole)
    return None if is_whole else lines + 1


def iter_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of every non-blank line of a UTF-8 file, `.gz` unpacked. Only a line feed ends a line."""
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            # The file is read as bytes, so that a decoding error can name its line.
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


def json_object(line: str, where: str) -> dict[str, Any]:
    """The object in one line of JSON. Raises a `DataError` that begins with `where` for anything else."""
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
    return json.dumps(value, indent=indent) if _SURROGATE.search(text) else text


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
