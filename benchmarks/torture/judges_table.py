"""The ways of a bad judge: what its server sends, step by step. A number is a pause in seconds, None breaks off."""

from __future__ import annotations

import gzip
import json
from typing import Any

Step = bytes | float | None

KEY = "sk-torture-0123456789abcdefghij"
# forms in which a key can be shown that is not hidden
SHOWN_KEY = ("".join(f"\\u{ord(letter):04x}" for letter in KEY), "%73%6b-torture-0123456789abcdefghij")


def http(status: str, body: bytes | str = b"", headers: str = "", length: int | None = None) -> bytes:
    """A reply of HTTP. `length`: what the header claims."""
    data = body.encode() if isinstance(body, str) else body
    claimed = len(data) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {claimed}\r\n{headers}\r\n".encode("latin-1") + data


def says(text: Any, **more: Any) -> bytes:
    """A chat completion in its usual form."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}, **more}).encode()


def good(score: int) -> bytes:
    """A reply as it should be."""
    return http("200 OK", says(f"Step 1 is right.\nScore: {score}"))


_ESCAPED = json.dumps({"error": KEY}).replace(KEY, SHOWN_KEY[0])
_CONTROL = "\x1b[31mred\x1b]0;title\x07\x9b31m\x08"

BEHAVIOURS: dict[str, tuple[Step, ...]] = {
    # statuses
    **{
        f"status {code}": (http(f"{code} Whatever", "no"),)
        for code in (201, 204, 206, 304, 400, 402, 403, 404, 405, 407, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529, 999)
    },
    "401, the key as the reason": (http(f"401 {KEY}", "no"),),
    "500, the key as the reason": (http(f"500 {KEY}", "no"),),
    "401, the key in the body": (http("401 No", f"wrong key {KEY}"),),
    "400, the key escaped in JSON": (http("400 No", _ESCAPED),),
    "500, the key escaped for addresses": (http("500 No", SHOWN_KEY[1]),),
    "200, the key as the answer": (http("200 OK", says(f"{KEY}\nScore: 7x")),),
    "200, the key escaped in the answer": (http("200 OK", says("KEY no score").replace(b"KEY", SHOWN_KEY[0].encode())),),
    "200, the key as another field": (http("200 OK", json.dumps({"error": KEY})),),
    # control characters
    "401 and control characters as the reason": (http(f"401 {_CONTROL}", "no"),),
    "400 and control characters in the body": (http("400 No", _CONTROL),),
    "200 and control characters in the answer": (http("200 OK", says(_CONTROL)),),
    "302 to control characters": (http("302 Found", "", f"Location: http://{_CONTROL}/\r\n"),),
    # redirects
    "301 to another host": (http("301 Moved", "", "Location: http://example.invalid/v1/chat/completions\r\n"),),
    "307 to itself": (http("307 Here", "", "Location: /v1/chat/completions\r\n"),),
    "308 to a file": (http("308 There", "", "Location: file:///etc/passwd\r\n"),),
    "302 to nowhere": (http("302 Found"),),
    # waiting
    **{
        f"429 and Retry-After: {value}": (http("429 Slow", "slow down", f"Retry-After: {value}\r\n"),)
        for value in ("0", "-5", "nan", "soon", "", "1 2", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Foo 2026 99:99:99 XXX")
    },
    # connections
    "closed at once": (),
    "reset at once": (None,),
    "closed in the header": (b"HTTP/1.1 200 OK\r\nContent-Le",),
    "closed in the body": (http("200 OK", says("Score: 7")[:30], length=500),),
    "reset in the body": (http("200 OK", says("Score: 7")[:30], length=500), None),
    "never an answer": (5.0,),
    "a slow header": tuple(step for letter in b"HTTP/1.1 200 OK\r\nX: " for step in (bytes([letter]), 0.2)),
    "a slow body": (http("200 OK", b"", length=100), *(step for _ in range(30) for step in (b"x", 0.2))),
    # what is no HTTP
    "not HTTP": (b"SSH-2.0-OpenSSH_9.0\r\n",),
    "HTTP/9.9": (b"HTTP/9.9 200 OK\r\n\r\n",),
    "a status that is no number": (b"HTTP/1.1 fine\r\n\r\n",),
    "random bytes": (bytes(range(256)) * 20,),
    "a header of 1 MB": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n\r\n",),
    "10,000 headers": (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",),
    "a negative length": (http("200 OK", says("Score: 7"), length=-1),),
    "a length that is no number": (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + says("Score: 7"),),
    "a length too short": (http("200 OK", says("Score: 7"), length=10),),
    "chunks of a wrong size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",),
    "chunks without an end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",),
    "a body of 64 MB": (http("200 OK", b"x" * 2**26),),
    "a body without an end": (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 2**20] * 64),
    "a packed body that nobody asked for": (http("200 OK", gzip.compress(says("Score: 7")), "Content-Encoding: gzip\r\n"),),
    # what is no chat completion
    "an empty body": (http("200 OK"),),
    "HTML": (http("200 OK", "<html><script>alert(1)</script></html>"),),
    "half of the JSON": (http("200 OK", says("Score: 7")[:40]),),
    "not UTF-8": (http("200 OK", b'{"choices": "\xff"}'),),
    "100,000 brackets": (http("200 OK", b"[" * 100_000),),
    "an integer of 10,000 digits": (http("200 OK", b"9" * 10_000),),
    **{
        f"JSON {value!r}"[:50]: (http("200 OK", json.dumps(value)),)
        for value in (None, [], 3, {}, {"choices": None}, {"choices": []}, {"choices": [None]}, {"choices": {"0": 1}},
                      {"choices": [{"message": None}]}, {"choices": [{"message": {"content": None}}]},
                      {"choices": [{"message": {"content": 7}}]}, {"choices": [{"message": {"content": ["Score: 7"]}}]})
    },
    # answers that rate nothing
    **{
        f"answer {text!r}"[:50]: (http("200 OK", says(text)),)
        for text in ("", "no score", "Score: eleven", "Score: 11", "Score: -3", "Score: nan", "Score: inf", "Score: 1e400",
                     "Score: " + "9" * 5000, "x" * 10**6, "Score: 7\n" * 10_000, "\ud800 Score: ?")
    },
    "counts of tokens of all kinds": (http("200 OK", says("no score", usage={"prompt_tokens": -1, "completion_tokens": "x"})),),
}  # fmt: skip

WAITS: dict[str, tuple[Step, ...]] = {
    f"429 and Retry-After: {value}": (http("429 Slow", "slow down", f"Retry-After: {value}\r\n"),)
    for value in ("1e9", "inf", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT")
}
