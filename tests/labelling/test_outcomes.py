"""What became of samples, and the cause that is named: counts typed by hand, one case for each diagnosis."""

from __future__ import annotations

import dataclasses
import json

import pytest

from aft.grading import Grader
from aft.labelling.labels import label_completions
from aft.labelling.outcomes import (
    Outcomes,
    Setting,
    count_completions,
    count_outcomes,
    diagnose,
    excerpt,
    outcomes_from_json,
)
from aft.records import Completion, Question
from aft.tasks.gsm8k import Gsm8k

TASK = Gsm8k()  # no data is read: only its marker and its equality
GRADER = Grader(TASK)
QUESTIONS = [Question("q1", "6 * 6?", "36"), Question("q2", "1 + 1?", "2"), Question("q3", "2 + 2?", "4")]
VFT = Setting("vft", temperature=1.0, max_new_tokens=64, marker="[ANS]")
BASE = dataclasses.replace(VFT, model="base")


def completions(*given):
    """Completions from (question id, text, truncated) with running indices."""
    return [Completion(name, index, text, cut, num_tokens=5, seed=0) for index, (name, text, cut) in enumerate(given)]


def test_every_count_by_hand():
    found, shown = count_outcomes(
        completions(
            ("q1", "[ANS] 36", False),
            ("q1", "[ANS] 36\nand then", True),
            ("q2", "it is 3\n#### 3", False),
            ("q2", "it is 3\n#### 3", False),  # a duplicate counts, as it was sampled
            ("q2", "it is", True),
            ("q3", " ", False),
            ("q3", "[ANS] four", False),
            ("q3", "The answer is: 4", True),
        ),
        QUESTIONS,
        Grader(TASK),
    )
    assert found == Outcomes(
        questions=3,
        completions=8,
        unparsed=6,
        truncated=3,
        empty=1,
        unmarked=5,
        unmarked_cut=2,
        unmarked_formats={"####": 2},
        all_wrong=2,
        all_right=1,
    )
    assert [completion.index for completion in shown] == [2, 3, 4, 5, 6, 7]
    assert found.shares() == {"unparsed": 6 / 8, "truncated": 3 / 8, "all_wrong": 2 / 3, "all_right": 1 / 3}
    assert outcomes_from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_without_unparsed_completions_the_wrong_ones_are_shown():
    found, shown = count_outcomes(completions(("q1", "[ANS] 36", False), ("q1", "[ANS] 37", False)), QUESTIONS, GRADER)
    assert (found.unparsed, found.all_wrong, found.all_right) == (0, 0, 0) and [item.index for item in shown] == [1]


class Comparing(Gsm8k):
    """Counts comparisons with gold answers."""

    def __init__(self):
        super().__init__()
        self.compared = []

    def is_correct(self, answer, question):
        self.compared.append(answer)
        return super().is_correct(answer, question)


def test_each_text_is_compared_once_for_labels_and_outcomes():
    """A duplicate has the verdict of the first, unless the length limit cut only one of them."""
    task = Comparing()
    sampled = completions(
        *(("q1", "[ANS] 36", False), ("q1", "[ANS] 36", False), ("q1", "[ANS] 3", False), ("q1", "[ANS] 36", True)),
        *(("q2", "[ANS] 36", False), ("q2", "no", False)),
    )
    grader = Grader(task)
    label_completions(QUESTIONS, {}, sampled, task, grader=grader)
    found, _ = count_outcomes(sampled, QUESTIONS, grader)
    assert task.compared == ["36", "3", "36"]
    assert (found.unparsed, found.all_wrong, found.all_right) == (2, 1, 0)


def test_completions_are_counted_without_a_comparison():
    task = Comparing()
    sampled = completions(("q1", "[ANS] 36", False), ("q1", "[ANS] 37\nand", True), ("q2", "no\n#### 3", False))
    found, shown = count_completions(sampled, QUESTIONS, task)
    assert task.compared == []
    expected = {"completions": 3, "unparsed": 1, "truncated": 1, "unmarked": 1, "unmarked_formats": {"####": 1}}
    assert found == Outcomes(**expected) and [item.index for item in shown] == [2]
    assert found.shares() == {"unparsed": 1 / 3, "truncated": 1 / 3}
    _, shown = count_completions(sampled[:2], QUESTIONS, task)
    assert [item.index for item in shown] == [1], "the cut one"


def test_a_share_of_nothing_is_absent_and_reaches_no_limit():
    found, shown = count_outcomes([], QUESTIONS, GRADER)
    assert (found, shown, found.shares()) == (Outcomes(), [], {})
    assert found.reached({"unparsed": 1e-9, "all_wrong": 1e-9}) == {}


