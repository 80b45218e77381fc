"""Numbers as answers: read exactly (`Fraction`), written in one way, compared by value."""

from __future__ import annotations

import re
import unicodedata
from decimal import Context, Decimal
from fractions import Fraction

from .markers import Extraction, extract_after_marker

NOT_A_NUMBER = "no number after the marker"


def extract_number(completion: str, marker: str) -> Extraction:
    """As `extract_after_marker`, for a numeric answer: `format_number` of it, so that equal answers are equal texts."""
    extraction = extract_after_marker(completion, marker)
    if extraction.answer is None:
        return extraction
    value = normalise_number(extraction.answer)
    return Extraction(None, NOT_A_NUMBER) if value is None else Extraction(format_number(value), None)


# Bounds far beyond any answer, so that `1e999999999` or an endless loop of digits costs nothing. They stay below
# 640 digits, the least limit that Python lets a program set for turning text into integers.
_MAX_DIGITS = 200  # of one written number; also the longest decimal that format_number writes
_MAX_VALUE = 10**100  # of numerator and denominator

_CURRENCY = "".join(chr(code) for code in range(0x20A0, 0x20C1)) + "$¢£¤¥"
_INTEGER = r"\d+(?:,\d+)*"  # whether the commas stand where thousands do is checked afterwards
_NUMBER = re.compile(
    rf"""
    (?P<sign>[+-])?\ ?
    (?:[A-Z]{{0,3}}[{_CURRENCY}]\ ?)?       # $, US$
    (?P<inner_sign>[+-])?\ ?                # $-5
    (?:
        (?:(?P<whole>{_INTEGER})\ )?(?P<top>{_INTEGER})\ ?/\ ?(?P<bottom>{_INTEGER})
      | (?P<integer>{_INTEGER})?(?:\.(?P<decimals>\d*))?
        (?:[eE](?P<exponent>[+-]?\d+)|\ ?[x×*]\ ?10\ ?\^\ ?(?P<power>[+-]?\d+))?
    )
    """,
    re.VERBOSE,
)
# What may not follow the number: further digits or arithmetic make it an expression, "and a half" makes it a mixed
# number in words. Anything else is a unit.
_NO_UNIT = re.compile(r"\d|[+*×÷=<>^±√]|^ ?(?:-|and\b)")
_SCALE = re.compile(r" ?(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_ASCII = str.maketrans(
    dict.fromkeys("−‐‑‒–﹣－", "-")
    | dict.fromkeys("⁄∕", "/")
    # the space keeps 1½ from reading as 11/2
    | {sign: " " + unicodedata.normalize("NFKC", sign).replace("⁄", "/") for sign in _VULGAR}
)


def normalise_number(text: str) -> Fraction | None:
    """The exact value of a written number; None where `text` is not one number with at most a unit behind it.

    Reads signs, thousands commas, decimals, `3/4`, `1 1/2`, `1e3`, `3 x 10^5`, `2.5 million`. A currency sign, a
    percent sign and words behind the number are units and do not change it: `50%` is 50.
    """
    text = " ".join(text.translate(_ASCII).split()).strip("*_`'\" ")
    match = _NUMBER.match(text)
    if match is None or (match["sign"] and match["inner_sign"]):
        return None
    value = _mixed(match["whole"], match["top"], match["bottom"]) if match["top"] else _decimal(match)
    rest = text[match.end() :]
    if value is None or _NO_UNIT.search(rest):
        return None
    if scale := _SCALE.match(rest):
        value *= _SCALES[scale[1].lower()]
    if max(abs(value.numerator), value.denominator) > _MAX_VALUE:
        return None
    return -value if "-" in (match["sign"], match["inner_sign"]) else value


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
    """An unsigned integer with or without thousands commas; None for commas elsewhere: `1,5` could be 15 or 1.5."""
    first, *groups = text.split(",")
    if len(text) > _MAX_DIGITS or any(len(group) != 3 for group in groups) or (groups and len(first) > 3):
        return None
    return int(text.replace(",", ""))


def format_number(value: Fraction) -> str:
    """One text per value, which `normalise_number` reads back: `18`, `-2.5`, and `1/3` where no decimal is exact."""
    if value.denominator > 1:
        decimal = Context(prec=_MAX_DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator))
        text = format(decimal, "f")
        if Fraction(decimal) == value and len(text) <= _MAX_DIGITS:
            return text
    return str(value)


def numbers_equal(left: str, right: str) -> bool:
    """Whether both texts are numbers (`normalise_number`) of exactly the same value: `0.33` is not `1/3`."""
    value = normalise_number(left)
    return value is not None and value == normalise_number(right)
