"""Numbers as answers: reads them exactly (`Fraction`), writes them in one spelling, compares them by value."""

from __future__ import annotations

import re
import unicodedata
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from .boxes import without_box
from .extraction import Extraction
from .markers import extract_after_marker

NOT_A_NUMBER = "no number after the marker"


class Quantity(NamedTuple):
    """An exact value and its unit. The unit has one spelling (`$` for `dollars`) and is empty if there is none."""

    value: Fraction
    unit: str


def extract_number(completion: str, marker: str) -> Extraction:
    """The number after the last marker in the spelling of `format_number`, or the reason why there is none."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    value = normalise_number(without_box(extraction.answer))
    return Extraction(None, NOT_A_NUMBER) if value is None else Extraction(format_number(value), None)


# These bounds are far beyond any answer. They make `1e999999999` and a completion that repeats digits cheap to read.
# They stay below 640 digits, the lowest limit that a Python program can set for converting text to integers.
_MAX_DIGITS = 200  # in one number as written; also the longest decimal that `format_number` writes
_MAX_VALUE = 10**100  # of the numerator and of the denominator

_SIGNS = "".join(chr(code) for code in range(0x20A0, 0x20C1)) + "$¢£¤¥"
_CURRENCY = rf"(?:[A-Z]{{0,3}}[{_SIGNS}]|(?:[Rr][Ss]\b\.?|RS\b\.?|INR|USD|EUR|GBP|CAD|AUD))\ ?"  # $, US$, Rs.
_INTEGER = r"\d+(?:,\d+)*"  # `_integer` checks the positions of the commas
_FRACTION = rf"(?:(?P<whole>{_INTEGER})\ )?(?P<top>{_INTEGER})\ ?/\ ?(?P<bottom>{_INTEGER})"
_EXPONENT = r"(?:[eE](?P<exponent>[+-]?\d+)|\ ?[x×*]\ ?10\ ?\^\ ?(?P<power>[+-]?\d+))?"
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+-])?\ ?
    (?P<currency>{_CURRENCY})?
    (?P<inner_sign>[+-])?\ ?                # $-5
    (?:{_FRACTION}|(?P<integer>{_INTEGER})?(?:\.(?P<decimals>\d*))?{_EXPONENT})
    """,
    re.VERBOSE,
)
# The text behind a number is its unit or a remark, unless it changes the value, takes it back or names another: then
# there is no number. Digits and operators make an expression. Words for numbers make a mixed number, a product or a
# second answer where they follow at once or behind `and` and `or`; elsewhere they belong to a remark.
_NUMBER_WORDS = (
    "zero", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty",
    "sixty", "seventy", "eighty", "ninety", "hundred", "hundreds", "thousand", "thousands", "million", "millions",
    "billion", "billions", "trillion", "trillions", "lakh", "lakhs", "crore", "crores", "half", "halves",
)  # fmt: skip
_PARTS = (
    "third", "fourth", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "twelfth", "sixteenth",
    "twentieth", "hundredth", "thousandth", "millionth",
)  # fmt: skip
_JOINED = ("minus", "plus", "divided", "multiplied", "modulo", "pi", "factorial", "sqrt")
_TAKEN_BACK = ("or", "not", "never", "cannot", "wrong", "incorrect", "wait", "actually")
VALUE_WORDS = (*_NUMBER_WORDS, *_PARTS, *(f"{part}s" for part in _PARTS), *_JOINED, *_TAKEN_BACK)
"""Words that, behind a number, can change its value or take it back."""
_COUNT = rf"(?:{'|'.join(_NUMBER_WORDS)})\b"
# A hyphen makes a word part of a unit, as in `10 ten-dollar bills`, but not of a number, as in `3 twenty-fifths`.
_IN_UNIT = rf"-(?!(?:{'|'.join((*_NUMBER_WORDS, *_PARTS, 'one'))}))[a-z]"
_ORDINAL = r"[ -](?:grade|place|class|floor|part|person|degree|hand|rate|row|round|team|year|prize|gear)"
# `36 third graders` and `20 quarters` are numbers with a unit; a quarter of something is a part.
_VALUE = (
    rf"(?:{_COUNT}|(?:{'|'.join(_JOINED)})\b|(?:{'|'.join(part for part in _PARTS if part != 'quarter')})s?\b"
    rf"(?!{_ORDINAL})|quarters? of\b|quarter(?=[\W_]*$))(?!{_IN_UNIT})"
)
_FURTHER = rf"(?:an? )?(?:{_VALUE}|(?:one|(?<=a )quarter)\b(?!{_IN_UNIT}))"
_SECOND_PART = re.compile(
    rf"(?:(?!(?:in|per|every|each|within|during|after)\b)[^\s,(]+,? ){{0,3}}and (?:(?:about|another|then"
    rf"|also) )?{_FURTHER}",
    re.IGNORECASE,
)
_SCALE_WORDS = "hundred|thousand|million|billion|trillion"
_NO_UNIT = re.compile(rf"[\\+*×÷=<>^±√∛∜π∞≈≠≤≥]|\b(?:{_SCALE_WORDS})\b", re.IGNORECASE)
# A word for a number behind the first word, as in `3 hours twenty minutes`, unless that word is a preposition.
_COUNT_BEHIND_UNIT = (
    r"(?!(?:in|per|each|every|of|for|within|over|by|after|before|with|at|on|from|to|during|is|are|was|were|out|and|as"
    rf"|because|since|so)\b)[a-z]+ (?!half|hundred){_COUNT}(?!{_IN_UNIT})"
)
_CHANGED_AT_ONCE = re.compile(
    rf"[\W_]*(?:[a-z]+ )?(?:times|minus|plus|divided by|multiplied by) {_FURTHER}"
    rf"| ?(?:{_VALUE}|(?:to|over|by|point) (?:the )?(?:{_FURTHER}|power\b)|{_COUNT_BEHIND_UNIT})"
    rf"| ?\((?:(?:one|{'|'.join((*_NUMBER_WORDS, *_PARTS))})\b[ -]?){{1,9}}\)",
    re.IGNORECASE,
)
_AND = re.compile(rf"[ ,]*{_SECOND_PART.pattern}", re.IGNORECASE)
# What may be right or wrong in a remark is no verdict on the number: `36 people who are not`, `60, because he is not`.
_REASON = re.compile(r"\b(?:because|since|due to|given that|so that)\b", re.IGNORECASE)
_RELATIVE = re.compile(r"(?<=[a-z] )(?:who|whom|whose|which|that|where|when|while)\b[^,.;:!?()]*", re.IGNORECASE)
_BRACKETS = re.compile(r"(?<=[a-z] )\((?!not\b|no\b|wrong|incorrect|or (?:not|maybe|perhaps)\b)[^()]*\)", re.IGNORECASE)
_NEGATION = r"(?:not|never|cannot|[a-z]+n't)\b"
_FALSE = r"(?:wrong|incorrect|false|invalid|impossible)\b"
_BE = r"(?:is|are|was|were|be|seems?|looks?|would|could|should|must|may|might|can|do|does|did|has|have|[a-z]+n't)\b"
_RIGHT = (
    r"(?:right|correct|true|possible|valid|sure|certain|confident|it(?=[\W_]*$)|(?:the |my |an? )?(?:final )?answer)\b"
)
_DOUBTED = re.compile(
    rf"^ ?(?:{_BE} )*(?:{_NEGATION}|{_FALSE}(?=[\W_]*$|[,.;:!?)])|or\b|no\b(?![- ]\w)|wait\b|actually\b)"
    rf"|[,;:!?(–—]\W{{0,9}}(?:(?:but|and|well|or|oh) )?(?:{_NEGATION}|{_FALSE})"
    rf"|[,.;:!?(–—]\W{{0,9}}(?:(?:but|and|well|or|oh) )?(?:no\b(?![ -](?:more|less|fewer|doubt|other|one"
    rf"|need)\b)(?!-\w)|(?:wait|actually)\b)"
    rf"|^[^.;!?]*\b{_NEGATION} (?:\w+ ){{0,2}}{_RIGHT}"
    rf"|\b(?:is|are|was|were|be|seems?|looks?) (?:\w+ ){{0,2}}{_FALSE}(?! to\b)"
    rf"|\b{_FALSE}(?=[\W_]*$|\W*[,.;:!?)])"
    r"|(?:^[^,.;:!?(]*\b|[,(] ?)(?:or|but) (?:(?:maybe|perhaps|possibly|probably|even|about|around|rather|an?"
    r"|it|they|that|could|may|might|be) )*"
    rf"(?:{_VALUE}|(?:so|more|less|fewer|one|not|maybe|perhaps|possibly|even|rather|something|another)\b(?!{_IN_UNIT}))"
    r"|\bor[\W_]*$",
    re.IGNORECASE,
)
# What changes the value where it follows the number at once: `8!`, `5k`, `2x`, `3 bn`, `5 squared`. One letter may be
# a unit such as m or C, an article (`5 a day`), or the beginning of a word (`2 T-shirts`). Every other one may be a
# variable or a scale.
_NO_UNIT_AT_ONCE = re.compile(
    r" ?(?:!|-|[·⋅∙]|(?i:and|squared|cubed|mil|mio|mn|mln|bn|tn)\b"
    r"|/? ?(?![mgshlpcdLCFVWJNA]\b|[aA] [a-z]{2})[A-Za-zα-ωΑ-Ψ](?![A-Za-z]|['’.][A-Za-z]|-[A-Za-z]{2}))"
)
_CHANGED = re.compile(rf"(?:{_VALUE})|[π²³]|{_SECOND_PART.pattern}", re.IGNORECASE)
_POWERS = re.compile(
    r"\b(?:[cdkm]?m|ft|in|yd|mi|inch(?:es)?|feet|foot|(?:yard|mile|met(?:er|re)|unit)s?)\^?[23]\b"
    r"|(?<=[^\W\d_])⁻?[¹²³]",
    re.IGNORECASE,
)
_SCALE = re.compile(r" ?(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_ASCII = str.maketrans(
    dict.fromkeys("−‐‑‒–﹣－", "-")
    | dict.fromkeys("⁄∕", "/")
    | {"，": ",", "．": ".", "％": "%", "＄": "$"}
    # without the space, 1½ would read as 11/2
    | {sign: " " + unicodedata.normalize("NFKC", sign).replace("⁄", "/") for sign in _VULGAR}
)
# Narrow spaces and LaTeX separators between thousands. An ordinary space separates words and does not count.
THOUSANDS = re.compile(r"(?<=\d)(?:\u2009|\u202f|\{,\}|\\,)(?=\d{3})")
# LaTeX around a number and its unit: delimiters, escaped signs, spaces, degrees, and words set as text.
_FROM_LATEX = (
    (re.compile(r"\\\\\s*$"), ""),  # a line break at the end
    (re.compile(r"(?<!\\)\\([$%])"), r"\1"),
    (re.compile(r"(?<!\\)\\(?:[()\[\]]|[,;: ]|q?quad(?![A-Za-z]))"), " "),
    (re.compile(r"\^ ?\{ ?\\circ ?\}|\^ ?\\circ(?![A-Za-z])|\\degree(?![A-Za-z])"), "°"),
    (re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname) ?\{([^{}\\]*)\}"), r" \1 "),
)
# Brackets around the whole number, with nothing but punctuation, a percent or a dollar sign behind them.
_ENCLOSED = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}]([.,;:*_ %$]*)")
_UNIT_NAMES = {
    "dollar": "$", "usd": "$", "us$": "$", "euro": "€", "eur": "€", "pound": "£", "gbp": "£",
    "percent": "%", "percentage": "%", "rs.": "rs", "rupee": "rs", "inr": "rs", "₹": "rs",
}  # fmt: skip


