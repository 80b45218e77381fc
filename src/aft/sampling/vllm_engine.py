"""Samples completions with vLLM, in processes of its own.

vLLM pins other versions of the libraries, gives no memory back while its process lives, and changes its interfaces. So
each replica of the model is one process, `vllm_worker.py`, that reads and writes token ids, and ends with the engine.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from transformers import PreTrainedTokenizerBase

from ..errors import AftError, ConfigError
from ..progress import say
from ..records import Completion
from ..shown import shown_line
from .decoding import Decoding
from .finished import Unnamed, alone, finished
from .requests import Request

WORKER = Path(__file__).with_name("vllm_worker.py")

# What a launcher tells its processes, which vLLM would take for its own. A launcher also sets one thread a process.
_OF_LAUNCHERS = ("ACCELERATE_", "TORCHELASTIC_", "FSDP_")
_OF_RANKS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("OMP_NUM_THREADS", "KMP_AFFINITY", "AFT_PROGRESS"),
}
_KEPT_LINES, _SHOWN_LINES, _LONGEST_TAIL = 200, 4, 1000
_SECONDS_TO_END = 10


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Where the model runs. Every rank of a stage has the same `drivers`.

    Args:
        devices: CUDA_VISIBLE_DEVICES of each replica that this process drives; "" for the CPU.
        drivers: the ranks that drive a replica. With tensor parallelism there are fewer replicas than GPUs.
        num_ranks: how many processes share the stage.
    """

    devices: Sequence[str]
    drivers: Sequence[int] = (0,)
    num_ranks: int = 1


class VllmEngine:
    """The `Engine` of vLLM. A context manager: the processes begin with the first completion that is missing.

    Args:
        python: the interpreter that has vLLM.
        key: the section that chose the engine, such as sample, for messages.
        arguments: those of vllm.LLM; `max_model_len` among them is the longest prompt plus completion.
        ends: the ids at which a completion stops.
        environment: further variables of the processes.

    Raises `ConfigError` for a prompt that is too long, and `AftError` if vLLM cannot start, refuses a request or ends.
    """

    def __init__(
        self,
        python: str,
        key: str,
        arguments: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        ends: Iterable[int],
        replicas: Replicas,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.python, self.key, self.arguments, self.replicas = python, key, dict(arguments), replicas
        self.tokenizer, self._ends = tokenizer, frozenset(ends)
        self._unnamed = Unnamed(tokenizer, self._ends)
        self._environment = dict(environment or {})
        self._inbox: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._numbers = itertools.count()

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        self._processes = []
        self._unnamed.tell()

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """A shard for every completion, so that only missing ones are sampled after a cut.

        The shard at place i belongs to rank i modulo the number of ranks. A rank without a replica gets empty ones. The
        completions of a question go to one rank, which may compute their prompt once.
        """
        drivers = self.replicas.drivers
        shares = {rank: alone(requests[place :: len(drivers)]) for place, rank in enumerate(drivers)}
        rounds = itertools.zip_longest(
            *(shares.get(rank, []) for rank in range(self.replicas.num_ranks)), fillvalue=list[Request]()
        )
        return [shard for turn in rounds for shard in turn]

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Completion]:
        """The completions of all shards, in the order of finishing. A replica gets new ones as it finishes others."""
        waiting = collections.deque((r, index) for shard in shards for r in shard for index in r.seeds)
        self._check_lengths(waiting, decoding)
        if not waiting:
            return
        self._start()
        asked: dict[str, tuple[_Process, Request, int]] = {}
        for process in self._processes:
            process.num_asked = 0
            self._ask(process, waiting, asked, decoding)
        while asked:
            process, message = self._inbox.get()
            if message is None:
                raise self._died(process, "ended while it sampled")
            found = asked.pop(message.get("key", ""), None)
            if found is None:
                continue  # asked for by an earlier call that was left before its end
            _, request, index = found
            process.num_asked -= 1
            self._check_finish(message, request, index)
            self._unnamed.count(message["tokens"])
            yield finished(request, index, message["tokens"], self._ends, self.tokenizer)
            self._ask(process, waiting, asked, decoding)

    def _check_lengths(self, waiting: Iterable[tuple[Request, int]], decoding: Decoding) -> None:
        limit = self.arguments["max_model_len"]
        for request, _ in waiting:
            length = len(request.prompt_ids)
            new = request.most_new(decoding.max_new_tokens)
            needed = length + new
            if needed > limit:
                raise ConfigError(
                    f"{self.key}.vllm.max_model_len: {limit:,}, but question {request.question_id} has {length:,}"
                    f" tokens before up to {new:,} new ones; make it {needed:,},"
                    f" or {self.key}.max_new_tokens smaller"
                )

    def _start(self) -> None:
        """Start all replicas at once, and wait until they are ready."""
        if self._processes:
            return
        header = {"arguments": self.arguments, "ends": sorted(self._ends)}
        count = len(self.replicas.devices)
        say(f"{self.key}: vLLM starts" + (f", {count} replicas" if count > 1 else ""))
        for device in self.replicas.devices:
            try:
                self._processes.append(_Process(self.python, device, header, self._inbox, self._environment))
            except OSError as error:
                raise AftError(f"{self.key}.engine: {self.python} could not be started: {error.strerror}") from None
        for _ in self._processes:
            process, message = self._inbox.get()
            if message is None or "error" in message:
                raise self._died(process, "could not start", (message or {}).get("error"))
            say(f"{self.key}: vLLM {message['versions']['vllm']} is ready")

    def _ask(
        self,
        process: _Process,
        waiting: collections.deque[tuple[Request, int]],
        asked: dict[str, tuple[_Process, Request, int]],
        decoding: Decoding,
    ) -> None:
        """Give a replica twice as many completions as it decodes at once, so that no place stays free."""
        enough = 2 * self.arguments["max_num_seqs"]
        while waiting and process.num_asked < enough:
            request, index = waiting.popleft()
            key = str(next(self._numbers))
            asked[key] = process, request, index
            process.num_asked += 1
            # Greedy decoding needs none, and a CPU's generator cannot do all that vLLM does with one.
            seed = request.seeds[index] if decoding.temperature > 0 else None
            own = dataclasses.replace(decoding, max_new_tokens=request.most_new(decoding.max_new_tokens))
            process.send({"key": key, "prompt": request.prompt_ids, "seed": seed, "decoding": dataclasses.asdict(own)})

    def _check_finish(self, message: Mapping[str, Any], request: Request, index: int) -> None:
        what = f"{self.key}.engine: vLLM, question {request.question_id}, sample {index}"
        if "error" in message:
            raise AftError(f"{what}: refused: {_one_line(message['error'])}")
        if message["finish"] not in ("stop", "length"):
            raise AftError(f"{what}: ended with '{message['finish']}'; expected an end or the length limit")

    def _died(self, process: _Process, what: str, error: str | None = None) -> AftError:
        code, lines = process.end(_SECONDS_TO_END)
        told = f"{self.key}.engine: vLLM of {self.python} {what}"
        told += "" if code is None else f" (exit code {code})" if code >= 0 else f" ({signal.Signals(-code).name})"
        tail = " | ".join(lines)
        parts = [_one_line(error)] if error else []
        if tail and not (error and len(lines) == 1 and lines[0] in error):
            parts.append(f"its last lines: {tail[-_LONGEST_TAIL:]}")
        return AftError(": ".join([told, "; ".join(parts) or "it wrote nothing"]))


