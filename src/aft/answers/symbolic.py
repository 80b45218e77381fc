"""Runs math-verify in a worker process, because a symbolic engine may hang, use up memory or crash.

One worker serves all calls. The first call starts the worker. A late reply kills it, and the next call starts another.
The worker ends when this process ends.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from typing import Any

from ..ending import tied
from ..errors import ConfigError

_STARTUP_SECONDS = 120.0  # importing sympy takes long on a busy machine


class SymbolicChecker:
    """Sends calls to the worker. `timeouts` and `crashes` count the calls without a reply.

    Raises: `ConfigError` if math-verify is not installed.
    """

    def __init__(self) -> None:
        if not math_verify_installed():
            raise ConfigError("this reading needs math-verify; install it with: pip install 'aft[math]'")
        self.timeouts = 0
        self.crashes = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._owner = os.getpid()

    def grade(
        self, completion: str, gold: str, *, letters: str = "", time_limit: float = 5.0
    ) -> tuple[bool, str | None] | None:
        """(correct, answer): the answer that math-verify finds, and `correct` if it equals the gold answer.

        Args:
            letters: if not empty, the answer is a choice and is read as one of these letters.
            time_limit: seconds to wait for the reply.
        Returns: None if the call took too long or the engine failed; (False, None) if no answer was found.
        """
        reply = self._ask({"completion": completion, "gold": gold, "letters": letters}, time_limit)
        return None if reply is None else (bool(reply[0]), reply[1])

    def close(self) -> None:
        """End the worker. A later call starts another."""
        if self._process is not None:
            _kill(self._process)
            self._process = None

    def _ask(self, request: dict[str, Any], time_limit: float) -> Any:
        with self._lock:
            if self._owner != os.getpid():  # after a fork the pipes belong to the parent process
                self._process, self._owner = None, os.getpid()
            process = self._started()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps({**request, "time_limit": time_limit}) + "\n")
                process.stdin.flush()
                reply = self._replies.get(timeout=time_limit)
            except queue.Empty:
                self.timeouts += 1
                self.close()
                return None
            except OSError:
                reply = None
            if reply is None:
                self.crashes += 1
                self.close()
                return None
            return json.loads(reply)["result"]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        main = threading.current_thread() is threading.main_thread()
        starter = {"AFT_STARTED_BY": "main" if main else "thread"}
        process = subprocess.Popen(
            [sys.executable, "-m", "aft.answers.symbolic_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, **tied(), **starter, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._process, self._replies = process, queue.Queue()
        threading.Thread(target=_forward, args=(process, self._replies), daemon=True).start()
        weakref.finalize(self, _kill, process)
        try:
            ready = self._replies.get(timeout=_STARTUP_SECONDS)
        except queue.Empty:
            ready = None
        if ready is None:
            self.close()
            raise ConfigError("math-verify is installed but its worker did not start: python -c 'import math_verify'")
        return process


def math_verify_installed() -> bool:
    """True if math-verify (the extra `math`) is installed; imports nothing."""
    return importlib.util.find_spec("math_verify") is not None


@functools.cache
def symbolic_checker() -> SymbolicChecker:
    """The one checker of this process. Raises `ConfigError` if math-verify is not installed."""
    return SymbolicChecker()


def _forward(process: subprocess.Popen[str], replies: queue.Queue[str | None]) -> None:
    """Puts the worker's lines into the queue, then None.

    A read from a queue can time out on every system; a read from a pipe cannot.
    """
    assert process.stdout is not None
    for line in process.stdout:
        replies.put(line)
    replies.put(None)


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # unsent data has no reader any more
                stream.close()
