"""Finds the last `\\boxed{...}` of a completion. LaTeX answers and answers behind a marker both use it."""

from __future__ import annotations

import re

from .extraction import Extraction

NO_BOX = "no \\boxed{...}"
OPEN_BOX = "the last \\boxed{ is not closed"
EMPTY_BOX = "nothing in the last \\boxed{}"

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
# What ends or nests a box without braces, `\boxed\frac{1}{2}`. A space before an argument does not end it.
_UNBRACED = re.compile(
    r"\\(?P<size>left|right)(?![A-Za-z])|\\.|(?P<open>[{(\[])|(?P<close>[})\]])|\s+(?=\{)|[\s$]", re.S
)


def extract_boxed(completion: str) -> Extraction:
    """The content of the last `\\boxed{...}`, `\\fbox{...}` or `\\boxed 5`, or the reason why there is none.

    Braces are balanced. If the last box is not closed, there is no answer, even if earlier boxes are closed.
    """
    boxes = list(_BOX.finditer(completion))
    if not boxes:
        return Extraction(None, NO_BOX)
    last = boxes[-1]
    span = _content(completion, last.end())
    if span is None:
        return Extraction(None, OPEN_BOX)
    answer = completion[span[0] : span[1]].strip()
    if span[0] == last.end():
        answer = answer.rstrip(".,;:")
    return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)


def box_place(completion: str) -> tuple[int, int] | None:
    """The place (begin, end) of the content of the last box; None without a closed one."""
    boxes = list(_BOX.finditer(completion)) if "\\" in completion else []
    return _content(completion, boxes[-1].end()) if boxes else None


def without_box(text: str) -> str:
    """The text with its one box replaced by the content of that box; texts with no box or with several stay as written.

    Spaces around the content keep it apart from what stands beside the box: `2\\boxed{3}` is not 23.
    """
    boxes = list(_BOX.finditer(text)) if "\\" in text else []
    span = _content(text, boxes[0].end()) if len(boxes) == 1 else None
    if span is None:
        return text
    start, end = span
    behind = end + 1 if start > boxes[0].end() else end
    return f"{text[: boxes[0].start()]} {text[start:end]} {text[behind:]}"


def _content(text: str, start: int) -> tuple[int, int] | None:
    """(begin, end) of a box's content, where `start` is the place behind the command; None if it is not closed."""
    if text.startswith("{", start):
        depth = 1
        for brace in _BRACE.finditer(text, start + 1):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if not depth:
                return start + 1, brace.start()
        return None
    depth = 0
    for token in _UNBRACED.finditer(text, start):
        if token["open"] or token["size"] == "left":
            depth += 1
        elif token["close"] or token["size"] == "right":
            if not depth:
                return start, token.start()
            depth -= 1
        elif not depth and (token[0] == "$" or token[0].isspace()) and not text.startswith("{", token.end()):
            return start, token.start()
    return (start, len(text)) if not depth else None
