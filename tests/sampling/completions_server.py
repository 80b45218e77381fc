"""A small OpenAI-compatible server on this machine: made-up completions, with or without token ids, and faults."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]  # status, body


class CompletionsServer:
    """`complete(body)` gives status and body of `POST /v1/completions`. `models`: names that it lists, None: none."""

    def __init__(self, complete: Callable[[dict[str, Any]], Reply], models: list[str] | None) -> None:
        self.complete, self.models = complete, models
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most = self._now = 0  # requests at a time
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if owner.models is None or self.path != "/v1/models":
                    self.reply(404, {"error": "nothing here"})
                else:
                    self.reply(200, {"data": [{"id": name} for name in owner.models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/completions":
                    self.reply(404, {"error": "nothing here"})
                    return
                with owner._lock:
                    owner.bodies.append(body)
                    owner.headers.append(dict(self.headers))
                    owner._now += 1
                    owner.most = max(owner.most, owner._now)
                answer = owner.complete(body)
                with owner._lock:
                    owner._now -= 1
                self.reply(*answer)

            def reply(self, status: int, value: Any) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def completions_server(
    complete: Callable[[dict[str, Any]], Reply], models: list[str] | None = None
) -> Iterator[CompletionsServer]:
    """A running server."""
    server = CompletionsServer(complete, models)
    server.start()
    try:
        yield server
    finally:
        server.stop()
