"""Answers in LaTeX: the last boxed one, and when two are the same."""

from __future__ import annotations

from .markers import Extraction

NO_BOX = "no \\boxed{...}"
OPEN_BOX = "the last \\boxed{ is not closed"
EMPTY_BOX = "nothing in the last \\boxed{}"


def extract_boxed(completion: str) -> Extraction:
    """The content of the last `\\boxed{...}` (or `\\fbox{...}`), braces balanced; linear in the text."""
    start = max(completion.rfind("\\boxed{"), completion.rfind("\\fbox{"))
    if start < 0:
        return Extraction(None, NO_BOX)
    begin = completion.index("{", start) + 1
    depth, escaped = 1, False
    for position in range(begin, len(completion)):
        character = completion[position]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if not depth:
                answer = completion[begin:position].strip()
                return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)
    return Extraction(None, OPEN_BOX)


def latex_equal(left: str, right: str) -> bool:
    """Whether two LaTeX answers are the same."""
    return left.replace(" ", "") == right.replace(" ", "")
