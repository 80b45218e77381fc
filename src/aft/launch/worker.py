"""A worker: a process that runs units, with its log and progress."""

from __future__ import annotations

import contextlib
import json
import os
import re
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

from ..ending import SECONDS_TO_END, signal_name, tied
from ..errors import AftError, writing
from ..json_files import temporary_path
from ..progress import ENVIRONMENT_KEY, MARK, SECONDS_IN_A_LOG, TOLD, describe, line_mark, say
from .log_file import LONGEST_LINE, LogFile, shown_output, without_bar

_KEPT_LINES = 200  # a launcher's own come behind those of a rank
_SHOWN_LINES = 15
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_FILES = 1.0  # of the progress
_SECONDS_TO_DIE = 10  # of a process that was killed
_FIRST_OF_SIGNALS = 128

# What is often behind a signal that nobody sent by hand.
_OFTEN = {
    "SIGKILL": "; out of memory?",
    "SIGSEGV": ": native code, of a library or a driver, read memory that is not its own",
    "SIGBUS": ": a file that it had mapped is shorter now, or its disk or /dev/shm is full",
    "SIGABRT": ": native code gave up; it often says why in its last lines",
    "SIGILL": ": native code has an instruction that this processor lacks",
    "SIGFPE": ": native code divided by zero",
}
# The first line of what a launcher says of a rank that failed, or of its own traceback.
_OF_THE_LAUNCHER = re.compile(r"^[EW]\d{4} .*torch/distributed/elastic/|^Traceback \(most recent call last\):")


def num_threads(workers: int) -> str:
    """Returns the threads for each worker: `OMP_NUM_THREADS` if set, otherwise an equal share of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))


class StageFailed(AftError):
    """A process ended before its units were done. The argument `exit_code` is the process's; negative: a signal."""

    def __init__(self, what: str, exit_code: int, message: str, log: Path) -> None:
        self.exit_code = exit_code if 1 <= exit_code < _FIRST_OF_SIGNALS else 1
        super().__init__(f"{what} failed ({_how(exit_code)}); its output is in {log}\n{message}")


def _how(exit_code: int) -> str:
    if exit_code < 0:
        name = signal_name(-exit_code)
        return f"killed by {name}{_OFTEN.get(name, '')}"
    if exit_code > _FIRST_OF_SIGNALS:
        return f"ended by {signal_name(exit_code - _FIRST_OF_SIGNALS)}"
    return f"exit code {exit_code}"


def _signal_in(line: str) -> int | None:
    """The signal of a rank, as a launcher's line tells it: from accelerate's traceback, or from torchrun's table.

    Not above 0: an exit code. None: the line tells neither.
    """
    if found := re.search(r"died with <Signals\.(SIG[A-Z0-9]+)", line):
        return int(signal.Signals[found[1]])
    found = re.search(r"^\s*exitcode\s*:\s*(-?\d+)", line)
    return -int(found[1]) if found else None


def _tell(line: str) -> None:
    """Prints a line for the user. A terminal or file that cannot be written must not end the thread that reads."""
    with contextlib.suppress(OSError):
        tqdm.write(line, file=sys.stderr)