def normalise_number(text: str) -> Fraction | None:
    """The exact value of a number as written; None if `text` is not one number with at most a unit after it.

    Reads signs, thousands commas, decimals, `3/4`, `1 1/2`, `1e3`, `3 x 10^5`, `2.5 million`, `(36)`. A
    currency sign, a percent sign and words after the number are units and do not change the value: `50%` is 50.
    Text that changes the value or names another one makes it no number: `2 thirds`, `5 hours and a half`, `8!`.
    """
    quantity = read_quantity(text)
    return None if quantity is None else quantity.value


def read_quantity(text: str) -> Quantity | None:
    """The exact value of a number with its unit, or None; reads what `normalise_number` reads."""
    text = THOUSANDS.sub(",", text.translate(_ASCII).replace("\\!", ""))
    if "\\" in text:
        for pattern, replacement in _FROM_LATEX:
            text = pattern.sub(replacement, text)
    text = " ".join(text.split()).strip("*_`'\" ").removeprefix("=").lstrip()
    if enclosed := _ENCLOSED.fullmatch(text):
        text = enclosed[1].strip() + enclosed[2]
    match = _NUMBER.match(text)
    if match is None or (match["sign"] and match["inner_sign"]):
        return None
    value = _mixed(match["whole"], match["top"], match["bottom"]) if match["top"] else _decimal(match)
    negative = "-" in (match["sign"], match["inner_sign"])
    if value is None:
        return None
    rest = text[match.end() :]
    if scale := _SCALE.match(rest):
        value *= _SCALES[scale[1].lower()]
        rest = rest[scale.end() :].lstrip("!")
    if changes_value(rest):
        return None
    if max(abs(value.numerator), value.denominator) > _MAX_VALUE:
        return None
    return Quantity(-value if negative else value, _unit(match["currency"] or "", rest))


