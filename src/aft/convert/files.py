"""Reads rows from JSON, parquet and saved data sets of other tools, and writes rows to JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..json_files import iter_json_lines, parse_json, write_json, write_json_lines
from ..text_files import TooLarge, Unreadable, open_text, read_text
from .rows import Row

LINES, LIST, PARQUET = ".jsonl", ".json", ".parquet"
DATASET_INFO = "dataset_info.json"


def kind_of(path: Path) -> str:
    """Returns the suffix of a file name, without `.gz`."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields (location, row) of a `.jsonl` or `.json` file (also `.gz`), a `.parquet` file or a `save_to_disk` folder.

    Raises `DataError` if the file is of another kind, cannot be read, or has a row that is not an object.
    """
    if path.is_dir() or path.suffix == PARQUET:
        yield from _table_rows(path)
    elif kind_of(path) not in (LINES, LIST):
        raise DataError(f"{path}: expected .jsonl, .json (either also .gz), .parquet or a folder of save_to_disk")
    elif _first_character(path) == "[":
        yield from _list_rows(path)
    else:
        for line, row in iter_json_lines(path):
            yield f"{path}:{line}", row


def _first_character(path: Path) -> str:
    """The first character of a file that is not white space; empty if there is none."""
    try:
        with open_text(path) as handle:
            while block := handle.read(2**16):
                if block := block.lstrip():
                    return block[:1]
    except (OSError, ValueError, EOFError, zlib.error):
        pass  # reading the rows reports the error
    return ""


def _list_rows(path: Path) -> Iterator[tuple[str, Row]]:
    rows = _read_value(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number}: expected a JSON object, got {type(row).__name__}")
        yield f"{path}: row {number}", row


def _table_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        for number, row in enumerate(_saved_rows(path) if path.is_dir() else _parquet_rows(path), start=1):
            yield f"{path}: row {number}", row
    except (OSError, ValueError) as error:  # the libraries' own errors are subclasses
        raise DataError(f"{path}: cannot be read: {error}") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet  # installed with datasets, whose own reader would copy the file into its cache

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _saved_rows(path: Path) -> Iterator[Row]:
    import datasets  # slow to import, and only needed for saved data sets

    found = datasets.load_from_disk(str(path))
    if isinstance(found, datasets.DatasetDict):
        raise DataError(
            f"{path}: has several splits; name one of them: {', '.join(str(path / name) for name in found)}"
        )
    yield from found


def check_output(path: Path, source: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raises `ConfigError` if `path` has a wrong suffix, is a folder, exists already, or is the input file."""
    name = path.name
    if not any(name.endswith(suffix) and name != suffix for suffix in suffixes):
        raise ConfigError(f"OUTPUT: {path} must end in {' or '.join(suffixes)}")
    if path.exists() and source.exists() and path.samefile(source):
        raise ConfigError(f"OUTPUT: {path} is INPUT")
    if path.is_dir():
        raise ConfigError(f"OUTPUT: {path} is a folder")
    if path.exists() and not overwrite:
        raise ConfigError(f"OUTPUT: {path} is there already; --overwrite replaces it")


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Writes rows or records atomically: to `.json` as a JSON list, otherwise as JSON lines."""
    try:
        if kind_of(path) == LIST:
            write_json(path, list(rows))
        else:
            write_json_lines(path, rows)
    except OSError as error:
        raise ConfigError(f"OUTPUT: {path} cannot be written: {error.strerror}") from None


def describe(output: Path, row: Row, *, overwrite: bool) -> dict[str, Any]:
    """Returns the new content of `dataset_info.json`, LLaMA-Factory's list of data sets, in the folder of `output`.

    Other entries of the file are kept. Raises `DataError` if the file cannot be read. Raises `ConfigError` if it has
    another data set with this name.
    """
    path, name = output.with_name(DATASET_INFO), output.stem
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    if "system" in row:
        columns["system"] = "system"
    entry = {"file_name": output.name, "ranking": True, "columns": columns}
    found = _read_object(path) if path.exists() else {}
    if found.get(name, entry) != entry and not overwrite:
        raise ConfigError(f"OUTPUT: {path} describes another data set '{name}'; --overwrite replaces its entry")
    return {**found, name: entry}


def add_description(output: Path, description: dict[str, Any]) -> Path:
    """Writes the result of `describe` and returns the file's path."""
    path = output.with_name(DATASET_INFO)
    write_json(path, description)
    return path


def _read_object(path: Path) -> dict[str, Any]:
    value = _read_value(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _read_value(path: Path) -> Any:
    """The value of a JSON file of at most `LARGEST_FILE` bytes."""
    try:
        return parse_json(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    except TooLarge as error:
        raise DataError(f"{path}: {error}; convert it to JSON lines, which are read one at a time") from None
    except Unreadable as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # what `parse_json` refuses, or too deep nesting
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
