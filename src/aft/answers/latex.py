"""LaTeX answers: finds the last box, normalises its content, and compares two answers."""

from __future__ import annotations

import re

from .boxes import EMPTY_BOX, extract_boxed
from .extraction import Extraction
from .numbers import THOUSANDS, changes_value, format_number, normalise_number


def extract_latex(completion: str) -> Extraction:
    """The last boxed answer in the spelling of `normalise_latex`, or the reason why there is none."""
    extraction = extract_boxed(completion)
    if extraction.answer is None:
        return extraction
    answer = normalise_latex(extraction.answer)
    return Extraction(answer, None) if answer else Extraction(None, EMPTY_BOX)


_MOST_PASSES = 4
# The end of a row, with the space below it that `\\[2pt]` asks for. One character stands for it while other commands
# are rewritten, because the second backslash of `\\,` or `\\3` belongs to it.
_ROW = "\ue000"
_ROW_END = re.compile(r"\\\\(?:\*|(?:\*? ?\[ ?-?[\d.]+ ?(?:pt|ex|em|cm|mm|in) ?\]))?|\\(?:cr|newline)(?![A-Za-z])")
_ROW_ENDS = re.compile(rf"(?:{_ROW}\s*)+(\\end(?![A-Za-z])|$)?")
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
_UNIT = re.compile(r"(?<=[\d}]) ?\\(?:text|textrm|mathrm|mbox) ?\{( ?[A-Za-z][^{}]*)\}(?:\^ ?\{? ?[23] ?\}?)?$")
_PLAIN_NUMBER = re.compile(r"[-+]?[\d,./ ]+(?:\\?%| (?:hundred|thousand|million|billion|trillion))?")
_FRACTION = re.compile(r"(-?)(\d*)\\frac\{(-?\d+)\}\{(-?\d+)\}(\\?%)?")
_SPACE = re.compile(r"(?<!\d) | (?!\d)")  # a space between two digits stays: 1 2 is not 12
_LOOSE_COMMA = re.compile(r"(?<=\d)(?: ,|, )")
_TIGHT_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ASSIGNED = re.compile(r"[A-Za-z](?:_\w)? ?=(?!.*=)")


def normalise_latex(text: str) -> str:
    """A LaTeX answer in one spelling: without delimiters, sizes, spaces, `\\text`, degrees, with one kind of fraction.

    A leading `x =` is removed. A number becomes `format_number` of its exact value: `\\frac12` becomes `0.5`. A list
    keeps its spaces if it would be a number without them: `40, 200`.
    """
    for _ in range(_MOST_PASSES):
        before, text = text, _rewritten(text)
        if text == before:
            break
    return text


def _rewritten(text: str) -> str:
    """The text after one pass of `normalise_latex`. Another pass may simplify the result further."""
    text = _ROW_END.sub(_ROW, text.replace(_ROW, " "))
    text = _ROW_ENDS.sub(lambda ends: ends[0] if ends[1] is None else ends[1], text)  # the last row needs no end
    text = " ".join(THOUSANDS.sub(",", text.replace("\\!", "")).split())
    text = _REMOVED.sub(" ", text).rstrip(" .")
    unit = _UNIT.search(text)
    if unit is not None and not changes_value(f" {unit[1].strip()}"):
        text = text[: unit.start()]
    text = _TEXT.sub(r" \1 ", text)
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split()).rstrip(" .")
    text = _ASSIGNED.sub("", text, count=1).strip() if _ASSIGNED.match(text) else text
    value = _number(text)
    if value is not None:
        return value
    is_list = _LOOSE_COMMA.search(text) is not None
    if is_list:  # the commas without a space then stand between thousands: (1,200, 300) is a pair
        text = _TIGHT_COMMA.sub("", text)
    short = _SPACE.sub("", text)
    value = _number(short)
    if value is not None:
        # 40, 200 is a list and 40,200 is a number, but - 5 is -5
        short = ", ".join(item.strip() for item in text.split(",")) if is_list else value
    return short.replace(_ROW, r"\\")


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