class Worker:
    """A process that runs units, with its log file and its reports: current unit, progress and final error.

    A worker with `stays` reads units from standard input, reports when they are done, and waits for more. Any other
    worker gets its units from its command and ends when they are done. With `by_srun`, the command is Slurm's srun, and
    the processes that do the units are its tasks, also on other machines.
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
        by_srun: bool = False,
    ) -> None:
        self.stays, self.by_srun = stays, by_srun
        self._is_killed = False
        self._lock = threading.Lock()
        self._file: LogFile | None = None
        self.open_log(log, heading or " ".join(command))
        key = secrets.token_hex(8)
        self._mark, self._told = line_mark(MARK, key), line_mark(TOLD, key)
        whole = {
            **os.environ,
            **(environment or {}),
            **tied(),
            ENVIRONMENT_KEY: f"lines:{key}",
            "PYTHONUNBUFFERED": "1",
        }
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
            self._saves = False
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
        words = without_bar(line.rstrip())
        if words or (not line.strip() and self.kept and self.kept[-1]):  # bars leave empty lines behind
            self.kept = [*self.kept[-_KEPT_LINES:], words]
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
            # the first rank that fails has the reason, unless it says only that another one has ended
            if not self.failure or (self.failure.get("follows") and not message.get("follows")):
                self.failure = message
        elif "begins" in message:
            self.unit, self.progress = message["begins"], {}
        elif "waits" in message:
            self.done = True
        elif "saves" in message:
            self._saves = message["saves"] is True
        else:
            self.progress = message
        return True

    @property
    def is_busy(self) -> bool:
        """True if the process runs and has units to do."""
        return not self.done and self.process.poll() is None

    @property
    def saves(self) -> bool:
        """True if the process runs and saves a checkpoint or a model."""
        return self._saves and self.process.poll() is None

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
        """The exit code that the unit's process reported, otherwise the process's; negative: the signal that killed it.

        Launchers always fail with 1, and tell the signal in words.
        """
        told, code = self.failure.get("exit_code"), int(self.process.returncode)
        follows = self.failure.get("follows")
        if told and not follows:
            return int(told)
        # torchrun has the rank that failed first last: the others were ended because of it
        signals = [number for line in self.kept if (number := _signal_in(line)) is not None] if code > 0 else []
        # a rank that only lost another one may be seen to end first
        if follows and (killed := [number for number in signals if number > 0 and number != signal.SIGTERM]):
            return -killed[-1]
        return -signals[-1] if signals and signals[-1] > 0 else int(told or code)

    def message(self) -> str:
        """Returns the error that the process reported, otherwise the end of its output."""
        self.thread.join()
        kept, told = self.kept, self.failure.get("error")
        if self.process.returncode > 0 and self.exit_code < 0:
            told = None  # of a rank that lost the one that the signal killed
            # what the rank said last stands before what its launcher says of it
            ours = next((place for place, line in enumerate(kept) if _OF_THE_LAUNCHER.search(line)), len(kept))
            kept = kept[:ours] or kept
        return str(told or "\n".join(kept[-_SHOWN_LINES:]))

    def ask_to_end(self) -> None:
        """Asks the process and its child processes to end. An idle process ends when its standard input is closed."""
        idle = self.is_idle
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if not idle and self.thread.is_alive():
            # srun passes USR1 on to its tasks; at SIGTERM it kills them
            self._signal(signal.SIGUSR1 if self.by_srun else signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and its child processes, unless they have ended, and waits for the rest of its output."""
        # a process that died may have left others. Once only: the number of its group may be another's later
        if not self._is_killed and (self.thread.is_alive() or self.process.poll() != 0):
            self._is_killed = True
            if self.by_srun and self.process.poll() is None:
                self._signal(signal.SIGTERM)  # a killed srun would leave its tasks
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=_SECONDS_TO_DIE)
            self._signal(signal.SIGKILL)
            self.thread.join(timeout=_SECONDS_TO_DIE)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def stop(workers: Sequence[Worker], seconds: float = SECONDS_TO_END) -> None:
    """Asks processes to end, and kills those that have not ended after `seconds`, or when a second signal comes.

    The `seconds` begin again when a process has saved: none is killed while one saves.
    """
    deadline = time.monotonic() + seconds
    try:
        for worker in workers:
            worker.ask_to_end()
        while (left := [worker for worker in workers if worker.thread.is_alive()]) and time.monotonic() < deadline:
            left[0].thread.join(timeout=min(_SECONDS_BETWEEN_LOOKS, seconds))
            if any(worker.saves for worker in left):
                deadline = time.monotonic() + seconds
    finally:
        for worker in workers:
            worker.kill()


def watch(crew: Sequence[Worker], stage: str, progress: Path | None = None) -> None:
    """Shows one progress line for all workers until their units are done. Returns at the first failure.

    `progress`: a file that gets the progress of every worker, too, for other processes.
    """
    terminal = sys.stderr.isatty()
    with tqdm(total=None, bar_format="{desc}", dynamic_ncols=True, leave=False, disable=not terminal) as bar:
        show = bar.set_description_str if terminal else say
        pause, shown, written = (0.2 if terminal else SECONDS_IN_A_LOG), 0.0, 0.0
        started = time.monotonic()
        while any(worker.is_busy for worker in crew):
            if any(worker.has_failed for worker in crew):
                return
            parts = [describe(worker.progress) for worker in crew if worker.progress and worker.is_busy]
            seconds = time.monotonic() - started
            if seconds - shown >= pause and parts:
                show(f"{stage} {seconds:4.0f} s | " + " | ".join(parts))
                shown = seconds
            if progress is not None and seconds - written >= _SECONDS_BETWEEN_FILES:
                _write_progress(progress, stage, crew)
                written = seconds
            time.sleep(0.05)


def _write_progress(path: Path, stage: str, crew: Sequence[Worker]) -> None:
    """Replaces the file of the progress. A disk that cannot be written is reported by what a run cannot do without."""
    busy = [{"unit": worker.unit, **worker.progress} for worker in crew if worker.progress and worker.is_busy]
    temporary = temporary_path(path)
    # not `write_json`: it waits for the disk each time, and nothing of this has to survive a power failure
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps({"stage": stage, "time": time.time(), "workers": busy}), encoding="utf-8")
        temporary.replace(path)
