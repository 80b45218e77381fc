"""The chosen option out of a completion: by letter, by text, by value, or a reason why nobody can know."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.answers import (
    AMBIGUOUS,
    CONTRADICTION,
    LETTERS,
    NO_MARKER,
    NO_TEXT,
    NOT_AN_OPTION,
    SAME_TEXT,
    Extraction,
    extract_choice,
    lenient_answer,
)
from aft.errors import ConfigError

REASONS = (AMBIGUOUS, CONTRADICTION, NO_MARKER, NO_TEXT, NOT_AN_OPTION, SAME_TEXT)
PLACES = ("park", "movie theatre", "the big park", "country", "None of these")
PRICES = ("$8.75", "$9.25", "$17.50", "$1,875", "50%")
LENGTHS = ("1hours", "2hours", "175 minutes", "60minutes", "5√3 cm")
ROOTS = ("5(√3 + 1)", "2x", "10π", "x + y", "1/18")
REPEATED = ("8.75", "8.79", "8.75", "country", "country")
VERTICES = ("K", "L", "B", "C", "D")
SIGNS = ("20%", "0%", "-10%", "-20%", "-25%")
LOGIC = ("I only", "II only", "III only", "I and II only", "I, II and III")
ROOMS = ("bank", "library", "department store", "attic", "cupboard")
SHOPS = ("bank", "library", "department store", "mall", "new york")
NEGATED = ("not far", "home", "None", "black or white", "cannot be determined")
SIGNED = ("9", "-9", ".5", "5", "8!")
TAILED = ("8", "40320", "5", "0.5", "2π")
LISTED = ("11/2", "3/2", "40,200", "12", "40, 200")
PAIRS = ("A and B only", "A and C only", "B and C only", "A, B and C", "none")

# what stands behind the marker, the options, and the letter that it gives (or why it gives none)
CHOICES = [
    # by letter
    ("B", PLACES, "B"),
    ("b", PLACES, "B"),
    ("(B)", PLACES, "B"),
    ("( B )", PLACES, "B"),
    ("(b)", PLACES, "B"),
    ("[B]", PLACES, "B"),
    ("{B}", PLACES, "B"),
    ("B)", PLACES, "B"),
    ("b)", PLACES, "B"),
    ("B.", PLACES, "B"),
    ("(B).", PLACES, "B"),
    ("**B**", PLACES, "B"),
    ("**(B)**", PLACES, "B"),
    ("'B'", PLACES, "B"),
    ("$B$", PLACES, "B"),
    ("\\boxed{B}", PLACES, "B"),
    ("$\\boxed{\\text{(B)}}$", PLACES, "B"),
    ("\\(B\\)", PLACES, "B"),
    ("option B", PLACES, "B"),
    ("Option B.", PLACES, "B"),
    ("option b", PLACES, "B"),
    ("choice (B)", PLACES, "B"),
    ("Answer: B", PLACES, "B"),
    ("the answer is B", PLACES, "B"),
    ("The correct answer is (B).", PLACES, "B"),
    ("So the final answer is option B", PLACES, "B"),
    ("It's B", PLACES, "B"),
    ("I think B", PLACES, "B"),
    ("I would go with option (B) here", PLACES, "B"),
    ("B is correct", PLACES, "B"),
    ("B because people go there", PLACES, "B"),
    ("B, since the others are wrong", PLACES, "B"),
    ("A", PLACES, "A"),
    ("(A)", PLACES, "A"),
    ("E", PLACES, "E"),
    # a letter and its text
    ("(B) movie theatre", PLACES, "B"),
    ("B. movie theatre", PLACES, "B"),
    ("B: Movie Theatre", PLACES, "B"),
    ("B - movie theatre", PLACES, "B"),
    ("B movie theatre", PLACES, "B"),
    ("(B) a movie theatre, of course", PLACES, "B"),
    ("(D) $1,875", PRICES, "D"),
    ("(D) 1875", PRICES, "D"),
    ("(D) -20%", SIGNS, "D"),
    ("A) 8.75", REPEATED, "A"),
    ("C) 8.75", REPEATED, "C"),
    ("(C) B", VERTICES, "C"),
    # letter and text of different options
    ("(A) movie theatre", PLACES, CONTRADICTION),
    ("A. $9.25", PRICES, CONTRADICTION),
    ("B 8.75", PRICES, CONTRADICTION),
    # by text
    ("movie theatre", PLACES, "B"),
    ("Movie theatre.", PLACES, "B"),
    ("MOVIE  THEATRE", PLACES, "B"),
    ("the movie theatre", PLACES, "B"),
    ("a movie theatre", PLACES, "B"),
    ('"movie theatre"', PLACES, "B"),
    ("The answer is movie theatre.", PLACES, "B"),
    ("A park", PLACES, "A"),
    ("a park", PLACES, "A"),
    ("park", PLACES, "A"),
    ("the big park", PLACES, "C"),
    ("big park", PLACES, "C"),
    ("the big park, where people walk", PLACES, "C"),
    ("a country", PLACES, "D"),
    ("A country", PLACES, "D"),
    ("None of these", PLACES, "E"),
    ("none of the above", PLACES, "E"),
    ("None", PLACES, "E"),
    ("they go to a movie theatre", PLACES, "B"),
    ("parking", PLACES, NOT_AN_OPTION),
    ("theatre", PLACES, NOT_AN_OPTION),
    ("school", PLACES, NOT_AN_OPTION),
    ("not the park", PLACES, NOT_AN_OPTION),
    ("it isn't the park", PLACES, NOT_AN_OPTION),
    ("park or country", PLACES, AMBIGUOUS),
    ("the park, not the country", PLACES, AMBIGUOUS),
    ("school or park", PLACES, AMBIGUOUS),
    ("country", REPEATED, SAME_TEXT),
    ("II only", LOGIC, "B"),
    ("I and II only", LOGIC, "D"),
    ("I, II and III", LOGIC, "E"),
    ("I only", LOGIC, "A"),
    ("the answer is II only", LOGIC, "B"),
    ("B and C only", PAIRS, "C"),
    ("K", VERTICES, "A"),
    ("vertex K", VERTICES, "A"),
    # "B" is the letter of L and the text of C: nobody knows
    ("B", VERTICES, CONTRADICTION),
    ("(B)", VERTICES, "B"),
    ("option B", VERTICES, "B"),
    # by value
    ("8.75", PRICES, "A"),
    ("$8.75", PRICES, "A"),
    ("$8.750", PRICES, "A"),
    ("8.75 dollars", PRICES, "A"),
    ("35/4", PRICES, "A"),
    ("8 3/4", PRICES, "A"),
    ("$8.75 per hour", PRICES, "A"),
    ("The answer is 17.5", PRICES, "C"),
    ("1875", PRICES, "D"),
    ("1,875.00", PRICES, "D"),
    ("50", PRICES, "E"),
    ("50 percent", PRICES, "E"),
    ("8.7", PRICES, NOT_AN_OPTION),
    ("87.5", PRICES, NOT_AN_OPTION),
    ("8.75", REPEATED, SAME_TEXT),
    ("8.79", REPEATED, "B"),
    ("8.75 or 9.25", PRICES, AMBIGUOUS),
    ("2 hours", LENGTHS, "B"),
    ("2", LENGTHS, "B"),
    ("60 minutes", LENGTHS, "D"),
    ("60 hours", LENGTHS, NOT_AN_OPTION),  # the number is D's, the unit is not
    ("175", LENGTHS, "C"),
    ("5(√3+1)", ROOTS, "A"),
    ("5(sqrt(3) + 1)", ROOTS, "A"),
    ("5(\\sqrt{3} + 1)", ROOTS, "A"),
    ("10π", ROOTS, "C"),
    ("10", ROOTS, NOT_AN_OPTION),
    ("2", ROOTS, NOT_AN_OPTION),
    ("2x", ROOTS, "B"),
    ("x+y", ROOTS, "D"),
    ("2/36", ROOTS, "E"),
    ("-20%", SIGNS, "D"),
    ("20%", SIGNS, "A"),
    ("it is -20% then", SIGNS, "D"),
    ("it falls to -30% or so", SIGNS, NOT_AN_OPTION),
    ("it is -50% then", PRICES, NOT_AN_OPTION),
    ("it is 2x + 5 then", ROOTS, NOT_AN_OPTION),
    ("it must be 2x then", ROOTS, "B"),
    ("it must be 20x then", ROOTS, NOT_AN_OPTION),
    ("it is 11/18 of all", ROOTS, NOT_AN_OPTION),
    ("it is 1/18 of all", ROOTS, "E"),
    ("so 5 + 3.75 = 8.75 in all", PRICES, "A"),
    ("I and IV only", LOGIC, NOT_AN_OPTION),
    ("IV and II only", LOGIC, AMBIGUOUS),
    ("−20%", SIGNS, "D"),
    # a letter with a hedge, a negation or another option behind it is no choice
    ("D) attic or E) cupboard", ROOMS, AMBIGUOUS),
    ("D. No, E.", ROOMS, AMBIGUOUS),
    ("(D) is incorrect", ROOMS, NOT_AN_OPTION),
    ("D is wrong", ROOMS, NOT_AN_OPTION),
    ("(D) is not the answer", ROOMS, NOT_AN_OPTION),
    ("D is not correct", ROOMS, NOT_AN_OPTION),
    ("D isn't right", ROOMS, NOT_AN_OPTION),
    ("(D)? Or (E)?", ROOMS, AMBIGUOUS),
    ("D? Maybe E", ROOMS, NOT_AN_OPTION),
    ("D / E", ROOMS, AMBIGUOUS),
    ("D, or maybe E", ROOMS, AMBIGUOUS),
    ("D... wait, E", ROOMS, AMBIGUOUS),
    ("D, but E is also possible", ROOMS, AMBIGUOUS),
    ("not (D)", ROOMS, NOT_AN_OPTION),
    ("Neither D nor E", ROOMS, AMBIGUOUS),
    ("D) attic, E) cupboard", ROOMS, AMBIGUOUS),
    ("D - no, it is E", ROOMS, AMBIGUOUS),
    ("Either (D) or (E)", ROOMS, AMBIGUOUS),
    ("(D) or cupboard", ROOMS, AMBIGUOUS),
    ("D, or cupboard", ROOMS, AMBIGUOUS),
    ("anything but (D)", ROOMS, NOT_AN_OPTION),
    ("all except (D)", ROOMS, NOT_AN_OPTION),
    ("D is false", ROOMS, NOT_AN_OPTION),
    ("D cannot be", ROOMS, NOT_AN_OPTION),
    ("D can be ruled out", ROOMS, NOT_AN_OPTION),
    ("(D) attic is wrong", ROOMS, NOT_AN_OPTION),
    ("D or something else", ROOMS, NOT_AN_OPTION),
    ("D -> E", ROOMS, AMBIGUOUS),
    ("D; E", ROOMS, AMBIGUOUS),
    ("D & E", ROOMS, AMBIGUOUS),
    ("D vs. E", ROOMS, NOT_AN_OPTION),
    ("D, though E fits as well", ROOMS, AMBIGUOUS),
    ("d) attic or e) cupboard", ROOMS, AMBIGUOUS),
    ("the attic or the cupboard", ROOMS, AMBIGUOUS),
    ("D attic or cupboard", ROOMS, AMBIGUOUS),
    ("(D) attic, cupboard", ROOMS, CONTRADICTION),
    ("(D) cupboard", ROOMS, CONTRADICTION),
    ("option D is incorrect", ROOMS, NOT_AN_OPTION),
    ("I'd say D, but E is possible", ROOMS, AMBIGUOUS),
    ("(D) but I am not sure", ROOMS, NOT_AN_OPTION),
    ("It is (D), not (E)", ROOMS, AMBIGUOUS),
    ("attic - option E", ROOMS, AMBIGUOUS),
    ("either the attic or the cupboard", ROOMS, AMBIGUOUS),
    ("The answer is D? No.", ROOMS, NOT_AN_OPTION),
    ("The wrong answer is (D)", ROOMS, NOT_AN_OPTION),
    ("we can rule out (D)", ROOMS, NOT_AN_OPTION),
    ("option A or school", ROOMS, AMBIGUOUS),
    ("(D) attic \\boxed{E}", ROOMS, AMBIGUOUS),
    # and these leave no doubt
    ("D) attic", ROOMS, "D"),
    ("D. attic.", ROOMS, "D"),
    ("(D)!", ROOMS, "D"),
    ("D!", ROOMS, "D"),
    ("D: an attic", ROOMS, "D"),
    ("(D) because people keep things there, not in a bank", ROOMS, "D"),
    ("D is correct", ROOMS, "D"),
    ("D, of course", ROOMS, "D"),
    ("(D). The answer is D.", ROOMS, "D"),
    ("attic!", ROOMS, "D"),
    ("attic,", ROOMS, "D"),
    ("\\boxed{\\text{D}}", ROOMS, "D"),
    ("(D) attic because it is not the cupboard", ROOMS, "D"),
    ("D - attic", ROOMS, "D"),
    ("**D) attic**", ROOMS, "D"),
    ("an attic", ROOMS, "D"),
    ("(D) attic\\\\", ROOMS, "D"),
    # an option's own text may hold a negation or `or`
    ("not far", NEGATED, "A"),
    ("not (A)", NEGATED, NOT_AN_OPTION),
    ("(A) not far", NEGATED, "A"),
    ("I think (A) not far", NEGATED, "A"),
    ("not home", NEGATED, NOT_AN_OPTION),
    ("black or white", NEGATED, "D"),
    ("(D) black or white", NEGATED, "D"),
    ("(E) cannot be determined", NEGATED, "E"),
    ("E. Cannot be determined.", NEGATED, "E"),
    ("(B) is not home", NEGATED, NOT_AN_OPTION),
    ("not far or home", NEGATED, AMBIGUOUS),
    ("it is not (E)", NEGATED, NOT_AN_OPTION),
    # signs that carry value are part of an option
    ("(A) -9", SIGNED, CONTRADICTION),
    ("(A) - 9", SIGNED, CONTRADICTION),
    ("(A) 9", SIGNED, "A"),
    ("(B) -9", SIGNED, "B"),
    ("-9", SIGNED, "B"),
    ("−9", SIGNED, "B"),
    ("9", SIGNED, "A"),
    (".5", SIGNED, "C"),
    ("0.5", SIGNED, "C"),
    ("5", SIGNED, "D"),
    ("(D) .5", SIGNED, CONTRADICTION),
    ("D .5", SIGNED, CONTRADICTION),
    ("(C) .5", SIGNED, "C"),
    ("(D) 5", SIGNED, "D"),
    ("8!", SIGNED, "E"),
    ("8", SIGNED, NOT_AN_OPTION),
    ("(E) 8!", SIGNED, "E"),
    ("5!", SIGNED, NOT_AN_OPTION),
    ("it is .5 then", SIGNED, "C"),
    ("it is 8! then", SIGNED, "E"),
    ("it is minus 9 then", SIGNED, NOT_AN_OPTION),
    ("10-9 it is", SIGNED, NOT_AN_OPTION),
    ("(A) 10", SIGNED, CONTRADICTION),
    # and so is a tail that changes the number
    ("8!", TAILED, NOT_AN_OPTION),
    ("8", TAILED, "A"),
    ("5 thirds", TAILED, NOT_AN_OPTION),
    ("5 hours and a half", TAILED, NOT_AN_OPTION),
    ("5 or so", TAILED, AMBIGUOUS),
    ("5²", TAILED, NOT_AN_OPTION),
    ("5 million", TAILED, NOT_AN_OPTION),
    ("5k", TAILED, NOT_AN_OPTION),
    ("1/2", TAILED, "D"),
    ("2π", TAILED, "E"),
    ("2", TAILED, NOT_AN_OPTION),
    ("it is 5 thirds then", TAILED, NOT_AN_OPTION),
    ("it is 5 hours and a half", TAILED, NOT_AN_OPTION),
    ("it is 5 π then", TAILED, NOT_AN_OPTION),
    ("(C) 5 thirds", TAILED, CONTRADICTION),
    ("it is 5 then", TAILED, "C"),
    ("it is 3 1/2", TAILED, NOT_AN_OPTION),
    # a list is no number, and spaces may part two
    ("1 1/2", LISTED, "B"),
    ("11/2", LISTED, "A"),
    ("40, 200", LISTED, "E"),
    ("40,200", LISTED, "C"),
    ("1,2", LISTED, NOT_AN_OPTION),
    ("40200", LISTED, "C"),
    ("1 2", LISTED, NOT_AN_OPTION),
    ("40 and 200", LISTED, NOT_AN_OPTION),
    ("it is 40,200 then", LISTED, "C"),
    ("1, 2", LISTED, NOT_AN_OPTION),
    # an explanation behind an answer may deny, reject and compare
    ("(B) library; it is not noisy", SHOPS, "B"),
    ("(B) library (not noisy)", SHOPS, "B"),
    ("B. library - people do not talk there", SHOPS, "B"),
    ("(B) library. You can't borrow books elsewhere.", SHOPS, "B"),
    ("B) library is the place where people read but don't speak", SHOPS, "B"),
    ("B: You cannot talk in a library", SHOPS, "B"),
    ("(B) is right, all others are false", SHOPS, "B"),
    ("(B). The other options are wrong.", SHOPS, "B"),
    ("(B) library. Explanation: a bank is wrong because it has money", SHOPS, "B"),
    ("B) library has books, whereas a bank has money", SHOPS, "B"),
    ("E. New York, not a mall", SHOPS, "E"),
    ("(B) library, as no other place is quiet", SHOPS, "B"),
    ("(B) library, not (A) bank", SHOPS, "B"),
    ("B. library, rather than a bank", SHOPS, "B"),
    ("(B) library - none of the others fit", SHOPS, "B"),
    ("(B) is correct; the rest are incorrect", SHOPS, "B"),
    ("B) library: it isn't loud", SHOPS, "B"),
    ("(B) library. It has no shops, so the mall is wrong", SHOPS, "B"),
    ("(B) library, where nobody talks, although a mall is bigger", SHOPS, "B"),
    ("B. Library! You never pay there.", SHOPS, "B"),
    ("(B) library, but not any library", SHOPS, "B"),
    ("B) library (a bank is not quiet)", SHOPS, "B"),
    ("(B) library since it is neither loud nor big", SHOPS, "B"),
    ("(B) the library, however small, has books", SHOPS, "B"),
    ("(B) library. Either way, people read there.", SHOPS, "B"),
    ("B. library. Every other option is incorrect.", SHOPS, "B"),
    ("(B) library. The wrong options have no books.", SHOPS, "B"),
    ("(B) library, because you cannot read in a bank or a mall", SHOPS, "B"),
    ("(B). You do not read in a mall.", SHOPS, "B"),
    ("(B), as everything else is wrong", SHOPS, "B"),
    ("B) library; banks and malls are also public, but have no books", SHOPS, "B"),
    # but doubt directly behind it, or in a clause of its own, takes it back
    ("(B) library is wrong", SHOPS, NOT_AN_OPTION),
    ("(B) library is not right", SHOPS, NOT_AN_OPTION),
    ("(B) library. No, (A).", SHOPS, AMBIGUOUS),
    ("(B) library. Wait, A) bank", SHOPS, AMBIGUOUS),
    ("(B) library or bank", SHOPS, AMBIGUOUS),
    ("(B) library, or maybe bank", SHOPS, AMBIGUOUS),
    ("(B) library, but bank is also possible", SHOPS, AMBIGUOUS),
    ("(B) library? No.", SHOPS, NOT_AN_OPTION),
    ("(B) library, bank", SHOPS, CONTRADICTION),
    ("(B) library and mall", SHOPS, AMBIGUOUS),
    ("(B) library isn't it", SHOPS, NOT_AN_OPTION),
    ("(B) library can be ruled out", SHOPS, NOT_AN_OPTION),
    ("(B) library cannot be the answer", SHOPS, NOT_AN_OPTION),
    ("(B) library, but I am not sure", SHOPS, NOT_AN_OPTION),
    ("(B) library. Actually, bank", SHOPS, NOT_AN_OPTION),
    ("(B) library / bank", SHOPS, AMBIGUOUS),
    ("(B) library - no, bank", SHOPS, NOT_AN_OPTION),
    ("(B) library or something else", SHOPS, AMBIGUOUS),
    ("either (B) library or (A) bank", SHOPS, AMBIGUOUS),
    ("(B) library, though a bank fits as well", SHOPS, AMBIGUOUS),
    ("(B) library. It is not the right answer.", SHOPS, NOT_AN_OPTION),
    ("(B) library. That is wrong.", SHOPS, NOT_AN_OPTION),
    ("D. No, E.", SHOPS, AMBIGUOUS),
    ("(D) is incorrect", SHOPS, NOT_AN_OPTION),
    ("not (B) library", SHOPS, NOT_AN_OPTION),
    # several, or none
    ("B or C", PLACES, AMBIGUOUS),
    ("A and B", PLACES, AMBIGUOUS),
    ("Both A and B", PLACES, AMBIGUOUS),
    ("(A), (C)", PLACES, AMBIGUOUS),
    ("(A) or (C)", PLACES, AMBIGUOUS),
    ("A, B and D", PLACES, AMBIGUOUS),
    ("A/B", PLACES, AMBIGUOUS),
    ("F", PLACES, NOT_AN_OPTION),
    ("(F)", PLACES, NOT_AN_OPTION),
    ("Because of the cold", PLACES, NOT_AN_OPTION),
    ("I", PLACES, NOT_AN_OPTION),
    ("I do not know", PLACES, NOT_AN_OPTION),
    ("not B", PLACES, NOT_AN_OPTION),
    ("ABCDE", PLACES, NOT_AN_OPTION),
    ("[invalid]", PLACES, NOT_AN_OPTION),  # what harnesses write where they find nothing must never be an answer
    ("?", PLACES, NOT_AN_OPTION),
    ("", PLACES, NO_TEXT),
    (".", PLACES, NO_TEXT),
]


def wanted(expected):
    return Extraction(None, expected) if expected in REASONS else Extraction(expected, None)


@pytest.mark.parametrize(("text", "options", "expected"), CHOICES, ids=lambda value: ascii(value)[:40])
def test_what_stands_behind_the_marker_gives_a_letter_or_a_reason(text, options, expected):
    assert extract_choice(f"People walk (A) or (B) there.\n[ANS] {text}", "[ANS]", options) == wanted(expected)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("[ANS] (A)\nNo, wait.\n[ANS] (B)", "B"),  # the last marker decides
        ("[ANS] (B)\n\nQuestion: where else?\nOptions: (C) school", "B"),  # and its line ends the answer
        ("So it is (B).", NO_MARKER),
        ("[ans] (B)", NO_MARKER),
        ("(B) [ANS]", NO_TEXT),
        ("[ANS]\n(B)", NO_TEXT),
    ],
)
def test_the_last_marker_s_line_decides(completion, expected):
    assert extract_choice(completion, "[ANS]", PLACES) == wanted(expected)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("So it is (B).", "B"),
        ("First (A).\nBut then option C", "C"),
        ("(A)\n[ANS] hmm", NOT_AN_OPTION),  # the marker's line comes first
        ("They go to the movie theatre", "B"),
        ("They go to the park or the country", AMBIGUOUS),
        ("The answer is (C).", "C"),
        ("(A) or so\n\\boxed{\\text{(D)}}", "D"),
        ("", NOT_AN_OPTION),
    ],
)
def test_the_lenient_reader_looks_behind_any_marker_else_into_the_last_line(completion, expected):
    assert lenient_answer(completion, "B", PLACES, "[ANS]") == wanted(expected)


def test_the_lenient_reader_agrees_where_the_strict_one_finds_an_option():
    for text, options, expected in CHOICES:
        if expected not in REASONS and "\n" not in text:
            assert lenient_answer(f"(E) [ANS] {text}", "A", options, "[ANS]").answer == expected


@pytest.mark.parametrize("options", [(), ("x",) * 27])
def test_as_many_options_as_letters(options):
    with pytest.raises(ConfigError, match=r"options: between 1 and 26 of them have letters, got \d+"):
        extract_choice("[ANS] A", "[ANS]", options)


WORDS = st.text("abcdefghij xyz0123456789.,$%√-+/()", min_size=1, max_size=15)


@settings(deadline=None)
@given(
    st.text(max_size=200),
    st.lists(st.text(max_size=20), min_size=1, max_size=6),
)
def test_any_text_and_any_options_give_a_letter_or_a_reason(text, options):
    for completion in (text, f"[ANS]{text}", f"[ANS] ({text}", f"[ANS] {options[0]}{text}"):
        for extraction in (extract_choice(completion, "[ANS]", options), lenient_answer(completion, "A", options)):
            assert (extraction.answer is None) != (extraction.reason is None)
            assert extraction.answer is None or extraction.answer in LETTERS[: len(options)]


@settings(deadline=None)
@given(
    st.lists(WORDS, min_size=2, max_size=6),
    st.data(),
    st.sampled_from(["({})", "{})", "({}).", "option {}", "The answer is ({})", "**({})**", "\\boxed{{({})}}"]),
)
def test_a_marked_letter_is_always_its_option(options, data, style):
    letter = data.draw(st.sampled_from(LETTERS[: len(options)]))
    assert extract_choice(f"so [ANS] {style.format(letter)}", "[ANS]", options).answer == letter


@settings(deadline=None)
@given(st.lists(st.integers(-999, 99999), min_size=2, max_size=6, unique=True), st.data())
def test_a_value_is_its_option_however_both_are_written(values, data):
    styles = st.sampled_from(["{}", "{:,}", "{}.0", "${:,}", "{} %", "{} apples", "{:.2f}"])
    options = [data.draw(styles).format(value) for value in values]
    position = data.draw(st.integers(0, len(values) - 1))
    written = data.draw(st.sampled_from(["{}", "{:,}", "{}.00", "the answer is {}."])).format(values[position])
    assert extract_choice(f"[ANS] {written}", "[ANS]", options).answer == LETTERS[position]
