"""Text from outside as it is shown: secrets are hidden, and characters that act or cannot be seen are escaped.

Text from outside is text that this package did not write: of data files, models, judges, servers, templates, libraries
and file names. A terminal, a log file, Markdown, CSV and pictures show it through these functions. Files of JSON lines
keep it as it is.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import functools
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Control characters except tab and line feed, separators of lines, marks of direction, characters without width, tags,
# and halves of surrogate pairs.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
HIDDEN = "***"
SHORTEST = 16  # characters; a shorter value may be a placeholder such as "none", which a text may contain by chance
_PIECE = 12  # characters; as long a part of a secret is hidden, too
_BLOCK = _PIECE // 2

_NAME = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_KEY|SECRET_KEY|SECRET|TOKEN|PASSWORD)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^\s/@]+@")  # a name or password before the host of an address
_PASSWORD = re.compile(r"://[^\s/@:]*:[^\s/@]+@")
_HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")  # it may come from a file
# ways of writing one character in JSON, Python, an address, or HTML
_ESCAPED = re.compile(
    r"(?=[\\%&])(?:\\+(?:u00|x)([0-9a-f]{2})|%(?:25)*([0-9a-f]{2})|&#x0*([0-9a-f]{2});|&#0*([0-9]{2,3});|\\+)",
    re.IGNORECASE,
)


def shown(text: str) -> str:
    """Returns lines of text as they are shown: secrets hidden, an escape such as `\\x1b` for a character in `UNSEEN`.

    Line feeds and tabs stay. The result cannot be turned back into the text.
    """
    return escape(without_secrets(text))


def shown_line(text: str) -> str:
    """Returns text as it is shown on one line: as `shown`, with `\\n` and `\\t` for line feeds and tabs."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def escape(text: str) -> str:
    """Returns the text with an escape for each character in `UNSEEN`. YAML and Python read it in double quotes."""
    return UNSEEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def secrets() -> dict[str, str]:
    """Returns the secrets in the environment by the name of their variable: keys, tokens and passwords."""
    # every text asks for them, and most variables have another name: their values are not read
    found = {name: os.environ.get(name, "").strip() for name in os.environ if _NAME.search(name)}
    return {name: value for name, value in found.items() if len(value) >= SHORTEST and not re.search(r"\s", value)}


def secret_in(text: str) -> str:
    """Returns what secret the text holds whole and in plain form, in words that do not show it. "": none."""
    for name, value in secrets().items():
        if value in text:
            return f"the value of the environment variable {name}"
    if _PASSWORD.search(text):
        return "a password in an address"
    return "a token of the Hugging Face hub" if _HUB_TOKEN.search(text) else ""


def without_secrets(text: str) -> str:
    """Returns the text as `hide` does, also without names and passwords in addresses and tokens of the hub's form."""
    return _HUB_TOKEN.sub(HIDDEN, _LOGIN.sub(f"://{HIDDEN}@", hide(text)))


def hide(text: str, also: Iterable[str] = ()) -> str:
    """Returns the text with `***` in place of the environment's `secrets` and the texts in `also`.

    A secret is found in plain, escaped, percent-encoded and base64 form, and in pieces of at least 12 characters.
    """
    wanted = tuple(dict.fromkeys([*secrets().values(), *also]))
    if not wanted or not text:
        return text
    parts, done = [], 0
    for first, last in sorted(_spans(text, wanted, levels=3)):
        if first >= done:
            parts += [text[done:first], HIDDEN]
        done = max(done, last)
    return "".join([*parts, text[done:]])


def _spans(text: str, secrets: tuple[str, ...], levels: int) -> Iterator[tuple[int, int]]:
    """Yields the spans of secrets in the text. `levels`: how many times a secret may have been escaped."""
    yield from _places(text, secrets)
    if levels and _ESCAPED.search(text):
        plain, start = _unescaped(text)
        for first, last in _spans(plain, secrets, levels - 1):
            final = start(last - 1)
            escaped = _ESCAPED.match(text, final)
            yield start(first), escaped.end() if escaped else final + 1