def test_a_limit_is_reached_at_its_value_and_null_never():
    found = Outcomes(questions=4, completions=10, unparsed=2, all_wrong=4)
    limits = {"unparsed": 0.2, "truncated": 0.2, "all_wrong": 1.0, "all_right": None}
    assert found.reached(limits) == {"unparsed": 0.2, "all_wrong": 1.0}
    assert found.reached({"unparsed": 0.21}) == {}
    assert found.describe("unparsed") == "2 of 10 completions unparsed (20.0 %)"
    assert found.describe("all_wrong") == "4 of 4 questions all wrong (100.0 %)"


FORM = {"unparsed": 0.2}


@pytest.mark.parametrize(
    ("found", "setting", "reached", "cause", "change"),
    [
        # after little VFT: most are cut, and those that end hold no marker
        (
            Outcomes(64, 256, 256, 192, 0, 256, 192, {}, 64),
            VFT,
            FORM,
            "the marker [ANS] is not learnt: VFT had too few steps",
            "vft.training (a larger num_train_epochs or learning_rate), or a lower sample.temperature",
        ),
        # ended without the marker, and in another format
        (
            Outcomes(64, 256, 256, 40, 0, 256, 40, {"####": 200, "Answer:": 3}, 64),
            VFT,
            FORM,
            "200 of 216 that end without the marker [ANS] give an answer after '####': the model has a format of",
            'data.answer_marker: "####"',
        ),
        (
            Outcomes(64, 256, 250, 10, 0, 250, 10, {}, 64),
            BASE,
            FORM,
            "the base model was not trained to write the marker [ANS]",
            "sample.model: vft",
        ),
        (
            Outcomes(64, 256, 200, 10, 150, 200, 10, {}, 64),
            VFT,
            FORM,
            "the model writes nothing",
            "prompt.template or prompt.chat",
        ),
        (
            Outcomes(64, 256, 200, 10, 0, 200, 10, {}, 64),
            dataclasses.replace(VFT, temperature=1.5),
            FORM,
            "temperature 1.5 draws unlikely tokens",
            "a lower sample.temperature",
        ),
        # the marker is there, and the text goes on
        (
            Outcomes(64, 256, 10, 240, 0, 10, 10, {}, 20),
            VFT,
            {"truncated": 0.2},
            "the model writes on after its answer",
            "eos_token in the model's tokenizer_config.json, or vft.training",
        ),
        # what ends is in order, most do not end in time
        (
            Outcomes(64, 256, 160, 156, 0, 156, 156, {}, 20),
            VFT,
            FORM,
            "chains that end hold the marker [ANS], and most are longer than 64 tokens",
            "a larger sample.max_new_tokens",
        ),
        (
            Outcomes(64, 256, 256, 250, 0, 256, 250, {}, 64),
            VFT,
            FORM,
            "hardly any chain ends within 64 tokens",
            "a larger sample.max_new_tokens; if that does not help, eos_token",
        ),
        (
            Outcomes(64, 256, 60, 20, 0, 10, 5, {}, 20),
            VFT,
            FORM,
            "what stands after the marker [ANS] is no answer of this task",
            "vft.training",
        ),
        (
            Outcomes(64, 256, 45, 60, 0, 45, 40, {}, 20),
            VFT,
            {"truncated": 0.2},
            "many chains are longer than the limit",
            "a larger sample.max_new_tokens",
        ),
        (
            Outcomes(64, 256, 5, 5, 0, 5, 5, {}, 60),
            VFT,
            {"all_wrong": 0.9},
            "answers are found, and they are wrong",
            "vft.training (more steps)",
        ),
        # limits on completions may be off; the cause is in the completions all the same
        (
            Outcomes(64, 256, 256, 0, 0, 256, 0, {}, 64),
            dataclasses.replace(VFT, marker=None),
            {"all_wrong": 1.0},
            "the marker is not learnt",
            "vft.training",
        ),
        (
            Outcomes(64, 256, 0, 0, 0, 0, 0, {}, 0, 64),
            VFT,
            {"all_right": 1.0},
            "the questions are easy for this model",
            "a higher sample.temperature",
        ),
    ],
)
def test_the_likeliest_cause_and_the_key_to_change(found, setting, reached, cause, change):
    diagnosis = diagnose(found, setting, reached)
    assert diagnosis.cause.startswith(cause) and diagnosis.change.startswith(change)


def test_an_excerpt_is_one_line_without_control_characters():
    assert excerpt("2 + 2 = 4\n\x1b[31m[ANS]\t4é") == "2 + 2 = 4\\n\\x1b[31m[ANS]\\t4é"
    long = excerpt("a" * 500 + "\u202e" + "z" * 99)
    assert long == "a" * 40 + " … \\u202e" + "z" * 99
