"""Sends one request to an OpenAI-compatible chat endpoint. Uses only the standard library."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import io
import json
import math
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import __version__
from .errors import AftError, ConfigError
from .shown import SHORTEST, hide, shown

BASE_URL, API_KEY, MODEL = "OPENAI_BASE_URL", "OPENAI_API_KEY", "AFT_JUDGE_MODEL"
DEFAULT_URL = "https://api.openai.com/v1"

# Statuses below 500 after which a request is tried again. Every status from 500 on is tried again, too.
_PASSING = (408, 409, 429)
# Statuses that every request would get, with the variable that the user should check.
_LASTING = {401: API_KEY, 402: API_KEY, 403: API_KEY, 404: f"{BASE_URL} and {MODEL} (or label.ratings.model)"}
_LASTING |= {405: BASE_URL, 407: "the proxy's settings"}
_LONGEST_WAIT = 300.0  # seconds; a longer Retry-After is shortened to this
_LONGEST_BODY = 2**24  # bytes; a longer reply is a failure
_SHOWN = 200  # characters of a server's text in a message
_READ = 4096  # characters of a server's text in which a message looks for something to show


class Failure(Exception):
    """A request without a usable reply. Failures are counted by `reason`; `detail` is shown to the user.

    `retry`: true if the same request may succeed later. `asked`: seconds that the server asks to wait before a retry;
    `wait`: those of them that are waited, at most five minutes.
    `down`: true if the endpoint itself does not work, so that any other request would have failed too.
    """

    def __init__(
        self, reason: str, detail: str = "", *, retry: bool = True, asked: float = 0.0, down: bool = False
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.retry, self.asked, self.down = reason, retry, asked, down
        self.wait = min(asked, _LONGEST_WAIT)


class Refused(AftError):
    """The endpoint would refuse every request, so more requests are useless."""


@dataclass(frozen=True)
class Reply:
    """The model's text and its token counts. The text may be empty. A count is None if the endpoint does not report it.

    `cut`: true if the token limit ended the text.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False


