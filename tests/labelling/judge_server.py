"""A small chat endpoint on this machine that behaves, or misbehaves, as a test says."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from limits import HUNG_AFTER

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


class Answer(NamedTuple):
    """What the server does with one request. `length`: of the body, as the header claims."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    length: int | None = None
    pause: float = 0.0  # seconds between the body's bytes
    drip: float = 0.0  # seconds between the bytes of a long header
    reason: str | None = None  # the words behind the status


HANG = Answer(status=-1)
HANG_UP = Answer(status=-2)


def says(text: Any, usage: Any = USAGE) -> Answer:
    """A chat completion in its usual form."""
    value = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": usage}
    return Answer(body=json.dumps(value).encode())


def scores(value: object) -> Answer:
    """A reply as it should be."""
    return says(f"Step 1 is right.\nScore: {value}")


Behaviour = Callable[[dict[str, Any], int], Answer]


class JudgeServer:
    """`behave(body, number)` answers request `number`, from 0; a list answers in its order, its last from then on."""

    def __init__(self, behave: Behaviour | Sequence[Answer]) -> None:
        self.behave = behave
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def prompts(self) -> list[str]:
        """The prompts that were sent, in their order."""
        return [body["messages"][0]["content"] for body, _ in self.requests]

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            number = len(self.requests)
            self.requests.append((body, headers))
        if callable(self.behave):
            return self.behave(body, number)
        return self.behave[min(number, len(self.behave) - 1)]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def judge_server(behave: Behaviour | Sequence[Answer]) -> Iterator[JudgeServer]:
    """A running server."""
    server = JudgeServer(behave)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: JudgeServer

    def handle_error(self, *_: object) -> None:
        """A client that gave up waiting is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner = self.server.owner
        answer = owner.answer({**body, "path": self.path}, dict(self.headers))
        if answer is HANG:
            owner.released.wait(HUNG_AFTER)
            return
        if answer is HANG_UP:
            return
        if answer.drip:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(answer.drip)
            return
        self.send_response(answer.status, answer.reason)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        for byte in answer.body if answer.pause else ():
            self.wfile.write(bytes([byte]))
            time.sleep(answer.pause)
        if not answer.pause:
            self.wfile.write(answer.body)
