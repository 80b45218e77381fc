"""Progress of long work: a bar in a terminal, lines in a log file, or lines for the process that started this one.

A stage's workers run side by side, and bars of several processes would overwrite each other. So a worker whose
environment has AFT_PROGRESS=lines writes one marked line per update, and the conductor draws a single bar from them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from tqdm.auto import tqdm

ENVIRONMENT_KEY = "AFT_PROGRESS"
MARK = "\x1eaft "
TOLD = "\x1esay "
_SECONDS_BETWEEN_LINES = 0.5
SECONDS_IN_A_LOG = 15.0  # between lines that stay: few


def is_first_rank() -> bool:
    """Whether this process speaks for all that share its work: a launcher numbers them in RANK, from 0."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """One piece of work with a known total, or 0. Use as a context manager; call `update`.

    A bar appears after `delay` seconds, so that short work shows none. Where standard error is no terminal there are
    whole lines instead, one now and then and one at the end, so that nothing else is written into them.
    """

    def __init__(self, description: str, total: int, unit: str = "it", *, delay: float = 0.0) -> None:
        self.description, self.total, self.unit, self.delay = description, total, unit, delay
        self.done = 0
        self._skipped = 0
        self.note = ""
        self._lines = os.environ.get(ENVIRONMENT_KEY) == "lines"
        self._tokens = 0
        self._begun = time.monotonic()
        self._pause = _SECONDS_BETWEEN_LINES if self._lines else SECONDS_IN_A_LOG
        self._last = 0.0 if self._lines else self._begun
        self._bar: Any = None
        # every rank counts, one shows
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
        """Count `count` more done; `note` stands behind the bar."""
        self.done += count
        self.note = note or self.note
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last > self._pause:
            self._send()

    def skip(self, count: int) -> None:
        """Count what was there already: it says nothing about how long the rest takes."""
        self._skipped += count
        if self._bar is not None:
            self._bar.initial += count
        self.update(count)

    def _seconds_left(self) -> float:
        """Time to go if the rest takes as long as what was done here; 0 before anything is."""
        made = self.done - self._skipped
        return (self.total - self.done) * (time.monotonic() - self._begun) / made if made > 0 and self.total else 0.0

    def rate(self, tokens: int) -> str:
        """Count tokens, and say how many there were per second so far."""
        self._tokens += tokens
        return f"{self._tokens / max(time.monotonic() - self._begun, 1e-9):,.0f} tok/s"

    def _send(self) -> None:
        if self._silent:
            return
        self._last = time.monotonic()
        left = round(self._seconds_left())
        message = {"what": self.description, "done": self.done, "total": self.total, "note": self.note, "left": left}
        if self._lines:
            _send(message)
        else:
            print(f"{describe(message)}\n", end="", file=sys.stderr, flush=True)


def describe(message: dict[str, Any]) -> str:
    """How far a piece of work is, from what `Progress` sends."""
    done, total = message["done"], message["total"]
    share = f" {100 * done // total:3d} % ({done}/{total}" if total else f" ({done}"
    note = f", {message['note']}" if message["note"] else ""
    left = f", {tqdm.format_interval(message['left'])} left" if message["left"] else ""
    return f"{message['what']}{share}{note}{left})"


def tell_failure(message: str, exit_code: int) -> None:
    """Hand the error that ends this process to the one that started it, which may sit behind a launcher."""
    if os.environ.get(ENVIRONMENT_KEY) == "lines":
        _send({"error": message, "exit_code": exit_code})


def tell_unit(unit: str) -> None:
    """Say which unit begins, for the message of one that never gets to say anything itself."""
    if os.environ.get(ENVIRONMENT_KEY) == "lines" and os.environ.get("RANK", "0") == "0":
        _send({"begins": unit})


def tell_waiting() -> None:
    """Say that all units handed to this process are done and that it waits for more."""
    _send({"waits": True})


def _send(message: dict[str, Any]) -> None:
    # in one piece, its line feed included, so that no other process can write into it
    print(f"{MARK}{json.dumps(message)}\n", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Lines for the person who runs this, above any bar; only from the first rank."""
    if not is_first_rank():
        return
    if os.environ.get(ENVIRONMENT_KEY) == "lines":
        print("".join(f"{TOLD}{line}\n" for line in text.splitlines()), end="", file=sys.stderr, flush=True)
    else:
        tqdm.write(text, file=sys.stderr)