class Endpoint:
    """A chat endpoint. The key is only sent to the endpoint: it is not in errors, replies or `repr`.

    `timeout`: seconds from the start of a request to the last byte of its reply. It does not limit the lookup of the
    host's name. When connecting, each address of the host may take `timeout` seconds to answer.
    """

    def __init__(self, url: str, key: str = "", *, timeout: float = 120.0) -> None:
        self.url, self.timeout = url.strip().rstrip("/"), timeout
        self._key = key.strip()
        if problems := [*_url_problems(self.url), *_key_problems(self._key)]:
            raise ConfigError(problems)
        # Not `build_opener`: it follows redirects, and would send the key to the target of one.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
            _Http,
            _Https,
        ):
            self._opener.add_handler(handler())

    @classmethod
    def from_environment(cls, timeout: float = 120.0) -> Endpoint:
        """Returns the endpoint of the environment variables, by default OpenAI's.

        Raises `ConfigError` if a value is unusable.
        """
        return cls(os.environ.get(BASE_URL) or DEFAULT_URL, os.environ.get(API_KEY) or "", timeout=timeout)

    def complete(self, body: Mapping[str, Any]) -> Reply:
        """Sends a request and returns the reply. Raises `Failure`, or `Refused` if every request would fail."""
        return self._read_reply(self._post(self._request("chat/completions", body)))

    def _request(self, path: str, body: Mapping[str, Any] | None) -> urllib.request.Request:
        """A request to `path` below the endpoint's address. Without a body it is a GET."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": f"aft/{__version__}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode("ascii")
        return urllib.request.Request(f"{self.url}/{path}", data, headers)

    def _post(self, request: urllib.request.Request) -> str:
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return self._read(response)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except TimeoutError:
            raise Failure("timeout", f"no reply within {self.timeout:g} s", down=True) from None
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, TimeoutError):
                raise Failure("timeout", f"no connection within {self.timeout:g} s", down=True) from None
            told = self._told(f"{type(cause).__name__}: {cause}")
            raise Failure("connection error", told, down=True) from None

    def _read(self, response: Any) -> str:
        body = b""
        while part := response.read1(2**16):
            body += part
            if len(body) > _LONGEST_BODY:
                raise Failure("reply too long", f"more than {_LONGEST_BODY:,} bytes")
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Failure("not JSON", f"not UTF-8 text: {error.reason}", down=True) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """Returns the exception for a status other than success, with the server's own text if it can be read."""
        try:
            words = self._told(self._read(error.fp))
        except (Failure, OSError, http.client.HTTPException):
            words = ""
        code = error.code
        if code in _PASSING or code >= 500:
            asked = _retry_after(error.headers.get("Retry-After", ""))
            return Failure(f"HTTP {code}", words, asked=asked, down=True)
        told = f"the judge at {self.url} answers {code} {self._told(str(error.reason))}".rstrip()
        told += f": {words}" if words else ""
        if 300 <= code < 400:
            target = self._told(error.headers.get("Location", "nowhere"))
            return Refused(f"{told}; it points to {target}; put the right address into {BASE_URL}")
        if code in _LASTING:
            state = f", which is {'' if self._key else 'not '}set" if _LASTING[code] == API_KEY else ""
            return Refused(f"{told}; look at {_LASTING[code]}{state}")
        return Failure(f"HTTP {code}", words, retry=False)

    def _read_reply(self, body: str) -> Reply:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Failure("not JSON", self._told(body), down=True) from None
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list) or not choices:
            raise Failure("no choices", self._told(body), down=True)
        choice = choices[0] if isinstance(choices[0], dict) else {}
        message, usage = choice.get("message"), value.get("usage")
        text = message.get("content") if isinstance(message, dict) else None
        return Reply(
            hide(text, [self._key] if len(self._key) >= SHORTEST else []) if isinstance(text, str) else "",
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            cut=choice.get("finish_reason") == "length",
        )

    def _told(self, text: str) -> str:
        """Returns text of the server, or of an error, for a message: shown on one short line, without the key."""
        line = " ".join(shown(hide(text[:_READ], [self._key])).split())
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


class _ReplyBytes(io.RawIOBase):
    """Reads bytes from a socket until `deadline`, then raises `TimeoutError`.

    The socket's own timeout does not limit a whole reply or header, because it restarts with every read.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = sock, deadline
        self._stream = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Has the signature of a socket's `makefile`, because `http.client` reads from this object as from a socket."""
        return io.BufferedReader(self)

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


class _Deadline(urllib.request.AbstractHTTPHandler):
    """Stops reading a reply (header and body) once the request's `timeout` is over."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> http.client.HTTPResponse:
        deadline = time.monotonic() + (req.timeout or 0.0)

        def connection(host: str, **given: Any) -> http.client.HTTPConnection:
            made: http.client.HTTPConnection = http_class(host, **given)
            made.response_class = lambda sock, *rest, **more: http.client.HTTPResponse(  # type: ignore[assignment]
                _ReplyBytes(sock, deadline),  # type: ignore[arg-type]
                *rest,
                **more,
            )
            return made

        return super().do_open(connection, req, **options)


class _Http(_Deadline, urllib.request.HTTPHandler):
    pass


class _Https(_Deadline, urllib.request.HTTPSHandler):
    pass


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # a part of the name that is empty or too long
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        got = "another text" if set("@?#") & set(url) else repr(url)  # it may hold a secret
        return [f"{BASE_URL}: expected an address such as {DEFAULT_URL}, got {got}"]
    if parts.username is not None or parts.query or parts.fragment:
        return [f"{BASE_URL}: takes no name, password or '?' part; a key belongs in {API_KEY}"]  # may be secret
    return []


def _key_problems(key: str) -> list[str]:
    fits = key.isascii() and key.isprintable()
    return [] if fits else [f"{API_KEY}: holds a character that an HTTP header cannot carry"]


def _retry_after(text: str) -> float:
    """Returns the seconds, at least 0, of a Retry-After header: a number or a date. Any other text gives 0."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(text)
            date = date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)
            seconds = (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(seconds, 0.0)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
