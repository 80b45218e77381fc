"""One request to an OpenAI-compatible chat endpoint: the reply, or why there is none. The standard library alone."""

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

from ... import __version__
from ...errors import AftError, ConfigError

BASE_URL, API_KEY, MODEL = "OPENAI_BASE_URL", "OPENAI_API_KEY", "AFT_JUDGE_MODEL"
DEFAULT_URL = "https://api.openai.com/v1"

# Statuses that may be another the next time; so may every one from 500.
_PASSING = (408, 409, 429)
# Statuses that every request would meet, with the variable to look at.
_LASTING = {401: API_KEY, 402: API_KEY, 403: API_KEY, 404: f"{BASE_URL} and {MODEL} (or label.ratings.model)"}
_LASTING |= {405: BASE_URL, 407: "the proxy's settings"}
_LONGEST_WAIT = 300.0  # seconds of a Retry-After that are waited
_LONGEST_BODY = 2**24  # bytes of a reply that are read
_SHOWN = 200  # characters of a reply in a message
_SECRET = 16  # characters from which a key is no placeholder such as "none", which a reply may hold by chance


class Failure(Exception):
    """A request that gave nothing of use. `reason` is counted, `detail` shown.

    `retry`: whether the same request may fare better; `wait`: seconds that the server asks to wait before that;
    `down`: whether the endpoint did not do its work at all, so that any other request would have failed as well.
    """

    def __init__(
        self, reason: str, detail: str = "", *, retry: bool = True, wait: float = 0.0, down: bool = False
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.retry, self.wait, self.down = reason, retry, wait, down


class Refused(AftError):
    """The endpoint would refuse every request, so asking on is of no use."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote, empty if nothing, and the tokens that it took, None where the endpoint does not say.

    `cut`: the limit of tokens came before its end.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False


class Endpoint:
    """Asks one chat endpoint. The key is sent to it and appears nowhere else: not in errors, replies or `repr`.

    `timeout`: seconds from the start of a request to the last byte of its reply. Two steps are not bounded by it:
    looking up the host's name, and connecting, where each address of the host may take `timeout` to answer.
    """

    def __init__(self, url: str, key: str = "", *, timeout: float = 120.0) -> None:
        self.url, self.timeout = url.strip().rstrip("/"), timeout
        self._key = key.strip()
        if problems := [*_url_problems(self.url), *_key_problems(self._key)]:
            raise ConfigError(problems)
        # urllib would take the key along to wherever a redirect points
        self._opener = urllib.request.build_opener(_NoRedirect, _Http, _Https)

    @classmethod
    def from_environment(cls, timeout: float = 120.0) -> Endpoint:
        """The endpoint that the environment names; OpenAI's own by default. `ConfigError` for an unusable value."""
        return cls(os.environ.get(BASE_URL) or DEFAULT_URL, os.environ.get(API_KEY) or "", timeout=timeout)

    def complete(self, body: Mapping[str, Any]) -> Reply:
        """The reply to one request. Raises `Failure`, or `Refused` where no request would fare better."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": f"aft/{__version__}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode("ascii")
        return _read_reply(self._post(urllib.request.Request(f"{self.url}/chat/completions", data, headers)))

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
            told = self._hide(f"{type(cause).__name__}: {cause}")
            raise Failure("connection error", told, down=True) from None

    def _read(self, response: Any) -> str:
        body = b""
        while part := response.read1(2**16):
            body += part
            if len(body) > _LONGEST_BODY:
                raise Failure("reply too long", f"more than {_LONGEST_BODY:,} bytes")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Failure("not JSON", f"not UTF-8 text: {error.reason}", down=True) from None
        return self._hide(text) if len(self._key) >= _SECRET else text

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What a status other than success means, with the server's own words as far as they can be had."""
        try:
            words = self._hide(_shorten(self._read(error.fp)))
        except (Failure, OSError, http.client.HTTPException):
            words = ""
        code = error.code
        if code in _PASSING or code >= 500:
            wait = _retry_after(error.headers.get("Retry-After", ""))
            return Failure(f"HTTP {code}", words, wait=wait, down=True)
        told = f"the judge at {self.url} answers {code} {error.reason}" + (f": {words}" if words else "")
        if 300 <= code < 400:
            target = self._hide(error.headers.get("Location", "nowhere"))
            return Refused(f"{told}; it points to {target}; put the right address into {BASE_URL}")
        if code in _LASTING:
            state = f", which is {'' if self._key else 'not '}set" if _LASTING[code] == API_KEY else ""
            return Refused(f"{told}; look at {_LASTING[code]}{state}")
        return Failure(f"HTTP {code}", words, retry=False)

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _ReplyBytes(io.RawIOBase):
    """The bytes from a socket until `deadline`; after it, `TimeoutError`.

    The socket's own timeout does not bound a reply: it starts anew with every byte, of a header too.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = sock, deadline
        self._stream = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        """As of a socket, so that `http.client` reads from this in its place."""
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
    """Cuts a reply, header and body, once the request's `timeout` is over."""

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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        return [f"{BASE_URL}: expected an address such as {DEFAULT_URL}, got {url!r}"]
    if parts.username is not None or parts.query or parts.fragment:
        return [f"{BASE_URL}: takes no name, password or '?' part; a key belongs in {API_KEY}"]  # so it is not shown
    return []


def _key_problems(key: str) -> list[str]:
    fits = key.isascii() and key.isprintable()
    return [] if fits else [f"{API_KEY}: holds a character that an HTTP header cannot carry"]


def _retry_after(text: str) -> float:
    """The seconds of a Retry-After header, which are a number or a date, within what is reasonable to wait."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return 0.0
        date = date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)
        seconds = (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_WAIT)


def _read_reply(body: str) -> Reply:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Failure("not JSON", _shorten(body), down=True) from None
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Failure("no choices", _shorten(body), down=True)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message, usage = choice.get("message"), value.get("usage")
    text = message.get("content") if isinstance(message, dict) else None
    return Reply(
        text if isinstance(text, str) else "",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        cut=choice.get("finish_reason") == "length",
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"
