"""One process of a stage: its log, its progress, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from ..errors import AftError
from ..progress import ENVIRONMENT_KEY, MARK, SECONDS_IN_A_LOG, TOLD, describe, say

_KEPT_LINES = 40


def num_threads(workers: int) -> str:
    """Threads for each worker: as the user's environment says, else an equal share of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))


class StageFailed(AftError):
    """A stage's process ended with an error; `exit_code` is that process's own."""

    def __init__(self, stage: str, exit_code: int, message: str, log: Path) -> None:
        self.exit_code = exit_code if exit_code in (1, 2, 3) else 1
        super().__init__(f"stage {stage} failed (exit code {exit_code}); its whole output is in {log}\n{message}")


class Worker:
    """One process of a stage, its log file, and what it reports: progress, and the error that ended it."""

    def __init__(self, command: Sequence[str], log: Path, num_threads: str) -> None:
        self.log = log
        self.progress: dict[str, Any] = {}
        self.failure: dict[str, Any] = {}
        self.kept: list[str] = []
        environment = {**os.environ, ENVIRONMENT_KEY: "lines", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": num_threads}
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        # a session of its own: the launcher's children can be stopped together with it
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.thread = threading.Thread(target=self._read, args=(self.process.stdout, " ".join(command)), daemon=True)
        self.thread.start()

    def _read(self, stream: IO[str], command: str) -> None:
        with stream, self.log.open("w", encoding="utf-8") as log:
            log.write(f"$ {command}\n")
            for line in stream:
                if self._take_message(line):
                    continue
                log.write(line)
                log.flush()
                self.kept = [*self.kept[-_KEPT_LINES:], line.rstrip()]
                if line.startswith(TOLD):
                    tqdm.write(line.removeprefix(TOLD).rstrip(), file=sys.stderr)

    def _take_message(self, line: str) -> bool:
        """Whether a line is a message to this process, which is then kept; one that others wrote into is plain text."""
        if not line.startswith(MARK):
            return False
        try:
            message = json.loads(line.removeprefix(MARK))
        except ValueError:
            return False
        if "exit_code" in message:
            self.failure = message
        else:
            self.progress = message
        return True

    @property
    def exit_code(self) -> int:
        """The code of the stage's own process where it told one: launchers end with 1 whatever it was."""
        return int(self.failure.get("exit_code") or self.process.returncode)

    def message(self) -> str:
        """The error that the process told, else the end of its output."""
        self.thread.join()
        return str(self.failure.get("error") or "\n".join(self.kept[-15:]))

    def stop(self) -> None:
        """End the process, if it still runs, with all that it started, and wait for the rest of its output."""
        if self.process.poll() is not None:
            self.thread.join(timeout=5)
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            if not self.thread.is_alive():
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.thread.join(timeout=seconds)
        self.process.wait()


def watch(crew: Sequence[Worker], stage: str) -> None:
    """Show one line of progress for all workers until they end; the first failure stops the others."""
    terminal = sys.stderr.isatty()
    with tqdm(total=None, bar_format="{desc}", dynamic_ncols=True, leave=False, disable=not terminal) as bar:
        show = bar.set_description_str if terminal else say
        pause, shown = (0.2 if terminal else SECONDS_IN_A_LOG), 0.0
        started = time.monotonic()
        while any(worker.process.poll() is None for worker in crew):
            if any(worker.process.poll() for worker in crew):
                return
            parts = [describe(worker.progress) for worker in crew if worker.progress and worker.process.poll() is None]
            seconds = time.monotonic() - started
            if seconds - shown >= pause and parts:
                show(f"{stage} {seconds:4.0f} s | " + " | ".join(parts))
                shown = seconds
            time.sleep(0.2)
