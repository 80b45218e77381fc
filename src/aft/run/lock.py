"""The lock of a run's folder: one run at a time writes into it. Where each file lies: `RunFolder`.

`.lock` is locked by the kernel (flock) while a run is at work, so it is free once the process is gone.
`.lock.json` says who holds it. Its time moves while the run is at work, which another host can see.
`.lock.writers` is locked by each process while it does units: those of a run that was killed may live a little longer.

A file system without flock has `.lock.json` alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import AftError, ConfigError, DataError, disk_error
from ..json_files import read_json, write_json
from ..shown import shown_line
from .environment import command
from .folder import RunFolder

_SECONDS_OF_A_BEAT = 10.0  # between two signs of life
_SECONDS_WITHOUT_A_BEAT = 30.0  # after these, a run on another host counts as gone
_SECONDS_OF_A_CLOCK = 600.0  # by which the clocks of two hosts may differ
_SECONDS_FOR_WRITERS = 10.0
_PATIENCE = 1.0
_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}

_held: set[Path] = set()  # the folders that this process holds


class FolderInUse(AftError):
    """Another run writes into this folder."""

    exit_code = 4


@contextlib.contextmanager
def hold(run: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a run's folder, which is made if there is none. A process may hold it several times.

    `say` is told whose lock was taken over. Raises `FolderInUse` while another run holds it or still writes,
    `DiskError` for an error of the disk, and `ConfigError` if there cannot be such a folder.
    """
    folder = run.path.resolve()
    if folder in _held:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(run, say))
        except OSError as error:
            # a path that leads nowhere is a wrong setting, and not a disk that is gone
            nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR)
            found = None if nowhere else disk_error(error, run.path, "the lock")
            raise found or ConfigError(f"output_dir: {run.path} cannot be written: {error.strerror}") from None
        with contextlib.suppress(OSError):  # that of a run that was killed
            run.progress.unlink(missing_ok=True)
        _held.add(folder)
        stack.callback(_held.discard, folder)
        yield


def tell_holder(run: RunFolder) -> str | None:
    """Says in a line who is at work in a folder; None if nobody is, or this process itself. Changes nothing."""
    found = None if run.path.resolve() in _held else find_holder(run)
    return f"{run.path} is in use by {found.words}" if found and found.is_alive else None


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a folder, or held it when it was killed.

    `words`: process, host, time and command on one line, as shown. `process`: its number, if it runs on this host.
    `beat`: the time of its last sign of life, by another clock, if it does not.
    """

    words: str
    is_alive: bool
    process: int | None
    beat: float | None = None


def find_holder(run: RunFolder) -> Holder | None:
    """Returns who holds a folder or did not give it back; None if nobody does. Changes nothing."""
    owner = _read(run)
    if owner is None:
        return None
    is_alive, number = _seems_alive(run, owner), owner.get("process")
    if owner.get("host") != socket.gethostname():
        return Holder(_describe(owner), is_alive, None, _last_beat(run.owner))
    return Holder(_describe(owner), is_alive, number if is_alive and isinstance(number, int) else None)


class HolderWatch:
    """Looks at a folder's holder again and again, so that the clock of another host may differ from this one's.

    The time of the holder's file is compared with itself: a run counts as gone once it has not moved for a minute.
    Until then `words` say how long there was no sign of life. Only a run that was silent for long is gone at once.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._beat: float | None = None
        self._since, self._moved = 0.0, False

    def look(self) -> Holder | None:
        """As `find_holder`."""
        found = find_holder(self.run)
        if found is None or found.beat is None:
            self._beat = None
            return found
        if found.beat != self._beat:
            self._moved, self._since = self._beat is not None, time.monotonic()
            self._beat = found.beat
        watched, age = time.monotonic() - self._since, time.time() - found.beat
        silent = watched if self._moved else max(watched, age)
        is_alive = watched < 2 * _SECONDS_WITHOUT_A_BEAT and (self._moved or age < _SECONDS_OF_A_CLOCK)
        words = found.words
        if is_alive and silent >= _SECONDS_WITHOUT_A_BEAT:
            words = f"no sign of life for {silent:.0f} s; {words}"
        return dataclasses.replace(found, is_alive=is_alive, words=words)


