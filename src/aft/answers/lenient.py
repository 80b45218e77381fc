"""Another reading of a completion, to audit the first with: whatever looks most like a final answer counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from .choices import read_choice
from .latex import extract_boxed, normalise_latex
from .markers import NO_MARKER, Extraction, extract_after_marker, extract_text
from .numbers import NOT_A_NUMBER, format_number, last_number, normalise_number

_COMMON_MARKER = re.compile(r"\[ANS\]|####|\banswer(?: is:?|:)|(?:^|\n)A:", re.IGNORECASE)


def lenient_answer(
    completion: str, gold: str, options: Sequence[str] | None = None, marker: str | None = None
) -> Extraction:
    """An answer of the gold one's kind: a choice where there are options, else a number, LaTeX or text.

    It stands in the last box, or behind the last of the task's markers or of the usual ones (`####`, `the answer is`,
    `A:` at the beginning of a line). Without those, a choice is read in the last line, and the last number counts.
    Not for labels: it takes numbers that end no chain.
    """
    boxed = extract_boxed(completion).answer
    used = marker if marker and marker in completion else _last_common_marker(completion)
    if boxed is not None:
        found = Extraction(boxed, None)
    else:
        found = extract_after_marker(completion, used) if used else Extraction(None, NO_MARKER)
    if options:
        return read_choice(completion.rstrip().rpartition("\n")[2] if found.answer is None else found.answer, options)
    if boxed is not None:
        found = Extraction(normalise_latex(boxed), None)
    if normalise_number(gold) is not None:
        values = (_number(text) for text in (found.answer, completion) if text is not None)
        value = next((value for value in values if value is not None), None)
        return (
            Extraction(None, found.reason or NOT_A_NUMBER) if value is None else Extraction(format_number(value), None)
        )
    return found if boxed is not None or not used else extract_text(completion, used)


def _number(text: str) -> Fraction | None:
    value = normalise_number(text)
    return last_number(text) if value is None else value


def _last_common_marker(completion: str) -> str | None:
    last = None
    for match in _COMMON_MARKER.finditer(completion):
        last = match[0]
    return last
