"""Finds where the answer that was read stands in a completion, to mark it for a reader. It decides nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from .boxes import box_place
from .numbers import normalise_number

_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:/\d+)?|[+-]?\.\d+")
_JOINED_BEFORE, _JOINED_AFTER = re.compile(r"(?:[\w.,]|\d-)$"), re.compile(r"\w|[.,]\d")
_OUTER = " \t*_`:：."  # surrounds an answer and is no part of it


def place_of_answer(text: str, answer: str | None, markers: Iterable[str]) -> tuple[int, int] | None:
    """The place (begin, end) of the answer in a completion; None if it is not found.

    It is searched for after the last of the `markers`, else in the last box, else in the whole text: first as it is
    written, then in any case, then as a number of the same value. Otherwise the place is the rest of the marker's line,
    or the box.
    `answer` None: the answer as it was read is not known.
    """
    begin, end, closed = _region(text, markers)
    if answer:
        found = _as_written(text, answer, begin, end, last=not closed) or _as_number(text, answer, begin, end)
        if found:
            return found
    return _trimmed(text, begin, end) if closed else None


def _region(text: str, markers: Iterable[str]) -> tuple[int, int, bool]:
    """Begin and end of where the answer stands, and whether a marker or a box says so."""
    behind = max(
        (place + len(marker) for marker in markers if marker and (place := text.rfind(marker)) >= 0), default=0
    )
    if behind:
        line = text.find("\n", behind)
        return behind, len(text) if line < 0 else line, True
    box = box_place(text)
    return (*box, True) if box else (0, len(text), False)


def _as_written(text: str, answer: str, begin: int, end: int, *, last: bool) -> tuple[int, int] | None:
    """The answer between characters that are no part of a word or a number: its last place, or its first one.

    In another case only if it is nowhere as it is: the article "a" is no choice A.
    """
    for flags in (0, re.IGNORECASE):
        found = None
        for match in _occurrences(answer, flags).finditer(text, begin, end):
            before, after = text[max(match.start() - 2, 0) : match.start()], text[match.end() : match.end() + 2]
            if not (_JOINED_BEFORE.search(before) or _JOINED_AFTER.match(after)):
                found = match.span()
                if not last:
                    break
        if found:
            return found
    return None


@functools.lru_cache(maxsize=4096)
def _occurrences(answer: str, flags: int) -> re.Pattern[str]:
    """Finds an answer with any white space inside. Most answers occur in many completions."""
    return re.compile(r"\s+".join(map(re.escape, answer.split())) or "(?!)", flags)


def _as_number(text: str, answer: str, begin: int, end: int) -> tuple[int, int] | None:
    value = normalise_number(answer)
    if value is None:
        return None
    places = [m.span() for m in _NUMBER.finditer(text, begin, end) if normalise_number(m[0].rstrip(",")) == value]
    return places[-1] if places else None


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int] | None:
    inside = text[begin:end]
    begin += len(inside) - len(inside.lstrip(_OUTER))
    end = begin + len(text[begin:end].rstrip(_OUTER))
    return (begin, end) if begin < end else None
