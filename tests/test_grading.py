"""Whether a completion is right, above all one that the length limit has cut: its last word may be half an answer."""

from __future__ import annotations

import time

import pytest

from aft.answers import Extraction, extract_boxed, extract_choice, extract_number, extract_text
from aft.evaluation.accuracy import task_accuracy
from aft.grading import CUT, Verdict, grade, grade_all
from aft.labelling.labels import label_completions
from aft.records import Completion, Question
from aft.tasks.gsm8k import Gsm8k

QUESTION = Question("q", "How many?", "12", options=("cats", "dogs", "12 hens"))
MARKER = "[ANS]"


class Kind:
    """A task that reads one kind of answer, and takes every answer for right."""

    def __init__(self, extract):
        self.extract_answer = extract

    def is_correct(self, answer, question):
        return True


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
        # the beginning of a word that would change the number
        (NUMBER, "[ANS] 12 tho", None),
        (NUMBER, "[ANS] 12 Mill", None),
        (NUMBER, "[ANS] 12 hundre", None),
        (NUMBER, "[ANS] 12tho", None),
        (NUMBER, "[ANS] 12 mi", None),  # miles, or million
        (NUMBER, "[ANS] $12 bil", None),
        (NUMBER, "[ANS] 2 thir", None),
        (NUMBER, "[ANS] 3 qua", None),
        (NUMBER, "[ANS] 3 hours and a hal", None),
        (NUMBER, "[ANS] 12 hour", "12"),
        (NUMBER, "[ANS] 12 thousand ", "12000"),
        (NUMBER, "[ANS] 12 tho\n", "12"),
        (NUMBER, "[ANS] 12\nSo tho", "12"),
        (CHOICE, "[ANS] (C) 12 hun", "C"),
        (BOXED, r"so \boxed{12} tho", "12"),
    ],
)
def test_an_answer_at_the_end_of_a_cut_completion_is_none(task, text, answer):
    found = grade(task, completion(text), QUESTION)
    assert (found.answer, found.reason) == (answer, None if answer else CUT)
    assert found.is_correct == (answer is not None)
    whole, plain = grade(task, completion(text, truncated=False), QUESTION), task.extract_answer(text, QUESTION)
    assert whole == Verdict(plain.answer, True, None) and whole.answer is not None


def test_a_cut_completion_without_an_answer_keeps_its_reason():
    assert grade(NUMBER, completion("12"), QUESTION) == Verdict(None, False, "no marker")


def test_the_task_says_what_is_right_and_the_label_follows():
    found = [grade(Gsm8k(), completion(text, truncated=False), QUESTION) for text in ("[ANS] 12.0", "[ANS] 13", "13")]
    assert [one.is_correct for one in found] == [True, False, False]
    assert [one.label for one in found] == ["positive", "negative", "unparsed"]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("a bc", "a "),
        ("a\u2003bc", "a\u2003"),
        ("a bc\n", "a bc\n"),
        ("bc", ""),
        (" ", " "),
        ("", ""),
        ("c b c", "c b "),
    ],
)
def test_the_last_word_is_what_follows_the_last_white_space(text, before):
    seen = []

    def whole(text, question):
        seen.append(text)
        return Extraction(text, None)

    grade(Kind(whole), completion(text), QUESTION)
    assert seen[:2] == [text, before]


@pytest.mark.parametrize("end", ["", " y", "\n"])
def test_time_grows_with_the_length_of_a_word_alone(end):
    """Eight times the length takes at most about eight times as long; quadratic would be sixty-four times."""
    task = Kind(lambda text, question: Extraction(text, None))

    def seconds(size: int) -> float:
        sampled, times = completion("x" * size + end), []
        for _ in range(5):
            begun = time.process_time()
            grade(task, sampled, QUESTION)
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(32_000) < 24 * max(seconds(4_000), 1e-4)


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
    lines = grade_all(task, sampled, [QUESTION])
    assert [line["unparsed"] for line in lines] == [CUT, None, CUT]
    accuracy = task_accuracy(lines)
    assert accuracy.beside == {"correct": 1, "unparsed": 2, "truncated": 2}
