"""Starts the commands of aft, watches what they do, and finds the processes that they leave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .verdict import Ended

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HANG = 240.0  # seconds; no command under torture works for so long
ORPHANS = 10.0  # seconds in which the processes of an ended command must end too: two, on a machine that is not busy
_MARK = "TORTURE_MARK"
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT", "LD_LIBRARY_PATH")
# of a process that `accelerate launch` started: it does one stage, in itself
LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}


class Running:
    """A command that was started as a process of its own, with its own process group."""

    def __init__(self, folder: Path, program: str, *arguments: str, **given: Any) -> None:
        self.log = _Log(folder)
        self.environment = environment(self.log, given.pop("environment", {}))
        self.begun = time.monotonic()
        with self.log.out.open("wb") as out, self.log.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"aft.cli.{program.removeprefix('aft-')}", *arguments],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **given,
            )

    @property
    def is_running(self) -> bool:
        """False once the command itself has ended."""
        return self.process.poll() is None

    def wait(self, limit: float = HANG, *, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits for its end, for `until`, or for `limit` seconds. True if it has ended."""
        end = time.monotonic() + limit
        while self.is_running and time.monotonic() < end and not until():
            time.sleep(0.002)
        return not self.is_running

    def send(self, number: int, *, everyone: bool) -> None:
        """Sends a signal to the command, or to every process that it started too."""
        targets = marked(self.environment[_MARK]) if everyone else {self.process.pid: ""}
        for process in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def end(self, limit: float = HANG, *, orphans: float = ORPHANS) -> Ended:
        """Waits for the command and for the processes that it started, and kills what is left of them."""
        ended = self.wait(limit)
        seconds = time.monotonic() - self.begun
        left = self._left(orphans) if ended else []
        self.kill()
        return self.log.ended(self.process.wait() if ended else None, seconds, left)

    def _left(self, limit: float) -> list[str]:
        end = time.monotonic() + limit
        while (left := marked(self.environment[_MARK])) and time.monotonic() < end:
            time.sleep(0.05)
        return list(left.values())

    def kill(self) -> None:
        """Kills the command and every process that it started."""
        for _ in range(100):
            left = marked(self.environment[_MARK])
            if self.is_running:
                left[self.process.pid] = ""
            if not left:
                break
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.02)
        self.process.wait()


class _Log:
    """The files that one command writes its words into."""

    def __init__(self, folder: Path) -> None:
        stem = uuid.uuid4().hex[:8]
        words = folder.parent / f"{folder.name}.words"
        words.mkdir(parents=True, exist_ok=True)
        self.out, self.err, self.audit = (words / f"{stem}.{name}" for name in ("out", "err", "audit"))
        self.home = words

    def ended(self, code: int | None, seconds: float, left: list[str]) -> Ended:
        out, err = (
            path.read_bytes().decode("utf-8", "replace") if path.exists() else "" for path in (self.out, self.err)
        )
        audit = self.audit.read_text("utf-8", "replace").splitlines() if self.audit.exists() else []
        return Ended(code, out, err, seconds, audit, left)


def environment(log: _Log, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command under torture: no settings of the caller, one thread, watched, marked."""
    return {
        **{name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("OPENBLAS")},
        "PYTHONPATH": os.pathsep.join([str(HERE / "watched"), str(ROOT / "src")]),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(log.home / "hf"),
        "TORTURE_AUDIT": str(log.audit),
        _MARK: uuid.uuid4().hex,
        **extra,
    }


def marked(mark: str) -> dict[int, str]:
    """The living processes that have this mark in their environment, with their command lines. Linux only."""
    found = {}
    needle = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = f"{folder.name} {words.decode('utf-8', 'replace')[:120]}"
    return found


class Forks:
    """A server of `forks`. It is started at its first command; one command at a time."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(
        self,
        folder: Path,
        program: str,
        *arguments: str,
        limit: float = HANG,
        extra: Mapping[str, str] | None = None,
        **order: Any,
    ) -> Ended:
        """Runs a command in a fork and waits for it. `extra`: environment; `order`: see `forks`."""
        log = _Log(folder)
        given = environment(log, extra or {})
        order |= {"program": program, "arguments": [*map(str, arguments)], "cwd": str(folder), "limit": limit}
        order |= {"out": str(log.out), "err": str(log.err), "environment": given}
        with self._lock:
            answer = self._ask(order)
        left = marked(given[_MARK])
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return log.ended(answer["code"], answer["seconds"], list(left.values()) if answer["code"] is not None else [])

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._server is None or self._server.poll() is not None:
            path = os.pathsep.join([str(HERE / "watched"), str(ROOT / "src"), str(HERE.parent)])
            self._server = subprocess.Popen(
                [sys.executable, "-m", "torture.forks"],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
                     "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            assert self._server.stdout is not None and self._server.stdout.readline() == "ready\n"
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            assert self._server.stdin is not None and self._server.stdout is not None
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()
            self._server = None


@contextlib.contextmanager
def forks() -> Iterator[Forks]:
    """A server for as long as the block lasts."""
    server = Forks()
    try:
        yield server
    finally:
        server.close()
