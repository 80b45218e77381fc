"""Extraction on real text: what four models wrote for GSM8K, and every option of AQuA and ECQA."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from aft.answers import (
    LETTERS,
    NO_MARKER,
    SAME_TEXT,
    extract_choice,
    extract_number,
    lenient_answer,
    normalise_text,
    numbers_equal,
)
from aft.json_files import iter_json_lines
from shared_data import shared_path

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


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


def test_the_lenient_reading_gives_the_same_verdicts():
    """So on these no verdict hangs on the marker being there."""
    path = shared_path("data", "gsm8k", "example_model_solutions_first_half.jsonl")
    for line, row in iter_json_lines(path):
        gold = extract_number(row["ground_truth"], "A:").answer
        for model in MODELS:
            answer = lenient_answer(row[model]["solution"], gold, marker="A:").answer
            is_correct = answer is not None and numbers_equal(answer, gold)
            assert is_correct == row[model]["is_correct"], (line, model)


def options_of(name):
    """The option lists of one file of AQuA or ECQA."""
    path = shared_path("data", *name)
    for _, row in iter_json_lines(path):
        options = row["options"]
        yield [option.partition(")")[2].strip() for option in options] if name[0] == "aqua" else options


# letter alone, with its text, and in a sentence: always that option; the text alone: unless another has it too
MARKED = ("({0})", "{0})", "{0}.", "{0}", "({0}) {1}", "{0}. {1}", "{0}: {1}", "The answer is option ({0}).")
UNMARKED = ("{1}", "{1}.", "The answer is {1}.", "the answer is: {1}")


@pytest.mark.parametrize(
    ("name", "records", "ambiguous"),
    [
        # options, not records, whose text another option of the question has too
        (("aqua", "dev.json"), 254, 2),
        (("aqua", "test.json"), 254, 14),
        (("ecqa", "ecqa_train.jsonl"), 7598, 210),
        (("ecqa", "ecqa_val.jsonl"), 1090, 24),
        (("ecqa", "ecqa_test.jsonl"), 2194, 60),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_every_option_is_read_back(name, records, ambiguous):
    read, same_text = 0, []
    for number, options in enumerate(options_of(name), start=1):
        read += 1
        for letter, option in zip(LETTERS, options, strict=False):
            for style in MARKED:
                completion = f"So. [ANS] {style.format(letter, option)}"
                assert extract_choice(completion, "[ANS]", options).answer == letter, (number, completion, options)
            reasons = Counter()
            for style in UNMARKED:
                completion = f"So. [ANS] {style.format(letter, option)}"
                extraction = extract_choice(completion, "[ANS]", options)
                assert extraction.answer in (letter, None), (number, completion, options)
                reasons[extraction.reason] += 1
            assert len(reasons) == 1, (number, option, options, reasons)
            if SAME_TEXT in reasons:
                same_text.append((options, option))
            else:
                assert None in reasons, (number, option, options, reasons)
    assert (read, len(same_text)) == (records, ambiguous)
    for options, option in same_text:
        same = [other for other in options if normalise_text(other) == normalise_text(option)]
        assert len(same) > 1, (option, options)


# {0} and {1}: an option's letter and text; {2} and {3}: those of another option
DOUBTFUL = (
    "({0}) or ({2})", "{0} or {2}", "{0}) {1} or {2}) {3}", "{0}. No, {2}.", "({0}) is incorrect", "{0} is wrong",
    "({0}) is not the answer", "{0} isn't right", "({0})? Or ({2})?", "{0} / {2}", "{0}, or maybe {2}",
    "{0}... wait, {2}",
    "{0}, but {2} is also possible", "not ({0})", "neither ({0}) nor ({2})", "{0} and {2}", "{0}) {1}, {2}) {3}",
    "{0} - no, it is {2}", "either ({0}) or ({2})", "anything but ({0})", "all except ({0})", "{0} is false",
    "({0}) can be ruled out", "({0}) {1} is wrong", "{0} or something else", "{0}; {2}", "{0} & {2}",
    "{0}, though {2} fits as well", "option {0} is incorrect", "I'd say {0}, but {2} is possible",
    "({0}) but I am not sure", "the wrong answer is ({0})", "we can rule out ({0})",
)  # fmt: skip


@pytest.mark.parametrize(("name", "questions"), [(("aqua", "test.json"), 254), (("ecqa", "ecqa_val.jsonl"), 546)])
def test_no_hedge_and_no_negation_is_read_as_a_choice(name, questions):
    """Thirty-three forms with the options of 800 questions, whatever the options say."""
    for number, options in enumerate(itertools.islice(options_of(name), questions)):
        first, second = number % len(options), (number + 2) % len(options)
        places = (LETTERS[first], options[first], LETTERS[second], options[second])
        for form in DOUBTFUL:
            completion = f"So. [ANS] {form.format(*places)}"
            assert extract_choice(completion, "[ANS]", options).answer is None, (completion, options)
