"""Reads and writes JSON, JSON lines and text.

A file is written whole: under a temporary name, then flushed to the disk, then renamed. Lines can also be appended. A
disk that is full, read-only or gone raises `DiskError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import AftError, DataError, DiskError, writing
from .text_files import LONGEST_LINE, has_half_pair, iter_lines, read_text

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
        try:
            value = json_object(text, f"{path}:{number}")
        except DataError as error:
            if Path(path).suffix != ".gz" and cut_line(Path(path)) == number:
                raise DataError(f"{error}; it is the last line, which was cut while it was written") from None
            raise
        yield number, value


def read_lines_leniently(path: str | Path) -> list[dict[str, Any]]:
    """The objects in a JSON-lines file that another process may be writing. Lines that are no objects are left out.

    Empty if the file is absent or cannot be read. Only for files of which nothing is computed.
    """
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, DataError):
        for _, text in iter_lines(path):
            with contextlib.suppress(DataError):
                found.append(json_object(text, str(path)))
    return found


def cut_line(path: Path) -> int | None:
    """Returns the number of the last line of a JSONL file if it was cut while it was written, or None.

    Such a line has no line feed at its end, or is no JSON.
    """
    lines, size = 0, path.stat().st_size
    with path.open("rb") as handle:
        while part := handle.read(2**20):
            lines += part.count(b"\n")
        tail, end = 2**20, b""
        while b"\n" not in end.strip():  # the last line may begin before what was read
            handle.seek(max(0, size - tail))
            end = handle.read()
            if tail >= min(size, LONGEST_LINE):
                break
            tail *= 4
    if not end.strip():
        return None
    is_whole = end.endswith(b"\n")
    try:
        json.loads(end.rstrip(b"\n").rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        return lines + (not is_whole)
    return None if is_whole else lines + 1


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


# Keys of records that are left out where they are None, so that records without them are written as before.
_LEFT_OUT = frozenset({"response_mask", "prefix"})


def json_line(record: Any) -> str:
    """One record as a JSON line, newline included."""
    is_record = dataclasses.is_dataclass(record) and not isinstance(record, type)
    return _json(dataclasses.asdict(record, dict_factory=_present) if is_record else record) + "\n"


def _present(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if value is not None or key not in _LEFT_OUT}


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
    """Write a text file atomically and durably; compress it if its name ends in `.gz`."""
    path = Path(path)
    data = text.encode("utf-8")
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)  # equal texts give equal bytes


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file through a temporary file and a rename: a reader sees the old file or the complete new file.

    Content and name are on the disk on return, so that a power failure keeps them. Raises `DiskError`, and then leaves
    no temporary file.
    """
    path = Path(path)
    temporary = temporary_path(path)
    with writing(path.parent, "the folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "the file"):
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                _sync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the system can."""
    # not every system can open a folder
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file that another library wrote to the disk. Raises OSError."""
    with path.open("rb") as handle:
        _sync(handle.fileno())


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some file systems cannot flush one file, and say so with one of these
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


# A power failure can lose the lines of so many seconds. Flushing each line to the disk would cost milliseconds a line.
_SECONDS_BETWEEN_FLUSHES = 5.0


class LineWriter:
    """Appends records to a JSON-lines file. Use it as a context manager.

    A line is in the file when `write` returns, so a killed process loses none. The file is flushed to the disk every
    few seconds and at the end. A line that does not fit on the disk is taken off again. Raises `DiskError`, also if the
    file was deleted meanwhile. `what` names the content in messages. `exclusive`: the file must be new, otherwise
    `FileExistsError`. Not thread-safe.
    """

    def __init__(self, path: Path, what: str, *, exclusive: bool = False) -> None:
        self.path, self.what = path, what
        with writing(path.parent, "the folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, what):
            # unbuffered: a buffer that could not be written would raise again when the file is closed
            self._handle = path.open("xb" if exclusive else "ab", buffering=0)
        self._flushed = time.monotonic()

    def write(self, record: Any) -> None:
        """Append one record."""
        line = memoryview(json_line(record).encode("utf-8"))
        with writing(self.path, self.what):
            end = os.fstat(self._handle.fileno()).st_size
            try:
                while line:
                    line = line[self._handle.write(line) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle.fileno(), end)
                raise
        if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_FLUSHES:
            self._flush()

    def close(self) -> None:
        """Flush the lines to the disk and close the file."""
        if not self._handle.closed:
            try:
                self._flush()
            finally:
                self._handle.close()

    def _flush(self) -> None:
        with writing(self.path, self.what):
            _sync(self._handle.fileno())
            # what is written to a deleted file is lost without an error
            if os.fstat(self._handle.fileno()).st_nlink == 0:
                raise DiskError(f"{self.path}: {self.what}: the file was deleted while it was written")
        self._flushed = time.monotonic()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(AftError):  # the error that is on its way says more
            self.close()


# ---- temporary files ----

# `.NAME.HOST-PID.tmp`. Earlier versions wrote no host.
_TEMPORARY = re.compile(r"\..+\.(?:([0-9a-f]{8})-)?(\d+)\.tmp")
# safetensors writes a file under such a name before it renames it.
_OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
# No write of ours takes as long. A process id can belong to another process by then.
_SECONDS_OF_A_WRITE = 3600.0


def temporary_path(path: Path) -> Path:
    """The name under which this process writes a file or folder before it renames it to `path`."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def remove_leftovers(folder: Path, *, of_safetensors: bool = False) -> list[Path]:
    """Remove the temporary files and folders that ended processes left in a folder; returns their paths.

    Folders inside are not looked into. A file stays if its process may live: it runs on this host, or the file is of
    another host and younger than an hour. `of_safetensors`: also its half-written files. They have no process id, so
    nobody else may write into the folder then. An error of the disk is ignored.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in paths if _is_leftover(path, of_safetensors) and _remove(path)]


def _is_leftover(path: Path, of_safetensors: bool) -> bool:
    is_folder = path.is_dir() and not path.is_symlink()
    if of_safetensors and not is_folder and _OF_SAFETENSORS.fullmatch(path.name):
        return True
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or (is_folder and match[1] is None):  # a name without a host may be anybody's
        return False
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    return age > _SECONDS_OF_A_WRITE or (match[1] in (None, _host()) and not _is_alive(int(match[2])))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return process != os.getpid()


def _remove(path: Path) -> bool:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError:
        return False
    return True
