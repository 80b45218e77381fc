"""LaTeX answers: finds the last box, normalises its content, and compares two answers."""

from __future__ import annotations

import re

from .markers import Extraction
from .numbers import format_number, normalise_number

NO_BOX = "no \\boxed{...}"
OPEN_BOX = "the last \\boxed{ is not closed"
EMPTY_BOX = "nothing in the last \\boxed{}"

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s*(\{|[^\s{}$]*)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def extract_boxed(completion: str) -> Extraction:
    """The content of the last `\\boxed{...}`, `\\fbox{...}` or `\\boxed 5`, or the reason why there is none.

    Braces are balanced. If the last box is not closed, there is no answer, even if earlier boxes are closed.
    """
    boxes = list(_BOX.finditer(completion))
    if not boxes:
        return Extraction(None, NO_BOX)
    last = boxes[-1]
    if last[1] != "{":
        answer = last[1].rstrip(".,;:")
        return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)
    depth = 1
    for brace in _BRACE.finditer(completion, last.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            answer = completion[last.end() : brace.start()].strip()
            return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)
    return Extraction(None, OPEN_BOX)


def extract_latex(completion: str) -> Extraction:
    """The last boxed answer in the spelling of `normalise_latex`, or the reason why there is none."""
    extraction = extract_boxed(completion)
    if extraction.answer is None:
        return extraction
    answer = normalise_latex(extraction.answer)
    return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)


_MOST_PASSES = 4
_REMOVED = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|[bB]ig+[lr]?)(?![A-Za-z])|\\[,;: ]|~|\\[()\[\]]"
    r"|\\q?quad(?![A-Za-z])|\\?\$"
)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit|mbox|operatorname) ?\{([^{}]*)\}")
_SAME = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac ?(\d)(?=[\d{\\a-z ])"), r"\\frac{\1}"),  # \frac12, \frac1{2}
    (re.compile(r"(\\frac\{[^{}]*\}) ?(\w)"), r"\1{\2}"),
    (re.compile(r"\\sqrt ?(\w)"), r"\\sqrt{\1}"),
    (re.compile(r"\^ ?\{ ?\\circ ?\}|\^ ?\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|°"), ""),
    (re.compile(r"([\^_])\{(\w)\}"), r"\1\2"),
    (re.compile(r"\\(?:le|leq|leqslant)(?![A-Za-z])|≤"), r"\\le "),
    (re.compile(r"\\(?:ge|geq|geqslant)(?![A-Za-z])|≥"), r"\\ge "),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|[×·⋅]"), r"\\cdot "),
    (re.compile(r"\\pi(?![A-Za-z])|π"), r"\\pi "),
    (re.compile(r"\\infty(?![A-Za-z])|∞"), r"\\infty "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"[−–]"), "-"),
)
# A unit in \text{...} after a number is removed. Letters outside \text are variables and stay.
_UNIT = re.compile(r"(?<=[\d}]) ?\\(?:text|textrm|mathrm|mbox) ?\{ ?[A-Za-z][^{}]*\}(?:\^ ?\{? ?[23] ?\}?)?$")
_PLAIN_NUMBER = re.compile(r"[-+]?[\d,./ ]+(?:\\?%)?")
_FRACTION = re.compile(r"(-?)(\d*)\\frac\{(-?\d+)\}\{(-?\d+)\}(\\?%)?")
_SPACE = re.compile(r"(?<!\d) | (?!\d)")  # a space between two digits stays: 1 2 is not 12
_ASSIGNED = re.compile(r"[A-Za-z](?:_\w)? ?=(?!.*=)")


def normalise_latex(text: str) -> str:
    """A LaTeX answer in one spelling: without delimiters, sizes, spaces, `\\text`, degrees, with one kind of fraction.

    A leading `x =` is removed. A number becomes `format_number` of its exact value: `\\frac12` becomes `0.5`.
    """
    for _ in range(_MOST_PASSES):
        before, text = text, _rewritten(text)
        if text == before:
            break
    return text


def _rewritten(text: str) -> str:
    """The text after one pass of `normalise_latex`. Another pass may simplify the result further."""
    text = " ".join(text.replace("\\!", "").split())
    text = _UNIT.sub("", _REMOVED.sub(" ", text).rstrip(" ."))
    text = _TEXT.sub(r" \1 ", text)
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split()).rstrip(" .")
    text = _ASSIGNED.sub("", text, count=1).strip() if _ASSIGNED.match(text) else text
    value = _number(text)
    return value if value is not None else _SPACE.sub("", text)


def _number(text: str) -> str | None:
    match = _FRACTION.fullmatch(text)
    if match is None:
        value = normalise_number(text) if _PLAIN_NUMBER.fullmatch(text) else None
    elif match[2]:
        value = normalise_number(f"{match[1]}{match[2]} {match[3]}/{match[4]}")
    else:
        sign = "-" if ((match[1] == "-") + match[3].startswith("-") + match[4].startswith("-")) % 2 else ""
        value = normalise_number(f"{sign}{match[3].lstrip('-')}/{match[4].lstrip('-')}")
    return None if value is None else format_number(value)


def latex_equal(left: str, right: str) -> bool:
    """True if two LaTeX answers have the same `normalise_latex` spelling: `x+1` and `1+x` differ."""
    return normalise_latex(left) == normalise_latex(right)
