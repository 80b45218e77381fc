"""Finds the answer after the last marker of a completion. Every kind of answer uses this."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

NO_MARKER = "no marker"
NO_TEXT = "no text after the marker"


@dataclass(frozen=True)
class Extraction:
    """The final answer of a completion. If `answer` is None, `reason` says why there is none."""

    answer: str | None
    reason: str | None


def extract_after_marker(completion: str, marker: str) -> Extraction:
    """The rest of the line after the last `marker`, without surrounding space and final periods."""
    _, found, rest = completion.rpartition(marker)
    if not found:
        return Extraction(None, NO_MARKER)
    answer = rest.partition("\n")[0].strip().rstrip(".").rstrip()
    return Extraction(answer, None) if answer else Extraction(None, NO_TEXT)


def extract_text(completion: str, marker: str) -> Extraction:
    """The text after the last marker in the spelling of `normalise_text`, or the reason why there is none."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    answer = normalise_text(extraction.answer)
    return Extraction(answer, None) if answer else Extraction(None, NO_TEXT)


def normalise_text(text: str) -> str:
    """The text in one spelling: casefolded, NFC, single spaces, no outer quotation marks, mark-up or final periods."""
    text = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return text.strip("*_`'\"“”‘’ ").rstrip(".").strip("*_`'\"“”‘’ ")


def texts_equal(left: str, right: str) -> bool:
    """True if both texts have the same `normalise_text` spelling."""
    return normalise_text(left) == normalise_text(right)
