"""The step checker: points of chains written by hand, and of every chain that the task itself calls right."""

from __future__ import annotations

import random

import pytest

from aft.errors import DataError
from aft.records import NEGATIVE, POSITIVE, UNPARSED
from aft.tasks.arithmetic import Arithmetic
from aft.tasks.base import PRETRAIN, TEST, TRAIN
from aft.tasks.steps import rate

TASK = Arithmetic(num_train=200, num_test=200, num_pretrain=400)
WORD = {operation: next(v.word for v in TASK.verbs if v.operation == operation) for operation in "+-*/"}
# 20 + 5 = 25, 25 - 8 = 17, 17 * 2 = 34
QUESTION = f"Eve has 20 apples . {WORD['+']} 5 . {WORD['-']} 8 . {WORD['*']} 2 . how many ?"


def points(chain: str, label: str = POSITIVE) -> float:
    return rate(question=QUESTION, reference=None, completion=f"{chain} [ANS] 34", answer="34", label=label)


@pytest.mark.parametrize(
    ("chain", "lost"),
    [
        ("20 + 5 = 25 . so 25 - 8 = 17 . 17 * 2 is 34 .", 0),
        ("5 + 20 = 25 . now 25 - 8 gives 17 . so 2 * 17 = 34 .", 0),  # operands swapped
        ("20 - 5 = 15 . 15 - 8 = 7 . 7 * 2 = 14 .", 1),  # wrong operation, carried along
        ("20 - 5 = 16 . 16 - 8 = 8 . 8 * 2 = 16 .", 1),  # two faults in one step
        ("20 + 5 = 25 . 25 - 8 = 27 . 27 * 2 = 44 .", 2),  # a borrow and a carry forgotten
        ("20 + 5 = 25 . 25 * 2 = 50 .", 1),  # the second is missing
        ("20 + 5 = 25 . 25 - 8 = 17 .", 1),  # the last is missing
        ("20 + 5 = 25 . 25 + 1 = 26 . 26 - 8 = 18 . 18 * 2 = 36 .", 1),  # one too many, in the middle
        ("20 + 5 = 25 . 25 - 8 = 17 . 17 * 2 = 34 . 34 + 1 = 35 .", 1),  # and at the end
        ("20 + 5 = 25 . apples apples . 25 - 8 = 17 . 17 * 2 = 34 .", 1),  # no step at all
        ("20 + 5 = 25 . 25 - = 17 . 17 * 2 = 34 .", 2),  # ill-formed, and what follows stands on 25
        ("", 3),
        (" . ".join(["1 + 1 = 3"] * 20), 9),  # no lower than 1
    ],
)
def test_points_of_a_chain(chain, lost):
    assert points(chain) == 10 - lost


def test_a_wrong_answer_costs_a_point():
    right = "20 + 5 = 25 . 25 - 8 = 17 . 17 * 2 = 34 ."
    assert [points(right, label) for label in (POSITIVE, NEGATIVE, UNPARSED)] == [10, 9, 9]
    assert points("", NEGATIVE) == 6


@pytest.mark.parametrize("split", [TRAIN, TEST])
def test_right_chains_keep_all_points(split):
    for question in TASK.load(split, seed=3):
        response = TASK.reference_response(question)
        assert rate(question.question, response, response, question.answer, POSITIVE) == 10


def test_faulty_chains_lose_a_point_exactly_where_the_checker_names_a_fault():
    questions = TASK.load(PRETRAIN)
    faulty = 0
    for question in questions:
        check = TASK.check_chain(question.question, question.rationale)
        lost = 10 - rate(question.question, None, f"{question.rationale} [ANS] 1", "1", POSITIVE)
        assert (lost > 0) == bool(check.kinds) and lost <= len(check.kinds)
        faulty += lost > 0
    assert 50 < faulty < len(questions)


def test_a_step_left_out_never_goes_unnoticed():
    rng = random.Random(0)
    for question in TASK.load(TRAIN, seed=1):
        steps = question.rationale.split(" .")[:-1]
        del steps[rng.randrange(len(steps))]
        left = " .".join([*steps, ""])
        # what follows a step that is gone may also stand on a value that the chain never reached
        assert rate(question.question, None, left, question.answer, POSITIVE) <= 9


def test_another_world_is_refused():
    with pytest.raises(DataError, match="not a question of this arithmetic world"):
        rate("Eve has two apples .", None, "", "2", NEGATIVE)
    other = Arithmetic(data_seed=5, num_train=20, marker="=>")
    for question in other.load(TRAIN):
        response = other.reference_response(question)
        assert rate(question.question, None, response, question.answer, POSITIVE, data_seed=5, marker="=>") == 10
