"""How a process of a run ends: with the process that started it, or by a signal, at the next safe point.

A signal raises `Ended` where the process is, or at the end of what it does inside `deferring`. Within `deferring`, the
work asks `asked` wherever it can be cut, and raises `Ended` itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS_TO_END = 30.0
"""The longest wait for a safe point. Whoever sent the signal kills the process then, unless it saves."""

_PARENT = "AFT_PARENT"
_SECONDS_BETWEEN_LOOKS = 0.2
# A terminal that closes sends SIGHUP twice, and a scheduler may send two signals: they ask once.
_SECONDS_OF_ONE_REQUEST = 1.0

_asked: tuple[int, float] | None = None  # the first signal, and when it came
_deferring = 0
_saving = 0


class Ended(BaseException):
    """A signal ends this process. Like an interrupt, it passes through code that catches errors."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        self.name = signal_name(number)
        super().__init__(f"ended by {self.name}")


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ---- signals ----


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGINT, SIGTERM, SIGHUP and SIGUSR1 raise `Ended`.

    A second signal, a second later, raises it also in `deferring`. A signal that is ignored (`nohup`) or handled
    already stays so. Outside the main thread this changes nothing.
    """
    global _asked
    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [
            getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
        ]
        usual = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in usual}
    for number in before:
        signal.signal(number, _take)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _asked = None


def _take(number: int, _: object) -> None:
    global _asked
    now = time.monotonic()
    if _asked is None:
        _asked = (number, now)
        if not _deferring:
            raise Ended(number)
    elif now - _asked[1] >= _SECONDS_OF_ONE_REQUEST:
        raise Ended(number)


def asked() -> Ended | None:
    """The end that a signal has asked for; None if there was no signal."""
    return None if _asked is None else Ended(_asked[0])


@contextlib.contextmanager
def deferring() -> Iterator[None]:
    """Inside, a signal only sets `asked`. At the end of this block, `Ended` is raised if it is set."""
    global _deferring
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
    if _deferring == 0 and (ended := asked()):
        raise ended


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Inside, a process that a signal has asked to end is not killed because its launcher has ended."""
    global _saving
    _saving += 1
    try:
        yield
    finally:
        _saving -= 1


# ---- the parent ----


def tied() -> dict[str, str]:
    """The environment variables with which a child process ends when this process does (`end_with_parent`)."""
    return {_PARENT: f"{os.getpid()} {socket.gethostname()}"}


def end_with_parent(*, launched: bool = False) -> None:
    """Starts a thread that ends this process, and its process group if it leads one, once its parent is gone.

    It does so for a child that was started with the variables of `tied`, and for one that a launcher started
    (`launched`). The latter first reaches its safe point if a signal has asked it to end: the same signal may have
    ended its launcher. Processes in between, such as a launcher's, need not know of this.
    """
    # Not `prctl(PR_SET_PDEATHSIG)`: it would end this process alone, and not the ones that it has started.
    number, _, host = (os.environ.get(_PARENT) or "0").partition(" ")
    told = int(number) if host in ("", socket.gethostname()) else 0  # on another machine, srun ends what it started
    if told or (launched and _is_launcher(os.getppid())):
        watch = threading.Thread(target=_watch, args=(os.getppid(), told), name="parent", daemon=True)
        watch.start()


def _watch(parent: int, told: int) -> None:
    # a process whose parent ends gets another parent at once, so no other process can be mistaken for it
    while os.getppid() == parent and (not told or _exists(told)):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if not told and _asked is not None:
        deadline = _asked[1] + SECONDS_TO_END
        while (now := time.monotonic()) < deadline:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if _saving:
                deadline = now + SECONDS_TO_END
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_launcher(number: int) -> bool:
    """True if a process is a launcher by its command: a shell in which a user set its variables may be closed."""
    try:
        command = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False
    return any(name in command for name in (b"accelerate", b"torchrun", b"torch.distributed", b"deepspeed"))


def _exists(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
