"""Another reading of a completion, to audit the first with: whatever looks most like a final answer counts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .choices import LAST_CHOICE, extract_choice
from .latex import extract_boxed, normalise_latex
from .markers import NO_MARKER, Extraction, extract_text
from .numbers import LAST_NUMBER, extract_number, normalise_number

_COMMON_MARKER = re.compile(r"\[ANS\]|####|\banswer(?: is:?|:)|(?:^|\n)A:", re.IGNORECASE)


def lenient_answer(
    completion: str, gold: str, options: Sequence[str] | None = None, marker: str | None = None
) -> Extraction:
    """An answer of the gold one's kind: a choice where there are options, else a number, LaTeX or text.

    It stands in the last box, behind the last of the task's markers or of the usual ones (`####`, `the answer is`, `A:`
    at the beginning of a line), or is the last number or letter. Not for labels: it takes numbers that end no chain.
    """
    boxed = extract_boxed(completion)
    used = marker if marker and marker in completion else _last_common_marker(completion)
    if options:
        if boxed.answer is not None:
            completion, used = f"####{boxed.answer}", "####"
        return extract_choice(completion, used or "####", options, fallback=LAST_CHOICE)
    if normalise_number(gold) is not None:
        if boxed.answer is not None and normalise_number(normalise_latex(boxed.answer)) is not None:
            completion, used = f"####{normalise_latex(boxed.answer)}", "####"
        return extract_number(completion, used or "####", words=True, fallback=LAST_NUMBER)
    if boxed.answer is not None:
        return Extraction(normalise_latex(boxed.answer), None)
    return extract_text(completion, used) if used else Extraction(None, NO_MARKER)


def _last_common_marker(completion: str) -> str | None:
    last = None
    for match in _COMMON_MARKER.finditer(completion):
        last = match[0]
    return last
