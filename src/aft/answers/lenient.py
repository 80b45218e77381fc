"""A lenient reading of completions, for auditing the strict one: it takes whatever looks most like a final answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from .boxes import extract_boxed
from .choices import read_choice
from .extraction import Extraction
from .latex import normalise_latex
from .markers import NO_MARKER, extract_after_marker, extract_text
from .numbers import NOT_A_NUMBER, format_number, last_number, normalise_number

_COMMON_MARKER = re.compile(r"\[ANS\]|####|\banswer(?: is:?|:)|(?:^|\n)A:", re.IGNORECASE)


def lenient_answer(
    completion: str, gold: str, options: Sequence[str] | None = None, marker: str | None = None
) -> Extraction:
    """The answer, of the same kind as the gold answer: a choice if there are options, else a number, LaTeX or text.

    The last box counts first. Without a box, the answer follows the task's last marker, or else the last usual marker
    (`####`, `the answer is`, `A:` at the beginning of a line). If neither gives an answer, a choice is read from the
    last line, and a number is the last number anywhere. Do not use this for labels: that number need not be an answer.
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
