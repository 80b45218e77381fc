"""Finds the answer after the last marker of a completion. Every kind of answer uses this."""

from __future__ import annotations

import re
import unicodedata

from .boxes import without_box
from .extraction import Extraction

NO_MARKER = "no marker"
NO_TEXT = "no text after the marker"

# A colon that belongs to the marker, also where mark-up that began before the marker ends before the colon: `**: 36`.
_COLON = re.compile(r"(?:[\s:：]|(?:\*\*?|__?|`)(?=[\s:：]))+")


def extract_after_marker(completion: str, marker: str) -> Extraction:
    """The rest of the line after the last `marker`, without surrounding space, a leading colon and final periods."""
    _, found, rest = completion.rpartition(marker)
    if not found:
        return Extraction(None, NO_MARKER)
    line = rest.partition("\n")[0]
    colon = _COLON.match(line)
    answer = line[colon.end() if colon else 0 :].strip().rstrip(".").rstrip()
    return Extraction(answer, None) if answer.strip("*_`") else Extraction(None, NO_TEXT)


def extract_text(completion: str, marker: str) -> Extraction:
    """The text after the last marker in the spelling of `normalise_text`, or the reason why there is none."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    answer = normalise_text(without_box(extraction.answer))
    return Extraction(answer, None) if answer else Extraction(None, NO_TEXT)


_WORDS_IN_BRACKETS = re.compile(r"\(([^\W\d_][^\W\d_][^\W\d_ '-]*(?:[ '-][^\W\d_]+)*)\)")


def normalise_text(text: str) -> str:
    """The text in one spelling: casefolded, NFC, single spaces, trimmed by `trim`, words without brackets around."""
    text = trim(" ".join(unicodedata.normalize("NFC", text).casefold().split()))
    return words[1] if (words := _WORDS_IN_BRACKETS.fullmatch(text)) else text


_NOISE = frozenset(" \t\n*_`,;:：")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "«": "»"}
_CLOSING = frozenset(_QUOTES.values())


def trim(text: str) -> str:
    """The text without outer space, mark-up, quotation marks and punctuation.

    Signs that change a value stay: the point of `.5`, the `!` of `8!` or `n!`, the minutes of `5'`.
    """
    start, end = 0, len(text)
    while start < end:
        first, last = text[start], text[end - 1]
        if last in _NOISE or last in ".…":
            end -= 1
        elif first in _NOISE:
            start += 1
        elif first in _QUOTES and end - start > 1 and last == _QUOTES[first]:
            start, end = start + 1, end - 1
        elif (first == "." and not text[start + 1 : start + 2].isdigit()) or first in _QUOTES:
            start += 1
        elif last == "!" or last in _CLOSING:
            before = end
            while before > start and text[before - 1] == last:
                before -= 1
            if not _ends_a_word(text, start, before):
                break
            end = before
        else:
            break
    return text[start:end]


def _ends_a_word(text: str, start: int, end: int) -> bool:
    """True if `text[start:end]` is empty or ends in a word of several letters, or in punctuation behind a word."""
    last = text[max(start, end - 2) : end]
    return not last or (last.isalpha() and len(last) > 1) or last[-1] in ".…?!,;:\"'”’"


def texts_equal(left: str, right: str) -> bool:
    """True if both texts have the same `normalise_text` spelling."""
    return normalise_text(left) == normalise_text(right)
