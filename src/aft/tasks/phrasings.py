"""Writes problems of the arithmetic world as questions and reads them back, in three phrasings.

Plain and other use the world's invented verbs. English uses verbs that a pretrained model knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .generated import split_options

PLAIN, OTHER, ENGLISH = "plain", "other", "english"
PHRASINGS = (PLAIN, OTHER)
WORDS = {PLAIN: ("has", ".", "how", "many", "?"), OTHER: ("how", "many", "has", "?", "first", ",", "then", ".")}

# operation -> its verbs in English, most frequent first. `{}` is the operand.
ENGLISH_VERBS = {
    "+": ("finds {} more", "buys {} more", "gets {} more", "wins {} more", "makes {} more", "borrows {} more"),
    "-": ("gives away {}", "loses {}", "sells {}", "breaks {}", "throws away {}", "uses up {}"),
    "*": ("then has {} times as many",),
    "/": ("puts them into {} equal piles and keeps one pile",),
}

_ENGLISH = re.compile(
    r"(?P<name>\S+) has (?P<start>\d+) (?P<thing>\S+)\. (?P<told>.*)How many (?P=thing) does (?P=name) have now\?"
)
_FORMS = (
    re.compile(r"\S+ has (?P<start>\d+) \S+ \.(?P<told>(?: \S+ \d+ \.)*) how many \?"),
    re.compile(r"how many \S+ has \S+ \? first (?P<start>\d+)(?P<told>(?: , then \S+ \d+)*) \."),
)
_STATEMENT = re.compile(r"(\S+) (\d+)")


def write_question(phrasing: str, name: str, thing: str, start: int, told: Iterable[tuple[str, int]]) -> str:
    """Plain: `Eve has 47 apples . rep 19 . how many ?`. Other: `how many apples has Eve ? first 47 , then rep 19 .`

    English: `Eve has 47 apples. Eve loses 19. How many apples does Eve have now?`
    """
    if phrasing == ENGLISH:
        sentences = [f"{name} has {start} {thing}.", *(f"{name} {word.format(operand)}." for word, operand in told)]
        return " ".join([*sentences, f"How many {thing} does {name} have now?"])
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
    if match := _ENGLISH.fullmatch(stem):
        told = []
        for sentence in filter(None, match["told"].split(". ")):
            words = sentence.removeprefix(f"{match['name']} ")
            found = re.search(r"\d+", words)
            if found is None:
                return None
            told.append((words.replace(found[0], "{}", 1), int(found[0])))
        return int(match["start"]), told
    return None


def english_chain(chain: str) -> str:
    """A chain as English sentences: `47 - 19 = 28 . so 28 + 4 = 32 .` is `47 - 19 = 28. So 28 + 4 = 32.`"""
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in chain.removesuffix(" .").split(" . "))
