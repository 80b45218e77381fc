"""What tasks from files share: cutting, overlaps, fingerprints, answer kinds."""

from __future__ import annotations

import re

import pytest

from aft.errors import ConfigError
from aft.records import Question
from aft.tasks.kinds import KINDS, with_options
from aft.tasks.sources import cut, cut_training, describe_common, digest_questions, remove_overlaps, shuffled


def make(*texts, rationale="because"):
    return [Question(str(number), text, "1", rationale) for number, text in enumerate(texts)]


def texts(questions):
    return [question.question for question in questions]


def test_cut():
    assert cut("abcdef", {"x": 2, "y": None, "z": 1}, "6") == [["a", "b"], ["c", "d", "e"], ["f"]]
    assert cut("abc", {"x": 0, "y": 2}, "3") == [[], ["a", "b"]]
    with pytest.raises(ConfigError, match=re.escape("data.x: got 2, data.z: got 5; available: 6 letters")):
        cut("abcdef", {"x": 2, "y": None, "z": 5}, "6 letters")


@pytest.mark.parametrize(
    ("num_train", "num_answer_only", "train", "only"),
    [
        (None, None, "abcd", "xy"),  # all chains; the answers of those that have none
        (None, 0, "abcd", ""),
        (None, 1, "abcd", "x"),
        (None, 3, "abc", "xyd"),  # one chain is withheld
        (2, 3, "ab", "xyc"),
        (2, None, "ab", "xy"),
    ],
)
def test_training_questions_are_those_with_a_chain(num_train, num_answer_only, train, only):
    questions = [*make("a", "b"), *make("x", "y", rationale=None), *make("c", "d")]
    chained, bare = cut_training(questions, num_train, num_answer_only, "it")
    assert texts(chained) == list(train)
    assert texts(bare) == list(only)
    assert all(question.rationale is None for question in bare)


def test_too_many_training_questions():
    questions = [*make("a", "b"), *make("x", rationale=None)]
    with pytest.raises(ConfigError, match="available: 3 questions in it's train file, 2 of them with a chain"):
        cut_training(questions, 3, None, "it")


def test_overlaps_are_removed_and_counted():
    train = make("One  more", "two", "TWO", "three", "four", "four")
    held_out = {"validation": make("one more", "five"), "test": make("three", "five", "One More")}
    kept, notes = remove_overlaps(train, held_out)
    assert texts(kept) == ["two", "four"]
    assert notes == [
        "2 questions removed from training: also held out (1 in validation, 2 in test)",
        "2 questions removed from training: the wording of an earlier one",
    ]
    assert describe_common(held_out) == ["2 questions of validation also in test: kept in both"]
    assert remove_overlaps(make("a", "b"), {"test": make("c")}) == (make("a", "b"), [])


def test_shuffling_copies():
    questions = make(*"abcdefgh")
    again = shuffled(questions, 3)
    assert again == shuffled(questions, 3) != questions
    assert sorted(texts(again)) == texts(questions) == list("abcdefgh")


def test_the_digest_follows_every_field():
    question = Question("1", "q", "A", None, ("x", "y"), "c")
    digests = {
        digest_questions([[other]])
        for other in (
            question,
            Question("2", "q", "A", None, ("x", "y"), "c"),
            Question("1", "q", "A", "r", ("x", "y"), "c"),
            Question("1", "q", "A", None, ("x", "z"), "c"),
            Question("1", "q", "A", None, ("x", "y"), None),
            Question("1", "q", "A", None, None, "c"),
        )
    }
    assert len(digests) == 6
    assert digest_questions([[question], []]) == digest_questions([[question]])


OPTIONS = ("four", "14", "40", "four")


@pytest.mark.parametrize(
    ("kind", "rationale", "answer", "options", "response", "right", "wrong"),
    [
        ("number", "2 * 9", "18", None, "2 * 9\n[ANS] 18", "$18.00", "19"),
        ("text", "It is blue.", "Blue sky", None, "It is blue.\n[ANS] Blue sky", "blue  sky.", "sky"),
        ("choice", "So it is.", "B", OPTIONS, "So it is.\n[ANS] (B)", "B", "A"),
        ("boxed", "So \\boxed{x^{2}} it is.", "x^{2}", None, "So \\boxed{x^{2}} it is.", "\\boxed{x^{2}}", "x"),
        ("boxed", "So it is.", "x^{2}", None, "So it is.\n\\boxed{x^{2}}", "\\boxed{x^{2}}", "\\boxed{x}"),
    ],
)
def test_each_kind_writes_reads_and_compares(kind, rationale, answer, options, response, right, wrong):
    kind = KINDS[kind]
    question = Question("q", "?", answer, rationale, options)
    assert kind.problem(question) is None
    assert kind.write(rationale, "[ANS]", answer) == response

    def is_right(completion):
        found = kind.extract(completion, "[ANS]", question).answer
        return found is not None and kind.equal(found, question)

    assert is_right(response)
    assert is_right(f"[ANS] {right}")
    assert not is_right(f"[ANS] {wrong}")
    assert not is_right("")


def test_options_with_the_same_text_are_equally_right():
    kind = KINDS["choice"]
    assert kind.equal("D", Question("q", "?", "A", None, OPTIONS))
    assert not kind.equal("B", Question("q", "?", "A", None, OPTIONS))
    assert not kind.equal("Z", Question("q", "?", "A", None, OPTIONS))


@pytest.mark.parametrize(
    ("kind", "answer", "options", "problem"),
    [
        ("number", "eighteen cats", None, "must be a number, got 'eighteen cats'"),
        ("choice", "E", OPTIONS, "must be the letter of an option (A, B, C, D), got 'E'"),
        ("choice", "AB", OPTIONS, "must be the letter of an option (A, B, C, D), got 'AB'"),
        ("choice", "A", None, "must be the letter of an option (there are none), got 'A'"),
        ("text", " ", None, "must be text on one line, got ' '"),
        ("text", "a\nb", None, "must be text on one line, got 'a\\nb'"),
        ("boxed", "{", None, "must be LaTeX with balanced braces, got '{'"),
    ],
)
def test_a_gold_answer_that_nothing_could_equal(kind, answer, options, problem):
    assert KINDS[kind].problem(Question("q", "?", answer, None, options)) == problem


def test_a_choice_needs_its_question():
    with pytest.raises(ValueError, match="without its question's options"):
        KINDS["choice"].extract("[ANS] A", "[ANS]", None)


def test_options_stand_below_the_question():
    assert with_options("Which?", ("this", "that one")) == "Which?\nOptions:\n(A) this\n(B) that one"
