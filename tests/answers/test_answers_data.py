"""Extraction on real text: what four models wrote for GSM8K, and every option of AQuA and ECQA."""

from __future__ import annotations

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
