"""A worker: a process that runs units, with its log and progress."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from ..errors import AftError, writing
from ..progress import ENVIRONMENT_KEY, MARK, SECONDS_IN_A_LOG, TOLD, describe, line_mark, say
from .log_file import LONGEST_LINE, LogFile, shown_output

_KEPT_LINES = 40
_SECONDS_TO_END = 10


def num_threads(workers: int) -> str:
    """Returns the threads for each worker: `OMP_NUM_THREADS` if set, otherwise an equal share of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))


class StageFailed(AftError):
    """A process ended before its units were done. The argument `exit_code` is the process's; negative: a signal."""

    def __init__(self, what: str, exit_code: int, message: str, log: Path) -> None:
        self.exit_code = exit_code if exit_code in (1, 2, 3, 5) else 1
        how = f"killed by {_signal_name(-exit_code)}" if exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"{what} failed ({how}); its whole output is in {log}\n{message}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tell(line: str) -> None:
    """Prints a line for the user. A terminal or file that cannot be written must not end the thread that reads."""
    with contextlib.suppress(OSError):
        tqdm.write(line, file=sys.stderr)


class Worker:
    """A process that runs units, with its log file and its reports: current unit, progress and final error.

    A worker with `stays` reads units from standard input, reports when they are done, and waits for more. Any other
    worker gets its units from its command and ends when they are done.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        num_threads: str,
        environment: Mapping[str, str] | None = None,
        *,
        heading: str | None = None,
        stays: bool = False,
    ) -> None:
        self.stays = stays
        self._lock = threading.Lock()
        self._file: LogFile | None = None
        self.open_log(log, heading or " ".join(command))
        key = secrets.token_hex(8)
        self._mark, self._told = line_mark(MARK, key), line_mark(TOLD, key)
        whole = {**os.environ, **(environment or {}), ENVIRONMENT_KEY: f"lines:{key}", "PYTHONUNBUFFERED": "1"}
        whole["OMP_NUM_THREADS"] = num_threads
        whole.setdefault("TOKENIZERS_PARALLELISM", "false")
        # a new session, so that `stop` can end a launcher together with its child processes
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stays else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=whole,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.thread = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.thread.start()

    def open_log(self, log: Path, heading: str) -> None:
        """Starts a new log file with the command `heading` as its first line, and resets all reports."""
        with self._lock:
            self._close_log()
            with writing(log, "the log"):
                self._file = LogFile(log)
            self.log = log
            self._log(shown_output(f"$ {heading}\n"))
            self.unit = ""
            self.done = False
            self.progress: dict[str, Any] = {}
            self.failure: dict[str, Any] = {}
            self.kept: list[str] = []

    def order(self, share: dict[str, Any]) -> None:
        """Sends units to a worker with `stays`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended; `has_failed` reports it
            self.process.stdin.write(f"{json.dumps(share)}\n")
            self.process.stdin.flush()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            while line := stream.readline(LONGEST_LINE):
                with self._lock:
                    self._take(line)
        with self._lock:
            self._close_log()

    def _log(self, line: str) -> bool:
        """Writes a line to the log, and returns False if it repeats the line before.

        A log that cannot be written is given up, and the run goes on.
        """
        if self._file is None:
            return True
        try:
            return self._file.write(line)
        except OSError as error:
            self._close_log()
            _tell(f"warning: {self.log} cannot be written: {error.strerror}; the rest of this output is not kept")
            return True

    def _close_log(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # the disk is full, and `_log` said so
                self._file.close()
            self._file = None

    def _take(self, line: str) -> None:
        if self._take_message(line):
            return
        told, line = line.startswith(self._told), shown_output(line.removeprefix(self._told))
        if not self._log(line):
            return  # the same line once more
        self.kept = [*self.kept[-_KEPT_LINES:], line.rstrip()]
        if told:
            _tell(line.rstrip())

    def _take_message(self, line: str) -> bool:
        """Stores a line that is a report of the worker and returns True. Any other line returns False.

        A report mixed with other output is not valid JSON, so it counts as plain text.
        """
        if not line.startswith(self._mark):
            return False
        try:
            message = json.loads(line.removeprefix(self._mark))
        except (ValueError, RecursionError):
            return False
        if not isinstance(message, dict):
            return False
        if "exit_code" in message:
            self.failure = message
        elif "begins" in message:
            self.unit, self.progress = message["begins"], {}
        elif "waits" in message:
            self.done = True
        else:
            self.progress = message
        return True

    @property
    def is_busy(self) -> bool:
        """True if the process runs and has units to do."""
        return not self.done and self.process.poll() is None

    @property
    def is_idle(self) -> bool:
        """True if the process waits for more units."""
        return self.stays and self.done and self.process.poll() is None

    @property
    def has_failed(self) -> bool:
        """True if the process ended before its units were done."""
        code = self.process.poll()
        if code is None:
            return False
        self.thread.join(timeout=5)  # its last message may still be on the way
        if self.stays:
            return not self.done
        return code != 0 or (bool(self.unit) and not self.done)

    @property
    def exit_code(self) -> int:
        """The exit code that the unit's process reported, otherwise the process's: launchers always fail with 1."""
        return int(self.failure.get("exit_code") or self.process.returncode)

    def message(self) -> str:
        """Returns the error that the process reported, otherwise the end of its output."""
        self.thread.join()
        return str(self.failure.get("error") or "\n".join(self.kept[-15:]))

    def stop(self) -> None:
        """Ends the process and its child processes, and waits for the rest of its output.

        An idle process ends by itself when its standard input is closed.
        """
        if self.process.stdin is not None:
            idle = self.is_idle
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            if idle:
                self.thread.join(timeout=_SECONDS_TO_END)
        if self.process.poll() is not None:
            self.thread.join(timeout=5)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.thread.is_alive():
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.thread.join(timeout=_SECONDS_TO_END)
        self.process.wait()


def watch(crew: Sequence[Worker], stage: str) -> None:
    """Shows one progress line for all workers until their units are done. Returns at the first failure."""
    terminal = sys.stderr.isatty()
    with tqdm(total=None, bar_format="{desc}", dynamic_ncols=True, leave=False, disable=not terminal) as bar:
        show = bar.set_description_str if terminal else say
        pause, shown = (0.2 if terminal else SECONDS_IN_A_LOG), 0.0
        started = time.monotonic()
        while any(worker.is_busy for worker in crew):
            if any(worker.has_failed for worker in crew):
                return
            parts = [describe(worker.progress) for worker in crew if worker.progress and worker.is_busy]
            seconds = time.monotonic() - started
            if seconds - shown >= pause and parts:
                show(f"{stage} {seconds:4.0f} s | " + " | ".join(parts))
                shown = seconds
            time.sleep(0.05)
