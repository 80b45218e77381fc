"""HTTP replies that must be there as a whole by a deadline: a socket's own timeout starts anew with every byte."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
import urllib.request
from typing import Any


class HTTPHandler(urllib.request.HTTPHandler):
    """For `urllib.request.build_opener`: a request's `timeout` bounds its reply, header and body together."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class HTTPSHandler(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        _limit(self)
        super().connect()


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        _limit(self)
        super().connect()


def _limit(connection: http.client.HTTPConnection) -> None:
    deadline = time.monotonic() + (connection.timeout or 0.0)
    connection.response_class = functools.partial(_Response, deadline=deadline)  # type: ignore[assignment]


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, deadline: float, **keywords: Any) -> None:
        super().__init__(sock, *arguments, **keywords)
        self.fp = io.BufferedReader(_Stream(self.fp.detach(), sock, deadline))


class _Stream(io.RawIOBase):
    """What comes from a socket; `TimeoutError` from the deadline on."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._stream, self._socket, self._deadline = stream, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()
