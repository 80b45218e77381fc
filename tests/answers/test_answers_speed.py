"""No text, however long or hostile, holds an extractor up: time grows with its length, where backtracking explodes.

Only the processor's time counts, and it is compared with other work of the same process, so a busy or slow machine
changes nothing. The bounds lie between linear growth and worse.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from aft.answers import (
    extract_boxed,
    extract_choice,
    extract_number,
    extract_text,
    lenient_answer,
    normalise_latex,
)
from aft.grading import grade
from aft.records import Completion, Question

OPTIONS = ("$8.75", "the park", "the big park", "None of these", "5√3")
EXTRACTORS = {
    "text": lambda completion: extract_text(completion, "[ANS]"),
    "number": lambda completion: extract_number(completion, "[ANS]"),
    "choice": lambda completion: extract_choice(completion, "[ANS]", OPTIONS),
    "boxed": extract_boxed,
    "latex": normalise_latex,
    "audit, number": lambda completion: lenient_answer(completion, "5"),
    "audit, choice": lambda completion: lenient_answer(completion, "B", OPTIONS),
    "audit, latex": lambda completion: lenient_answer(completion, "\\pi"),
}
# what patterns backtrack over: pieces of numbers, lists, letters, words, markers and LaTeX that never come to an end
NUMBERS = (
    "1|1,|1,111|1.|1e|1/|e|.|,|-|+|$|½|１|1 |1 1/|1/1 |$1$ |- 1|5 m2 |m^2-|x=|x = |=|<<1=1>>|one |one-|and |million "
)
LETTERS = "a|A|A |A,|A/|(A|(B) |B or |İ|ﷺ|the |is |the answer is |answer: |option |park |the big |none of |not |'|’"
MARKUP = "[ANS]|[|####|A:|*|**|{|}|(1 |√(|sqrt(| |\n|\x00|\u2009|\ud800"
LATEX = (
    r"\boxed|\boxed{|\boxed{5}|\text{|\frac|\frac1|\frac{1}{|\frac{1}|\sqrt|\sqrt{|\left(|\|\!|\,|^\circ|^{2}|\cdot "
)
PIECES = [piece for pieces in (NUMBERS, LETTERS, MARKUP, LATEX) for piece in pieces.split("|")]
CONTEXTS = [("", ""), ("[ANS] 5 ", "6"), ("[ANS] (B) ", ""), ("[ANS] \\boxed{", "}")]


def slowest(extract, size):
    """Processor seconds for the slowest text of `size` characters with that text, and for all texts together."""
    worst, total = (0.0, ""), 0.0
    for piece in PIECES:
        for before, after in CONTEXTS:
            text = before + piece * (size // len(piece)) + after
            started = time.thread_time()
            extract(text)
            taken = time.thread_time() - started
            worst, total = max(worst, (taken, text)), total + taken
    return worst, total


def processor_seconds(run):
    """The best of five: whatever disturbs a measurement makes it longer."""
    times = []
    for _ in range(5):
        started = time.thread_time()
        run()
        times.append(time.thread_time() - started)
    return min(times)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_no_text_takes_much_longer_than_a_loop_over_its_characters(name):
    (_, text), _ = slowest(EXTRACTORS[name], 10_000)
    loop = processor_seconds(lambda: [hash(character) for character in text])
    assert processor_seconds(lambda: EXTRACTORS[name](text)) < 1000 * loop, ascii(text[:60])


@pytest.mark.parametrize("name", EXTRACTORS)
def test_time_grows_with_length_alone(name):
    """Eight times the length takes about eight times as long; quadratic would be sixty-four times."""
    ratios = []
    for _ in range(3):
        _, small = slowest(EXTRACTORS[name], 1000)
        _, large = slowest(EXTRACTORS[name], 8000)
        ratios.append(large / small)
        if ratios[-1] < 24:
            return
    assert min(ratios) < 24


LONG = 400_000  # characters; what is quadratic takes minutes to hours for a text as long as this
SHAPES = (
    "x", "1", "1,", "1 ", " ", "!", "'", "\"", "*", "(", ")", "[", "{", "}", "\\", "\\\\", "\\\\ ", "\\\\[",
    "$", ":", "**: ", ".5", "8!", "A", "A ", "A or ", "(A) ", "a) ", "no, ", "not ", "because ",
    "or the park ", "the park or ", "one ", "and a ", "thousand ", "²", "⁻", "π", "\\boxed", "\\boxed{",
    "\\boxed(", "\\boxed\\left", "\\boxed\\frac{", "\\text{", "\\text{a} ", "5\\text{ m}", "\\frac{1}",
    "\\frac{", "40, ", "40,200, ", "\"'", "'!", "no. ", "n't", "x's", "(a", "- ", "A - ", "1/", "1 1/2 ",
)  # fmt: skip
BEFORE = ("", "[ANS] ", "[ANS] 5 ", "[ANS] (B) ", "[ANS] B ", "\\boxed")


ALL = [*EXTRACTORS, "grading, number", "grading, choice"]


def read(name, shapes):
    """Reads texts of LONG characters. No time is measured: quadratic patterns do not come to an end."""
    extract = EXTRACTORS.get(name) or graded(name)
    for number, shape in enumerate(shapes):
        extract(BEFORE[number % len(BEFORE)] + shape * (LONG // len(shape)))


@pytest.mark.parametrize("name", ALL)
def test_a_long_text_is_read_to_its_end(name):
    read(name, ("x", "1 ", "(", "\\\\ "))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_long_texts_of_every_shape_are_read_to_their_end(name):
    read(name, SHAPES)


def graded(name):
    """The verdict on a truncated completion, with a task that reads numbers or choices."""
    reads = EXTRACTORS[name.removeprefix("grading, ")]
    task = SimpleNamespace(extract_answer=lambda text, question: reads(text), is_correct=lambda answer, question: True)
    return lambda text: grade(task, Completion("q", 0, text, True, num_tokens=1, seed=0), Question("q", "?", "5"))
