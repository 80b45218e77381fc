"""Reads text files within limits: regular files only, UTF-8, and lines or whole files of bounded size.

A byte order mark at the start of a file is taken off. Memory does not grow with what a damaged or hostile file claims.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from .errors import DataError

LONGEST_LINE = 256 * 2**20
"""Most bytes of a line of a data file, unpacked."""
LARGEST_FILE = 2**31
"""Most bytes of a file that is read as a whole, unpacked."""


_SURROGATE = re.compile("[\ud800-\udfff]")


class Unreadable(ValueError):
    """A file's content cannot be read as text within the limits. The message does not name the file."""


class TooLarge(Unreadable):
    """A file has more bytes than are read as a whole."""

    def __init__(self, most: int) -> None:
        super().__init__(f"larger than {_size(most)}")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, as bytes. Raises `OSError`, also for a pipe or a device, which may never end."""
    handle = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))
    return handle


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer


def read_text(path: str | Path, most: int = LARGEST_FILE) -> str:
    """The text of a file, `.gz` unpacked. Raises `OSError`, and `TooLarge` or `Unreadable` for its content."""
    with open_regular(path) as raw:
        try:
            data = _read(_unpacked(raw, path), most)
        except (EOFError, zlib.error) as error:
            raise Unreadable(f"damaged gzip file: {error}") from None
    return decode(data, most)


def _read(handle: IO[bytes], most: int) -> bytes:
    """The bytes of a file, and no more than a little beyond `most`."""
    data = io.BytesIO()
    # one `read` of `most` bytes would take the memory for all of them at once
    while data.tell() <= most and (part := handle.read(2**20)):
        data.write(part)
    return data.getvalue()


@contextlib.contextmanager
def open_text(path: str | Path) -> Iterator[IO[str]]:
    """A UTF-8 file for reading, without its mark, `.gz` unpacked. Raises `OSError`; reading it raises what is wrong."""
    with open_regular(path) as raw:
        yield io.TextIOWrapper(cast(io.BytesIO, _unpacked(raw, path)), encoding="utf-8-sig")


def decode(data: bytes, most: int = LARGEST_FILE) -> str:
    """The text of a file's bytes. Raises `TooLarge` for more than `most` bytes, and `Unreadable` for no UTF-8."""
    if len(data) > most:
        raise TooLarge(most)
    return _decode(data.removeprefix(codecs.BOM_UTF8))


def iter_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of every non-blank line of a UTF-8 file, `.gz` unpacked. Only a line feed ends a line.

    Raises `DataError` with file and line if a line is no UTF-8 or longer than `LONGEST_LINE`, and with the file if it
    cannot be read or changes before its end is reached.
    """
    try:
        with open_regular(path) as raw:
            before = os.fstat(raw.fileno())
            handle = _unpacked(raw, path)
            number = 0
            while line := handle.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{path}:{number}: the line is longer than {_size(LONGEST_LINE)}")
                if line.strip():
                    yield number, _decode_line(line, f"{path}:{number}").removesuffix("\n")
            after = os.fstat(raw.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise DataError(f"{path}: changed while it was read")
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _unpacked(raw: BinaryIO, path: str | Path) -> IO[bytes]:
    if Path(path).suffix != ".gz":
        return raw
    # a buffer in C around it: the lines of a GzipFile are cut in Python
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), 2**16)


def _decode_line(line: bytes, where: str) -> str:
    try:
        return _decode(line)
    except Unreadable as error:
        raise DataError(f"{where}: {error} of the line") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise Unreadable("UTF-16 text, not UTF-8: its mark is at the beginning") from None
        raise Unreadable(f"not UTF-8 text: {error.reason} at byte {error.start + 1}") from None


def _size(size: int) -> str:
    return f"{size / 2**30:g} GB" if size >= 2**30 else f"{size / 2**20:g} MB"


def has_half_pair(text: str) -> bool:
    """True if a text holds half of a surrogate pair. It has no UTF-8 form, and tokenizers raise on it."""
    return _SURROGATE.search(text) is not None
