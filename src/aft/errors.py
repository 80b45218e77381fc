"""Errors that the user can fix. The command shows their message without a traceback and returns their exit code.

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


class AftError(Exception):
    """An error that the user can fix. The command returns `exit_code`."""

    exit_code = 1


class ConfigError(AftError):
    """All problems of one configuration, raised together."""

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in self.problems)


class DataError(AftError):
    """A record that cannot be used. The message names the file, the line and what is missing."""

    exit_code = 3


class DiskError(AftError):
    """The disk is full, read-only, gone or failing. The message names the path, what was written and the way on."""

    exit_code = 5


def folder_gone(config: object) -> DiskError:
    """The error for a run at work whose `config`, the file that it wrote itself, is no longer there."""
    return DiskError(f"{config}: gone. The run's folder was moved or removed while the run was at work.")


# What helps against an error of the disk, by its number.
_REMEDIES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some of your quota",
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EROFS: "Make the file system writable",
    errno.EACCES: "Allow it",
    errno.EPERM: "Allow it",
    errno.EIO: "Check the disk",
    errno.ENXIO: "Check the disk",
    errno.ENODEV: "Check the disk",
    errno.ESTALE: "Mount the file system again",
    errno.ENOTCONN: "Mount the file system again",
}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
# These are errors of the disk only where a path says so; elsewhere a socket or a process can have them.
_NEED_PATH = {errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ENOTCONN}
# Libraries in Rust put the number into the text of an error of their own.
_OF_RUST = re.compile(r"\(os error (\d+)\)")
# torch's writer loses the number. Its reader names the same source file.
_OF_TORCH = re.compile(r"inline_container\.cc|PytorchStreamWriter|iostream error|Parent directory .* does not exist")
_READS = re.compile(r"PytorchStreamReader|central directory|not a ZIP")
_NEARLY_FULL_BYTES = 2**20


def disk_error(error: BaseException, path: str | Path | None = None, what: str = "") -> DiskError | None:
    """The `DiskError` for an exception that the disk caused; None for any other exception.

    Knows the errors of Python, torch, safetensors and tokenizers, also as the cause of another exception. `path` and
    `what`: the file or folder that was written and its content. Without a path, the exception's own is named.
    """
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return None
        found = _disk_error(cause, path, what)
        if found is not None:
            return found
        cause = cause.__cause__ or cause.__context__
    return None


def _disk_error(error: BaseException, path: str | Path | None, what: str) -> DiskError | None:
    text, name = str(error), path
    number = error.errno if isinstance(error, OSError) else None
    of_torch = isinstance(error, RuntimeError) and bool(_OF_TORCH.search(text)) and not _READS.search(text)
    if isinstance(error, OSError) and isinstance(error.filename, str):
        name = path or error.filename
    elif (match := _OF_RUST.search(text)) is not None:
        number = int(match[1])
    elif of_torch:
        number = _number_in(text) or (None if path is None else _state_of(Path(path)))
    if path is not None and number in (None, errno.ENOENT, errno.ENOTDIR) and _is_gone(Path(path)):
        return DiskError(
            f"{path}: {what or 'the file'} cannot be written: its folder is gone. Make it again or move it"
            " back, then run the same command again: it makes what is missing."
        )
    if number in _REMEDIES and not (number in _NEED_PATH and name is None):
        reason, remedy = os.strerror(number), _REMEDIES[number]
        if number in _NOT_ALLOWED and not what:  # nothing says if it was read or written
            reason = f"cannot be read or written: {reason}"
    elif of_torch and path is not None:
        reason, remedy = first_line(error), "Check the disk"
    else:
        return None
    where = f"{name}: " if name is not None else ""
    written = (
        f"{what} cannot be written: "
        if what
        else ""
        if name is not None
        else "standard output or a file cannot be written: "
    )
    return DiskError(f"{where}{written}{reason}. {remedy} and run the same command again; what was finished is kept.")


def _number_in(text: str) -> int | None:
    return next((number for number in _REMEDIES if os.strerror(number) in text), None)


def _state_of(path: Path) -> int | None:
    """The number of the error that a write at `path` must meet, from the state of its file system; None: none."""
    there = next((parent for parent in (path, *path.absolute().parents) if parent.exists()), path)
    with contextlib.suppress(OSError):
        if hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY:
            return errno.EROFS
        if shutil.disk_usage(there).free < _NEARLY_FULL_BYTES:
            return errno.ENOSPC
    return None


def _is_gone(path: Path) -> bool:
    return not path.parent.is_dir()


@contextlib.contextmanager
def writing(path: str | Path, what: str) -> Iterator[None]:
    """Raises `DiskError` for an error of the disk inside the block. `what`: what is written to `path`, for people."""
    try:
        yield
    except AftError:
        raise
    except Exception as error:
        found = disk_error(error, path, what)
        if found is None:
            raise
        raise found from None


def raise_of_machine(error: BaseException) -> None:
    """Raises the `DiskError` or the error of memory that an exception stands for. Returns for any other exception."""
    if (found := disk_error(error) or memory_error(error)) is not None:
        raise found from None


def nearest(name: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest allowed name, or an empty string."""
    matches = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_of_another_process(error: BaseException) -> bool:
    """True for an error of torch.distributed that says only that another process of the launch ended or hung."""
    names, text = {of.__name__ for of in type(error).__mro__}, str(error)
    # NCCL's errors, the store's and the network's are a DistError, also that of a port in use. gloo has no class.
    return ("DistError" in names and "listen" not in text) or (isinstance(error, RuntimeError) and "gloo/" in text)


_NO_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)


def memory_error(error: BaseException) -> AftError | None:
    """The error for a user if the machine or a GPU had no memory left; None for any other exception."""
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return None
    asked = re.search(r"[Tt]ried to allocate [\d.]+ \w+", str(error))
    return AftError(
        f"no memory is left{f' ({asked[0]})' if asked else ''}. Set a smaller batch_size, model.max_tokens_per_batch,"
        " model.max_length or max_new_tokens, or leave out the longest questions"
    )
