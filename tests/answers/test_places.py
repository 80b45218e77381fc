"""Where the answer stands: what is marked must be what the reader of answers depends on."""

from __future__ import annotations

import pytest

from aft.answers import extract_boxed, extract_choice, extract_number, extract_text, place_of_answer

OPTIONS = ("red", "dark blue", "12 m")
NUMBERS = [
    ("2 + 2 is 4, and so [ANS] 4", "4"),
    ("[ANS] 3 was wrong. [ANS]: **1,204 apples**.", "1,204"),
    ("[ANS] $12.50.", "12.50"),
    ("36 and 36. [ANS] -36", "-36"),
    ("14 [ANS] 14\nThat is 14.", "14"),
    ("[ANS] 3/4", "3/4"),
    ("[ANS] \\boxed{120}", "120"),
]
CHOICES = [("A or B? [ANS] (B)", "B"), ("A [ANS] The answer is C.", "C"), ("red? [ANS] dark blue", "dark blue")]
TEXTS = [("yes [ANS] New  York City.", "New  York City"), ("[ANS] café", "café")]
BOXES = [("Then \\boxed{7} or \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"), ("So $\\boxed 5$", "5")]


def readers():
    for texts, read in (
        (NUMBERS, lambda text: extract_number(text, "[ANS]")),
        (CHOICES, lambda text: extract_choice(text, "[ANS]", OPTIONS)),
        (TEXTS, lambda text: extract_text(text, "[ANS]")),
        (BOXES, extract_boxed),
    ):
        for text, marked in texts:
            yield pytest.param(text, marked, read, id=text)


@pytest.mark.parametrize(("text", "marked", "read"), list(readers()))
def test_the_answer_is_marked_where_it_was_read(text, marked, read):
    answer = read(text).answer
    assert answer is not None
    begin, end = place_of_answer(text, answer, ["[ANS]"])
    assert text[begin:end].strip("$.") == marked.strip("$.")
    # another text in its place is another answer
    assert read(f"{text[:begin]}901{text[end:]}").answer != answer


def test_an_article_is_no_choice():
    assert place_of_answer("[ANS] As a fruit, A", "A", ["[ANS]"]) == (18, 19)


def test_without_a_marker_the_last_place_counts():
    assert place_of_answer("12 and 7 make 19, not 12; 19.", "19", ["####"]) == (26, 28)
    assert place_of_answer("the answer is B", "b", []) == (14, 15)
    assert place_of_answer("A: it is a fruit.", "A", []) == (0, 1)
    assert place_of_answer("nothing here", "12", ["[ANS]"]) is None
    assert place_of_answer("", "", []) is None and place_of_answer("", None, [""]) is None


def test_an_answer_that_is_not_known_is_what_follows_the_marker():
    text = "[ANS]: **42 eggs**.\nDone."
    begin, end = place_of_answer(text, None, ["[ANS]"])
    assert text[begin:end] == "42 eggs"
    assert place_of_answer("no marker 42", None, ["[ANS]"]) is None


def test_a_long_text_of_markers_takes_no_time():
    assert place_of_answer("[ANS] 1 " * 20_000, "1", ["[ANS]"]) == (159_998, 159_999)
    assert place_of_answer("\\boxed{" * 20_000, "1", ["[ANS]"]) is None