def changes_value(tail: str) -> bool:
    """True if text behind a number does more than name a unit: `2 thirds`, `3 or four`, `10⁵`, `2π`, `8!`, `5k`."""
    tail = _POWERS.sub("", tail)
    if _NO_UNIT_AT_ONCE.match(tail) or _CHANGED_AT_ONCE.match(tail) or _NO_UNIT.search(tail):
        return True
    if any(map(str.isnumeric, tail)):  # digits of any script, superscripts and signs such as ½ and Ⅳ
        return True
    tail = _RELATIVE.sub("", _BRACKETS.sub("", _REASON.split(tail, maxsplit=1)[0]))
    return _AND.match(tail) is not None or _DOUBTED.search(tail) is not None


def begins_with_value(tail: str, *, second: bool = False) -> bool:
    """True if the first words of a tail change the value before it: `thirds`, `hours and a half`, `π`.

    `second`: only a further part behind `and` counts.
    """
    tail = " ".join(tail.split()[:6])
    return (_SECOND_PART if second else _CHANGED).match(tail) is not None


def _unit(currency: str, rest: str) -> str:
    """The unit in one spelling: lower case, singular, without spaces."""
    unit = f"{currency}{rest[:100]}".lower().strip(" .,;:!*_`'\"")
    unit = "".join(unit.split())
    if unit.endswith("s") and len(unit) > 2:
        unit = unit[:-1]
    return _UNIT_NAMES.get(unit, unit)


