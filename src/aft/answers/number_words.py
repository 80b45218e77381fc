"""English number words, read only if asked: `eighteen`, `one hundred and twenty thousand`, `minus two point five`."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_SMALL_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TENS_WORDS.split(), start=2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_BELOW_HUNDRED = {**_SMALL, **_TENS}
_MULTIPLIERS = {"hundred", *SCALES}
_VALUES = {*_BELOW_HUNDRED, *_MULTIPLIERS}
_PARTS = {"half", "halves", "third", "thirds", "quarter", "quarters", "point"}
_WORD = re.compile(r"[ -]*([A-Za-z]+)")


def read_number_words(text: str) -> tuple[Fraction, int] | None:
    """The value of the number words that `text` begins with, and where they end; None where it begins with none.

    Words that make no number together (`twenty thirteen`, `two three`) are none. What follows is the caller's to judge.
    """
    words = _leading_words(text)
    sign = 1
    if words and words[0][0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    value, used = _cardinal([word for word, _ in words])
    if value is None:
        return None
    result = Fraction(value)
    if used + 1 < len(words) and words[used][0] == "point":
        digits = 0
        for word, _ in words[used + 1 :]:
            if _SMALL.get(word, 10) > 9:
                break
            digits += 1
            result += Fraction(_SMALL[word], 10**digits)
        used += 1 + digits if digits else 0
    return sign * result, words[used - 1][1]


def has_number_word(text: str) -> bool:
    """Whether a number word stands in a text, halves and quarters included."""
    return any(word in _VALUES or word in _PARTS for word in re.findall(r"[a-z]+", text.lower()))


def _leading_words(text: str, most: int = 60) -> list[tuple[str, int]]:
    """The first words, in lower case, each with its end; no number that is meant has more than `most`."""
    words: list[tuple[str, int]] = []
    end = 0
    while len(words) < most and (match := _WORD.match(text, end)):
        end = match.end()
        words.append((match[1].lower(), end))
    return words


def _cardinal(words: list[str]) -> tuple[int | None, int]:
    """The whole number that `words` begin with, and of how many words it is made."""
    total, current, least_scale = 0, None, 10**15
    position = 0
    for position, word in enumerate([*words, ""]):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word in _BELOW_HUNDRED:
            value = _BELOW_HUNDRED[word]
            if current is not None and not _continues(current, value):
                return None, 0
            current = value + (current or 0)
        elif word == "hundred" and current and current < 100:
            current *= 100
        elif word in SCALES and current and SCALES[word] < least_scale:
            total, current, least_scale = total + current * SCALES[word], None, SCALES[word]
        elif word in ("a", "an") and position == 0 and following in _MULTIPLIERS:
            current = 1
        elif not (word == "and" and position and words[position - 1] in _MULTIPLIERS and following in _BELOW_HUNDRED):
            break
    return (total + (current or 0), position) if position else (None, 0)


def _continues(current: int, value: int) -> bool:
    """Whether `value` may be said after `current`: five after twenty or a hundred, twenty after a hundred only."""
    if not value or not current:
        return False
    return current % 100 == 0 if value >= 10 else current % 10 == 0 and current % 100 != 10
