"""The chosen option of a multiple-choice question: by letter, by text, or by the option's value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .markers import Extraction, extract_after_marker, normalise_text
from .numbers import numbers_equal

NOT_AN_OPTION = "no option after the marker"
AMBIGUOUS = "several options after the marker"

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"(?:(?:the|answer|option|choice|is)\b ?)*[(\[*]*([A-Za-z])(?:[)\].:,*]|$)", re.IGNORECASE)


def extract_choice(completion: str, marker: str, options: Sequence[str]) -> Extraction:
    """The letter (A for the first of `options`) of the option named behind the last `marker`, or why there is none."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    match = _LETTER.match(extraction.answer)
    if match and match[1].upper() in LETTERS[: len(options)]:
        return Extraction(match[1].upper(), None)
    text = normalise_text(extraction.answer)
    found = [
        letter
        for letter, option in zip(LETTERS, options, strict=False)
        if normalise_text(option) == text or numbers_equal(option, text)
    ]
    if len(found) == 1:
        return Extraction(found[0], None)
    return Extraction(None, AMBIGUOUS if found else NOT_AN_OPTION)