@contextlib.contextmanager
def writing(run: RunFolder) -> Iterator[None]:
    """Marks this process as one that writes into a run's folder, so that no other run begins before it has ended."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that cannot be written is reported by what writes into it
            handle = stack.enter_context(run.writers.open("a"))
            _try_until(time.monotonic() + _PATIENCE, lambda: _flock(handle, shared=True))
        yield


# ---- taking ----


@contextlib.contextmanager
def _locked(run: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        kernel = _lock_file(run)
        if kernel is not None:
            stack.callback(kernel.release)
        owner = _read(run)
        if owner is not None:
            if kernel is None or owner.get("host") != socket.gethostname():
                _refuse_if_alive(run, owner, say)
            say(f"{run.path}: {_describe(owner)} is gone; this run takes over")
        _wait_for_writers(run)
        if kernel is None:
            say(f"{run.path}: this file system has no locks; {run.owner.name} alone keeps other runs out")
            run.owner.unlink(missing_ok=True)
            try:
                with run.owner.open("x", encoding="utf-8") as handle:
                    json.dump(_myself(), handle)
            except FileExistsError:
                raise _in_use(run) from None
        else:
            write_json(run.owner, _myself())
        stack.callback(run.owner.unlink, missing_ok=True)
        ended = threading.Event()
        stack.callback(ended.set)
        threading.Thread(target=_beat, args=(run.owner, ended), name="lock", daemon=True).start()
        yield


def _lock_file(run: RunFolder) -> Any:
    """Locks `.lock` and returns the lock, or None if the file system has no locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(run.lock, fallback_to_soft=False)
    try:
        # not at once: another process may look at the lock
        lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
    except Timeout:
        raise _in_use(run) from None
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        raise
    return lock


def _in_use(run: RunFolder) -> FolderInUse:
    owner = _read(run)
    return FolderInUse(
        f"output_dir: {run.path} is in use by {'another run' if owner is None else _describe(owner)}."
        " Wait for it or end it, or give this run an output_dir of its own"
    )


def _refuse_if_alive(run: RunFolder, owner: dict[str, Any], say: Callable[[str], None]) -> None:
    """Raises `FolderInUse` if a run is at work that the kernel's lock does not show."""
    if owner.get("host") == socket.gethostname():
        if _is_alive_here(owner):
            raise _in_use(run)
        return
    seen = _last_beat(run.owner)
    if time.time() - seen > _SECONDS_OF_A_CLOCK:
        return
    say(f"{run.path}: waits up to {_SECONDS_WITHOUT_A_BEAT:g} s for a sign of life of {_describe(owner)}")
    # the time of the file is compared with itself, as the clocks of two hosts differ
    if _try_until(time.monotonic() + _SECONDS_WITHOUT_A_BEAT, lambda: _last_beat(run.owner) != seen):
        raise _in_use(run)


def _wait_for_writers(run: RunFolder) -> None:
    """Waits until no process of an earlier run writes any more. They end soon after their conductor."""
    with run.writers.open("a") as handle:
        if not _try_until(time.monotonic() + _SECONDS_FOR_WRITERS, lambda: _flock(handle, shared=False)):
            raise FolderInUse(
                f"output_dir: {run.path} is in use: a process of an earlier run still writes into it;"
                f" `fuser {shlex.quote(str(run.writers))}` names it"
            )


def _flock(handle: IO[str], *, shared: bool) -> bool:
    """Tries once to lock an open file, until it is closed. True also where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_FLOCK
    return True


def _try_until(deadline: float, attempt: Callable[[], bool]) -> bool:
    while not attempt():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


# ---- who ----


def _myself() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    number = os.getpid()
    return {
        "process": number,
        "host": socket.gethostname(),
        "command": shlex.join(command()),
        "since": now,
        "started": _started(number),
    }


def _read(run: RunFolder) -> dict[str, Any] | None:
    """Who holds the folder, as its file says; an object without keys if it cannot be read."""
    try:
        return read_json(run.owner)
    except DataError:
        return {}


def _describe(owner: dict[str, Any]) -> str:
    known = {key: " ".join(str(owner.get(key) or "unknown").split()) for key in ("process", "host", "since", "command")}
    shortened = known["command"] if len(known["command"]) <= 300 else known["command"][:300] + " …"
    return shown_line(f"process {known['process']} on {known['host']} since {known['since']} ({shortened})")


def _seems_alive(run: RunFolder, owner: dict[str, Any]) -> bool:
    if owner.get("host") == socket.gethostname():
        return _is_alive_here(owner)
    return time.time() - _last_beat(run.owner) < 2 * _SECONDS_WITHOUT_A_BEAT


def _is_alive_here(owner: dict[str, Any]) -> bool:
    """True if the process exists on this host and began when the owner did: its number may be another's by now."""
    number = owner.get("process")
    if not isinstance(number, int) or number <= 0:
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    if _has_ended(number):
        return False
    began = _started(number)
    return began is None or owner.get("started") in (None, began)


def _has_ended(number: int) -> bool:
    """True for a process that has ended and whose parent has not asked how: it still has its number."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in ("Z", "X")
    return False


def _started(number: int) -> str | None:
    """When a process of this host began, as text that no other process with its number has; None if not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # the name of the program, in brackets, may hold spaces
        return f"{boot} {Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError, UnicodeDecodeError):
        return None


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_OF_A_BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _last_beat(path: Path) -> float:
    """The time of the owner's file, read through an open file: a network file system may know an old one by its name.

    0 if the file is gone.
    """
    try:
        with path.open("rb") as handle:
            return os.fstat(handle.fileno()).st_mtime
    except OSError:
        return 0.0
