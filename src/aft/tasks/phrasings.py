"""Writes problems of the arithmetic world as questions and reads them back, in two phrasings."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .generated import split_options

PLAIN, OTHER = "plain", "other"
PHRASINGS = (PLAIN, OTHER)
WORDS = {PLAIN: ("has", ".", "how", "many", "?"), OTHER: ("how", "many", "has", "?", "first", ",", "then", ".")}

_FORMS = (
    re.compile(r"\S+ has (?P<start>\d+) \S+ \.(?P<told>(?: \S+ \d+ \.)*) how many \?"),
    re.compile(r"how many \S+ has \S+ \? first (?P<start>\d+)(?P<told>(?: , then \S+ \d+)*) \."),
)
_STATEMENT = re.compile(r"(\S+) (\d+)")


def write_question(phrasing: str, name: str, thing: str, start: int, told: Iterable[tuple[str, int]]) -> str:
    """Plain: `Eve has 47 apples . rep 19 . how many ?`. Other: `how many apples has Eve ? first 47 , then rep 19 .`"""
    if phrasing == PLAIN:
        sentences = [f"{name} has {start} {thing} .", *(f"{word} {operand} ." for word, operand in told)]
        return " ".join([*sentences, "how many ?"])
    parts = [f"first {start}", *(f"then {word} {operand}" for word, operand in told)]
    return f"how many {thing} has {name} ? {' , '.join(parts)} ."


def read_question(text: str) -> tuple[int, list[tuple[str, int]]] | None:
    """The first value and each (word, operand) of a question in any phrasing. None if the text is no question."""
    stem, _ = split_options(text)
    for form in _FORMS:
        if match := form.fullmatch(stem):
            told = [(word, int(operand)) for word, operand in _STATEMENT.findall(match["told"])]
            return int(match["start"]), told
    return None
