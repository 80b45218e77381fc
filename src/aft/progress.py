"""Progress of long work: a bar in a terminal, lines in a log file, or lines for the process that started this one.

The workers of a stage run at the same time, and their bars would overwrite each other. With AFT_PROGRESS=lines in its
environment, a worker writes marked lines instead, and the conductor draws a single bar from them. With
AFT_PROGRESS=lines:KEY the marks hold the key, so that text from outside cannot pass for a worker's line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from . import ending
from .shown import shown, shown_line

ENVIRONMENT_KEY = "AFT_PROGRESS"
MARK = "\x1eaft "
TOLD = "\x1esay "
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # torchrun gives each rank one, in a folder of the rank
_FAILED, _FOLLOWED = "aft-failed", "aft-followed"  # beside these folders
_SECONDS_BETWEEN_LINES = 0.5
SECONDS_IN_A_LOG = 15.0  # between two lines; few, because a log keeps them all


def line_mark(mark: str, key: str) -> str:
    """What a worker's line begins with: `MARK` or `TOLD`, and the key that its conductor gave it."""
    return f"{mark}{key} " if key else mark


def _to_conductor() -> tuple[bool, str]:
    """True if a conductor reads this process's lines, and the key of their marks."""
    kind, _, key = os.environ.get(ENVIRONMENT_KEY, "").partition(":")
    return kind == "lines", key


def is_first_rank() -> bool:
    """True in the one process of a launch that writes output: its RANK, set by the launcher, is 0 or missing."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """The progress of one piece of work. Use it as a context manager and call `update`.

    `total` is 0 if it is unknown. A bar appears after `delay` seconds, so that short work shows none. If standard error
    is not a terminal, whole lines appear instead, one every `SECONDS_IN_A_LOG` seconds and one at the end.
    """

    def __init__(self, description: str, total: int, unit: str = "it", *, delay: float = 0.0) -> None:
        self.description, self.total, self.unit, self.delay = shown_line(description), total, shown_line(unit), delay
        self.done = 0
        self._skipped = 0
        self.note = ""
        self._lines = _to_conductor()[0]
        self._tokens = 0
        self._begun = time.monotonic()
        self._pause = _SECONDS_BETWEEN_LINES if self._lines else SECONDS_IN_A_LOG
        self._last = 0.0 if self._lines else self._begun
        self._bar: Any = None
        # Every rank counts its progress, but only the first rank shows it.
        self._silent = not is_first_rank()

    def __enter__(self) -> Progress:
        if not self._lines and not self._silent and sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total or None,
                desc=self.description,
                unit=self.unit,
                dynamic_ncols=True,
                smoothing=0.1,
                delay=self.delay,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif time.monotonic() - self._begun >= self.delay:
            self._send()

    def update(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done and show `note` after the bar."""
        self.done += count
        self.note = note or self.note
        if self._bar is not None:
            self._bar.set_postfix_str(shown_line(self.note), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last > self._pause:
            self._send()

    def skip(self, count: int) -> None:
        """Count items that were done before this run. They do not enter the estimate of the time left."""
        self._skipped += count
        if self._bar is not None:
            self._bar.initial += count
        self.update(count)

    def _seconds_left(self) -> float:
        """The time left at the speed of this run so far; 0 before the first item or without a total."""
        made = self.done - self._skipped
        return (self.total - self.done) * (time.monotonic() - self._begun) / made if made > 0 and self.total else 0.0

    def rate(self, tokens: int) -> str:
        """Count `tokens` more tokens and return the tokens per second so far, as text."""
        self._tokens += tokens
        return f"{self._tokens / max(time.monotonic() - self._begun, 1e-9):,.0f} tok/s"

    def _send(self) -> None:
        if self._silent:
            return
        self._last = time.monotonic()
        left = round(self._seconds_left())
        note = shown_line(self.note)
        message = {"what": self.description, "done": self.done, "total": self.total, "note": note, "left": left}
        if self._lines:
            _send(message)
        else:
            print(f"{describe(message)}\n", end="", file=sys.stderr, flush=True)


def describe(message: dict[str, Any]) -> str:
    """One line of text for a message that `Progress` sends: share done, note and time left."""
    done, total = message["done"], message["total"]
    share = f" {100 * done // total:3d} % ({done}/{total}" if total else f" ({done}"
    note = f", {shown_line(message['note'])}" if message["note"] else ""
    left = f", {tqdm.format_interval(message['left'])} left" if message["left"] else ""
    return f"{shown_line(message['what'])}{share}{note}{left})"


def tell_failure(message: str, exit_code: int, *, follows: bool = False) -> bool:
    """Send the error that ends this process to the conductor, across a launcher if there is one.

    `follows`: the error only says that another process has ended. Returns whether this process must print its error
    (`claim_failure`).
    """
    if _to_conductor()[0]:
        _send({"error": message, "exit_code": exit_code, "follows": follows})
    return claim_failure(None if follows else message)


def claim_failure(message: str | None) -> bool:
    """True in the first process of torchrun's launch on this machine that fails, and in any process without torchrun.

    `message`: the reason, which torchrun's summary then prints as it is; None: this process ends because of another.
    """
    told = os.environ.get(_ERROR_FILE)
    if told is None:
        return True
    path = Path(told)
    try:
        if message is None and (path.parent.parent / _FAILED).exists():
            return False
        os.close(os.open(path.parent.parent / (_FOLLOWED if message is None else _FAILED), os.O_CREAT | os.O_EXCL))
        if message is not None:
            # torchrun takes the earliest failure for the cause. It counts in seconds, so this one is put before others.
            at, text = str(int(time.time()) - 1), shown(message)
            whole = {"message": {"message": text, "extraInfo": {"py_callstack": text, "timestamp": at}}}
            path.write_text(json.dumps(whole), encoding="utf-8")
    except FileExistsError:
        return False
    except OSError:  # torchrun's folder is gone or full
        pass
    return True


def tell_unit(unit: str) -> None:
    """Send the name of the unit that begins, so that the conductor can name it if the process dies silently."""
    if _to_conductor()[0] and is_first_rank():
        _send({"begins": unit})


def tell_waiting() -> None:
    """Tell the conductor that all units given to this process are done and that it waits for more."""
    _send({"waits": True})


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Inside, this process saves what it must not lose: after a signal, the conductor waits until it has saved."""
    # The first rank saves longest, because it seals what all have written. Others wait for it.
    told = _to_conductor()[0] and is_first_rank()
    with ending.saving():
        if told:
            _send({"saves": True})
        try:
            yield
        finally:
            if told:
                _send({"saves": False})


def _send(message: dict[str, Any]) -> None:
    # One write holds the line and its line feed, so that no other process can write into the line.
    mark = line_mark(MARK, _to_conductor()[1])
    print(f"{mark}{json.dumps(message)}\n", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print lines for the user above any bar, as `shown`. Only the first rank prints."""
    if not is_first_rank():
        return
    text = shown(text)
    read, key = _to_conductor()
    if read:
        told = line_mark(TOLD, key)
        print("".join(f"{told}{line}\n" for line in text.splitlines()), end="", file=sys.stderr, flush=True)
    else:
        tqdm.write(text, file=sys.stderr)
