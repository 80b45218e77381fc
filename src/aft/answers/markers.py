"""Where in a completion the answer stands: behind the last marker. Shared by every kind of answer."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

NO_MARKER = "no marker"
NO_TEXT = "no text after the marker"


@dataclass(frozen=True)
class Extraction:
    """The final answer of a completion, or (`answer` None) the reason why there is none."""

    answer: str | None
    reason: str | None


def extract_after_marker(completion: str, marker: str) -> Extraction:
    """The rest of the line behind the last `marker`, without surrounding space and final periods."""
    _, found, rest = completion.rpartition(marker)
    if not found:
        return Extraction(None, NO_MARKER)
    answer = rest.partition("\n")[0].strip().rstrip(".").rstrip()
    return Extraction(answer, None) if answer else Extraction(None, NO_TEXT)


def extract_text(completion: str, marker: str) -> Extraction:
    """`normalise_text` of what `extract_after_marker` gives: equal answers are equal texts. Or why there is none."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    answer = normalise_text(extraction.answer)
    return Extraction(answer, None) if answer else Extraction(None, NO_TEXT)


def normalise_text(text: str) -> str:
    """One spelling per text: case, typographic forms, runs of space, quotation marks and final periods do not count."""
    text = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return text.strip("*_`'\"“”‘’ ").rstrip(".").strip("*_`'\"“”‘’ ")


def texts_equal(left: str, right: str) -> bool:
    """Whether both texts are the same by `normalise_text`."""
    return normalise_text(left) == normalise_text(right)