def _places(text: str, secrets: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yields the spans of secrets, their base64 forms and their long pieces in the text."""
    short, pieces, blocks = _sought(secrets)
    for secret in short:
        yield from ((match.start(), match.end()) for match in re.finditer(re.escape(secret), text))
    begin = end = first = 0
    # every piece holds a whole block of the text's, and few blocks are of a secret
    for block in range(0, len(text) - _BLOCK + 1, _BLOCK):
        if block < first or text[block : block + _BLOCK] not in blocks:
            continue
        first = max(first, block + _BLOCK - _PIECE)
        while first <= block:
            if text[first : first + _PIECE] not in pieces:
                first += 1
                continue
            if first >= end:
                if end:
                    yield begin, end
                begin = first
            end = first + _PIECE
            # what lies between two pieces that overlap needs no look
            first += _PIECE - 1 if text[end - 1 : end - 1 + _PIECE] in pieces else 1
    if end:
        yield begin, end


@functools.lru_cache(maxsize=8)
def _sought(secrets: tuple[str, ...]) -> tuple[list[str], frozenset[str], frozenset[str]]:
    """Returns the secrets that are found whole only, the pieces of all others, and the blocks of those pieces."""
    forms = [form for secret in secrets if len(secret) >= SHORTEST for form in (secret, *_base64_forms(secret))]

    def parts(length: int) -> frozenset[str]:
        return frozenset(form[first : first + length] for form in forms for first in range(len(form) - length + 1))

    return [secret for secret in secrets if 0 < len(secret) < SHORTEST], parts(_PIECE), parts(_BLOCK)


def _base64_forms(secret: str) -> set[str]:
    """Returns the characters of a base64 text that a secret decides alone, for each place it may have in the text."""
    forms = set()
    for before in range(3):
        raw = b"\0" * before + secret.encode("utf-8", "surrogatepass")
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(raw).decode("ascii")[before + (before > 0) : len(raw) * 8 // 6])
    return forms


def _unescaped(text: str) -> tuple[str, Callable[[int], int]]:
    """Returns the text with its escaped characters decoded, and where in `text` the character at a place begins."""
    parts: list[str] = []
    places, shifts = [0], [0]  # from places[i] on, a place of the result lies shifts[i] earlier than in the text
    done = length = 0
    for match in _ESCAPED.finditer(text):
        code = match[1] or match[2] or match[3]
        decoded = chr(int(code, 16)) if code else chr(int(match[4])) if match[4] else ""
        parts += [text[done : match.start()], decoded]
        length += match.start() - done + len(decoded)
        done = match.end()
        places.append(length)
        shifts.append(done - length)
    parts.append(text[done:])
    return "".join(parts), lambda place: place + shifts[bisect.bisect_right(places, place) - 1]


@contextlib.contextmanager
def libraries_shown() -> Iterator[None]:
    """Shows warnings, log messages and errors of threads as `shown`: libraries put text from outside into them."""
    before = warnings.formatwarning, logging.getLogRecordFactory(), threading.excepthook

    def format_warning(*arguments: Any, **options: Any) -> str:
        return shown(before[0](*arguments, **options))

    def show_thread(error: threading.ExceptHookArgs) -> None:
        if error.exc_type is not SystemExit:
            lines = traceback.format_exception(error.exc_type, error.exc_value, error.exc_traceback)
            print(shown("".join(lines)), end="", file=sys.stderr)

    warnings.formatwarning, threading.excepthook = format_warning, show_thread
    logging.setLogRecordFactory(_Record)
    try:
        yield
    finally:
        warnings.formatwarning, threading.excepthook = before[0], before[2]
        logging.setLogRecordFactory(before[1])


class _Record(logging.LogRecord):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = shown("".join(traceback.format_exception(*self.exc_info))).rstrip("\n")

    def getMessage(self) -> str:
        return shown(super().getMessage())
