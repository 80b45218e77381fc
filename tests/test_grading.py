"""Answers of completions that the length limit has cut: only what more text could not change is an answer."""

from __future__ import annotations

import pytest

from aft.answers import extract_boxed, extract_choice, extract_number, extract_text
from aft.evaluation.accuracy import task_accuracy
from aft.grading import CUT, judge, read_answer
from aft.labelling.labels import label_completions
from aft.records import Completion, Question
from aft.tasks.gsm8k import Gsm8k

QUESTION = Question("q", "How many?", "12", options=("cats", "dogs", "12 hens"))
MARKER = "[ANS]"


class Kind:
    """A task that reads one kind of answer."""

    def __init__(self, extract):
        self.extract_answer = extract


NUMBER = Kind(lambda text, question: extract_number(text, MARKER))
TEXT = Kind(lambda text, question: extract_text(text, MARKER))
CHOICE = Kind(lambda text, question: extract_choice(text, MARKER, question.options))
BOXED = Kind(lambda text, question: extract_boxed(text))


def completion(text, index=0, truncated=True):
    return Completion("q", index, text, truncated, num_tokens=9, seed=0)


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        (NUMBER, "[ANS] 12", None),
        (NUMBER, "[ANS] 12.", None),  # 12.5
        (NUMBER, "[ANS] 1/2", None),
        (NUMBER, "[ANS] 12 ", "12"),
        (NUMBER, "[ANS] 12\n", "12"),
        (NUMBER, "[ANS] 12 apples", "12"),
        (NUMBER, "[ANS] 12\nQuestion: what is 3", "12"),
        (CHOICE, "[ANS] C", None),  # Cats
        (CHOICE, "[ANS] (C)", "C"),
        (CHOICE, "[ANS] (C) 12 h", "C"),
        (TEXT, "[ANS] cat", None),
        (TEXT, "[ANS] cat\n", "cat"),
        (BOXED, r"so \boxed{12}", "12"),
    ],
)
def test_an_answer_at_the_end_of_a_cut_completion_is_none(task, text, answer):
    found = read_answer(task, completion(text), QUESTION)
    assert (found.answer, found.reason) == (answer, None if answer else CUT)
    whole = read_answer(task, completion(text, truncated=False), QUESTION)
    assert whole == task.extract_answer(text, QUESTION) and whole.answer is not None


def test_a_cut_completion_without_an_answer_keeps_its_reason():
    assert read_answer(NUMBER, completion("12"), QUESTION).reason == "no marker"


def test_labels_and_metrics_count_it():
    task = Gsm8k()
    sampled = [completion("a\n[ANS] 12", 0), completion("b\n[ANS] 12", 1, truncated=False), completion("c [ANS] 1", 2)]
    (group,), counts = label_completions([QUESTION], {}, sampled, task)
    assert [(candidate.label, candidate.answer) for candidate in group.candidates] == [
        ("unparsed", None),
        ("positive", "12"),
        ("unparsed", None),
    ]
    assert counts.unparsed == {CUT: 2} and f"unparsed: {CUT}" in counts.table()
    lines = judge(sampled, [QUESTION], task)
    assert [line["unparsed"] for line in lines] == [CUT, None, CUT]
    accuracy = task_accuracy(lines)
    assert (accuracy["correct"], accuracy["unparsed"], accuracy["truncated"]) == (1, 2, 2)
