"""Extraction and equality of answers. This table decides every reported number."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.answers import (
    NO_MARKER,
    NO_TEXT,
    NOT_A_NUMBER,
    Extraction,
    extract_after_marker,
    extract_number,
    format_number,
    normalise_number,
    numbers_equal,
)
from aft.records import iter_json_lines
from shared_data import shared_path

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

# What a model wrote, and the answer that it gave (or why it gave none).
COMPLETIONS = [
    # plain
    ("She has 48/2 = <<48/2=24>>24 left.\n[ANS] 24", "24"),
    ("So 9 * 4 = 36.\n[ANS] 36.", "36"),
    ("[ANS] 0", "0"),
    ("[ANS]36", "36"),
    ("[ANS]\t36\t", "36"),
    ("[ANS] 36\r\n", "36"),
    ("[ANS] 36 .", "36"),
    ("[ANS] 36...", "36"),
    ("[ANS] 36.\n", "36"),
    ("[ANS] 007", "7"),
    ("[ANS] +5", "5"),
    ("[ANS] **36**", "36"),
    ('[ANS] "36"', "36"),
    # what comes after the answer's line does not matter
    ("[ANS] 36\n\nQuestion: Tom has 4 cats. How many?", "36"),
    ("[ANS] 36\n37", "36"),
    # the last marker decides
    ("[ANS] 12\nWait, that is wrong.\n[ANS] 14", "14"),
    ("First [ANS] 12 then [ANS] 14", "14"),
    ("The text [ANS] is a marker. [ANS] 7", "7"),
    # commas
    ("[ANS] 1,080", "1080"),
    ("[ANS] 1,450,000.", "1450000"),
    ("[ANS] 109,200,000", "109200000"),
    ("[ANS] $12,500.50", "12500.5"),
    ("[ANS] 36, because there are 36 legs", NOT_A_NUMBER),
    ("[ANS] 36, all told", "36"),
    ("[ANS] 1,5", NOT_A_NUMBER),  # 15 or 1.5?
    ("[ANS] 1,45,000", NOT_A_NUMBER),
    ("[ANS] 1000,000", NOT_A_NUMBER),
    ("[ANS] 3, 4", NOT_A_NUMBER),
    # currency
    ("[ANS] $18", "18"),
    ("[ANS] $ 18", "18"),
    ("[ANS] 18$", "18"),
    ("[ANS] US$18", "18"),
    ("[ANS] €1,000", "1000"),
    ("[ANS] £3.50", "3.5"),
    ("[ANS] ¥250", "250"),
    ("[ANS] ₹99", "99"),
    ("[ANS] 50¢", "50"),
    ("[ANS] $", NOT_A_NUMBER),
    # percent: a unit like any other
    ("[ANS] 50%", "50"),
    ("[ANS] 12.5 %", "12.5"),
    ("[ANS] 20 percent", "20"),
    # units
    ("[ANS] 36 apples", "36"),
    ("[ANS] 18 dollars per day", "18"),
    ("[ANS] 60 km/h", "60"),
    ("[ANS] 25 m²", "25"),
    ("[ANS] 5km.", "5"),
    ("[ANS] 90°", "90"),
    ("[ANS] 4 dozen", "4"),
    ("[ANS] 36 - more than before", NOT_A_NUMBER),
    ("[ANS] 7 apples and 3 pears", NOT_A_NUMBER),
    ("[ANS] 3 hours 20 minutes", NOT_A_NUMBER),
    ("[ANS] 3:20", NOT_A_NUMBER),
    # words that scale
    ("[ANS] 2.5 million", "2500000"),
    ("[ANS] $1 thousand", "1000"),
    ("[ANS] -1.8 billion", "-1800000000"),
    # negatives
    ("[ANS] -5", "-5"),
    ("[ANS] −5", "-5"),  # U+2212, the minus sign
    ("[ANS] –5", "-5"),  # en dash
    ("[ANS] - 5", "-5"),
    ("[ANS] -$20", "-20"),
    ("[ANS] $-20", "-20"),
    ("[ANS] -0", "0"),
    ("[ANS] --5", NOT_A_NUMBER),
    ("[ANS] -$-5", NOT_A_NUMBER),
    # decimals, fractions, mixed numbers, scientific notation
    ("[ANS] 3.50", "3.5"),
    ("[ANS] 36.0", "36"),
    ("[ANS] .5", "0.5"),
    ("[ANS] 5.", "5"),
    ("[ANS] 3/4", "0.75"),
    ("[ANS] 2/6", "1/3"),
    ("[ANS] 3/4 of the cake", "0.75"),
    ("[ANS] 1 1/2", "1.5"),
    ("[ANS] -1 1/2 cups", "-1.5"),
    ("[ANS] 1½", "1.5"),
    ("[ANS] ½", "0.5"),
    ("[ANS] 1,000/4", "250"),
    ("[ANS] 1e3", "1000"),
    ("[ANS] 1.5E-2", "0.015"),
    ("[ANS] 3 x 10^5", "300000"),
    ("[ANS] 3 × 10^5", "300000"),
    ("[ANS] 1/0", NOT_A_NUMBER),
    ("[ANS] 1/2/3", NOT_A_NUMBER),
    ("[ANS] 1.2.3", NOT_A_NUMBER),
    ("[ANS] 36 and a half", NOT_A_NUMBER),
    # no number
    ("[ANS] thirty-six", NOT_A_NUMBER),
    ("[ANS] John's age", NOT_A_NUMBER),
    ("[ANS] 10+John's age", NOT_A_NUMBER),
    ("[ANS] 10 - x", NOT_A_NUMBER),
    ("[ANS] 3 + 4 = 7", NOT_A_NUMBER),
    ("[ANS] x = 7", NOT_A_NUMBER),
    ("[ANS] 3-4", NOT_A_NUMBER),
    ("[ANS] 10^3", NOT_A_NUMBER),
    ("[ANS] inf", NOT_A_NUMBER),
    ("[ANS] nan", NOT_A_NUMBER),
    ("[ANS] e5", NOT_A_NUMBER),
    ("[ANS] <<6*6=36>>36", NOT_A_NUMBER),
    ("[ANS] 1e999999999", NOT_A_NUMBER),
    ("[ANS] " + "3" * 5000, NOT_A_NUMBER),
    # no text, no marker
    ("[ANS]", NO_TEXT),
    ("So the answer is 36. [ANS] ", NO_TEXT),
    ("[ANS] .", NO_TEXT),
    ("[ANS]\n36", NO_TEXT),
    ("[ANS] 36. [ANS]", NO_TEXT),
    ("", NO_MARKER),
    ("So the answer is 36.", NO_MARKER),
    ("[ans] 36", NO_MARKER),
    ("[ANS 36", NO_MARKER),
    ("#### 36", NO_MARKER),
]


@pytest.mark.parametrize(("completion", "expected"), COMPLETIONS, ids=lambda text: ascii(text)[:40])
def test_completion_gives_answer_or_reason(completion, expected):
    reasons = (NO_MARKER, NO_TEXT, NOT_A_NUMBER)
    wanted = Extraction(None, expected) if expected in reasons else Extraction(expected, None)
    assert extract_number(completion, "[ANS]") == wanted


@pytest.mark.parametrize(
    ("completion", "marker", "answer"),
    [
        ("... [ANS] (B) the park.", "[ANS]", "(B) the park"),
        ("24 left.\n#### 1,450", "####", "1,450"),
        ("A: 12\nA: 14", "A:", "14"),
        ("[ANS] $18 per day.\nmore", "[ANS]", "$18 per day"),
        ("[ANS] v1.2", "[ANS]", "v1.2"),
    ],
)
def test_text_after_the_marker_is_kept_as_written(completion, marker, answer):
    assert extract_after_marker(completion, marker) == Extraction(answer, None)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("36", "36.0", True),
        ("1,450,000", "1450000", True),
        ("$18", "18 dollars", True),
        ("50%", "50", True),
        ("50%", "0.5", False),
        ("1/2", "0.5", True),
        ("1/3", "0.3333333333", False),
        ("0.1", "1/10", True),
        ("-5", "−5", True),
        ("-5", "5", False),
        ("100000000000000000001", "100000000000000000000", False),  # equal as floats
        ("thirty-six", "thirty-six", False),  # equal texts, but not equal numbers
        ("", "0", False),
    ],
)
def test_numbers_equal(left, right, equal):
    assert numbers_equal(left, right) is equal
    assert numbers_equal(right, left) is equal


@settings(deadline=None)
@given(st.text(max_size=200), st.sampled_from(["[ANS]", "####", "A:"]))
def test_anything_written_gives_an_answer_or_a_reason(text, marker):
    for completion in (text, f"{marker}{text}"):
        for extraction in (extract_after_marker(completion, marker), extract_number(completion, marker)):
            assert (extraction.answer is None) != (extraction.reason is None)


# letters of the grammar in any order reach its corners sooner than arbitrary text
@settings(deadline=None)
@given(st.text(alphabet="0123456789,.-+−/ eEx*^$€%½US\n٣", max_size=40))
def test_every_number_read_is_written_back_to_the_same_number(text):
    value = normalise_number(text)
    if value is not None:
        assert normalise_number(format_number(value)) == value
        assert extract_number(f"so [ANS] {format_number(value)}.", "[ANS]").answer == format_number(value)


@settings(deadline=None)
@given(st.fractions(min_value=-(10**12), max_value=10**12, max_denominator=10**6))
def test_format_then_extract(value):
    assert extract_number(f"... [ANS] {format_number(value)}", "[ANS]") == Extraction(format_number(value), None)
    assert normalise_number(format_number(value)) == value


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15), st.sampled_from(["", "$", "€"]), st.sampled_from(["", "%", " apples", "."]))
def test_written_with_commas_currency_and_unit(value, currency, unit):
    sign = "-" if value < 0 else ""
    assert normalise_number(f"{sign}{currency}{abs(value):,}{unit}") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e200", None),
        ("1e-999999999", None),
        ("0e999999999", None),
        ("1e100", Fraction(10**100)),
        ("1e101", None),
        ("3 x 10^99999999999999999999", None),
        ("1/" + "9" * 5000, None),
        ("0." + "0" * 5000, None),
        ("1" + ",000" * 5000, None),
        ("999 million" + "!" * 5000, Fraction(999 * 10**6)),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_numbers_beyond_any_answer_are_refused(text, value):
    assert normalise_number(text) == value


HOSTILE = [
    "1",
    "1,",
    "1,111",
    " ",
    "1 ",
    "1/",
    "1/1 ",
    "-",
    "$",
    "A",
    ".",
    "1.",
    "e",
    "1e",
    "x10^",
    "½",
    "[ANS]",
    "[",
    "\n",
    "*",
]


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_a_megabyte_of_anything_is_read_in_linear_time(piece):
    """Linear takes milliseconds, quadratic some 10^12 steps: the limit is far from both."""
    text = piece * (1_000_000 // len(piece))
    start = time.perf_counter()
    for completion in (text, f"[ANS]{text}", f"[ANS] 5{text}", f"[ANS] 5 {text}6", f"[ANS] 5{text}/"):
        extract_number(completion, "[ANS]")
    assert time.perf_counter() - start < 20


def test_verdicts_agree_with_the_example_model_solutions():
    """2,640 generations of four models, each marked right or wrong by the data set's authors."""
    path = shared_path("data", "gsm8k", "example_model_solutions_first_half.jsonl")
    verdicts, disagreements, unparsed = 0, [], []
    for line, row in iter_json_lines(path):
        gold = extract_number(row["ground_truth"], "A:").answer
        assert gold is not None, line
        for model in MODELS:
            extraction = extract_number(row[model]["solution"], "A:")
            is_correct = extraction.answer is not None and numbers_equal(extraction.answer, gold)
            verdicts += 1
            if extraction.answer is None:
                unparsed.append((line, model, extraction.reason))
            if is_correct != row[model]["is_correct"]:
                disagreements.append((line, model, extraction))
    assert verdicts == 2640
    assert disagreements == []
    # cut off, or an endless loop of digits
    assert unparsed == [
        (6, "175b_finetuning", NO_MARKER),
        (49, "175b_finetuning", NO_MARKER),
        (151, "6b_finetuning", NO_MARKER),
        (151, "175b_finetuning", NO_MARKER),
        (163, "175b_finetuning", NO_MARKER),
        (594, "6b_finetuning", NO_MARKER),
        (634, "6b_finetuning", NO_MARKER),
    ]