def _mixed(whole: str | None, top: str, bottom: str) -> Fraction | None:
    units, numerator, denominator = _integer(whole or "0"), _integer(top), _integer(bottom)
    if units is None or numerator is None or not denominator:
        return None
    return units + Fraction(numerator, denominator)


def _decimal(match: re.Match[str]) -> Fraction | None:
    decimals, exponent = match["decimals"] or "", match["exponent"] or match["power"] or "0"
    if not (match["integer"] or decimals) or len(decimals) > _MAX_DIGITS or len(exponent) > 4:
        return None
    integer, shift = _integer(match["integer"] or "0"), int(exponent)
    if integer is None or abs(shift) > _MAX_DIGITS:
        return None
    return (integer + Fraction(int(decimals or "0"), 10 ** len(decimals))) * Fraction(10) ** shift


def _integer(text: str) -> int | None:
    """An unsigned integer with or without thousands commas; None for other commas, as `1,5` could be 15 or 1.5."""
    first, *groups = text.split(",")
    if len(text) > _MAX_DIGITS or any(len(group) != 3 for group in groups) or (groups and len(first) > 3):
        return None
    return int(text.replace(",", ""))


def format_number(value: Fraction) -> str:
    """The one spelling of a value: `18`, `-2.5`, or `1/3` if no decimal is exact. `normalise_number` reads it back."""
    if value.denominator > 1:
        decimal = Context(prec=_MAX_DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator))
        text = format(decimal, "f")
        if Fraction(decimal) == value and len(text) <= _MAX_DIGITS:
            return text
    return str(value)


def numbers_equal(left: str, right: str) -> bool:
    """True if `normalise_number` reads exactly the same value from both texts: `0.33` is not `1/3`."""
    value = normalise_number(left)
    return value is not None and value == normalise_number(right)


# A minus after an operand is an operator and no sign: in `10 - 4` and `3-4` the 4 is positive.
_ANYWHERE = re.compile(
    rf"""
    (?:(?<![\w)\]}}.])(?<![\d)\]}}]\ )-\ ?)?
    (?:[{_SIGNS}]\ ?)?
    (?:
        (?:\d+\ )?\d+\ ?/\ ?\d+
      | (?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?
    )
    (?:\ ?(?:thousand|million|billion|trillion)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def last_number(text: str) -> Fraction | None:
    """The last number anywhere in a text, or None: 6 in `10 - 4 = 6, so 6 eggs`."""
    text = THOUSANDS.sub(",", text.translate(_ASCII).replace("\\!", ""))
    for written in reversed([match[0] for match in _ANYWHERE.finditer(text)]):
        for part in (written, written.rstrip(",.").rpartition(",")[2]):
            if (value := normalise_number(part)) is not None:
                return value
    return None