class _Process:
    """One replica. Its messages, and None when it has ended, go to `inbox`; what it prints goes to standard error."""

    def __init__(
        self,
        python: str,
        device: str,
        header: Mapping[str, Any],
        inbox: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]],
        environment: Mapping[str, str],
    ) -> None:
        self.num_asked = 0
        self._kept: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER), str(write)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                env=child_environment(device) | dict(environment),
                start_new_session=True,
                text=True,
                errors="replace",
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._threads = [
            threading.Thread(target=self._read_log, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_messages, args=(read, inbox), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.send(header)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line. Nothing happens if the process has ended; the inbox says so."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def end(self, patience: float = 0) -> tuple[int | None, list[str]]:
        """End the process and all that it started; (exit code if it ended by itself, the last lines it printed).

        `patience`: seconds in which it may still end by itself.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        code = self._process.poll()
        # closing writes what is left in the buffer
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for thread in self._threads:
            thread.join(_SECONDS_TO_END)
        return code, list(self._kept)[-_SHOWN_LINES:]

    def _read_messages(self, pipe: int, inbox: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]]) -> None:
        with os.fdopen(pipe, encoding="utf-8") as lines:
            for line in lines:
                # a last line without its line feed was cut by the process's end
                if line.endswith("\n"):
                    inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def _read_log(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                print(shown_line(f"vllm: {line.rstrip()}"), file=sys.stderr)
                told = _one_line(line)
                # the source lines of a traceback are indented, and tell a user nothing; vLLM repeats warnings
                if told and not line[0].isspace() and not told.startswith("Traceback") and told not in self._kept:
                    self._kept.append(told)


def child_environment(device: str) -> dict[str, str]:
    """The variables of a replica on `device` ("" for the CPU): nothing of a launcher, and no telemetry."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OF_LAUNCHERS) and name not in _OF_RANKS
    }
    # With tensor parallelism vLLM starts processes of its own; otherwise one process has all, and one exit code.
    kept.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    silent = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    return {**kept, **silent, "CUDA_VISIBLE_DEVICES": device}


def _one_line(text: str) -> str:
    """Printable text on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
