"""Every record of the public data sets loads, and every reference response is read as its own gold answer."""

from __future__ import annotations

import pytest
from task_data import round_trip, splits

from aft.tasks.aqua import Aqua
from aft.tasks.base import ANSWER_ONLY, TEST, TRAIN, VALIDATION
from aft.tasks.ecqa import Ecqa
from aft.tasks.gsm8k import Gsm8k
from aft.tasks.mmlu import Mmlu
from shared_data import shared_path

# per task: records in each file, splits with the defaults, notes; the same figures stand in docs/data.md
EXPECTED = {
    Gsm8k: (
        {TRAIN: 7473, TEST: 1319},
        {TRAIN: 7473, ANSWER_ONLY: 0, VALIDATION: 400, TEST: 919},
        [],
    ),
    Aqua: (
        {TRAIN: 2728, VALIDATION: 254, TEST: 254},
        {TRAIN: 2139, ANSWER_ONLY: 0, VALIDATION: 254, TEST: 254},
        [
            "4 questions removed from training: also held out (4 in validation)",
            "585 questions removed from training: the wording of an earlier one",
            "the training file (flan_aqua_train.tsv) has 2,139 usable questions, too few for the paper's"
            " 5,000 / 400 / 1,254: dev is validation, test is test, the rest is train, except for sizes that are set",
        ],
    ),
    Ecqa: (
        {TRAIN: 7598, VALIDATION: 1090, TEST: 2194},
        {TRAIN: 7080, ANSWER_ONLY: 486, VALIDATION: 1090, TEST: 2194},
        [
            "32 questions removed from training: also held out (7 in validation, 32 in test)",
            "11 questions of validation also in test: kept in both",
            "486 questions to train on without a chain: at most the answer is used",
        ],
    ),
    Mmlu: (
        {VALIDATION: 285, TEST: 14042},
        {TRAIN: 0, ANSWER_ONLY: 0, VALIDATION: 285, TEST: 14042},
        ["5 questions of validation also in test: kept in both"],
    ),
}


@pytest.mark.parametrize("task_class", EXPECTED, ids=lambda task: task.TITLE)
def test_every_record(task_class):
    files, sizes, notes = EXPECTED[task_class]
    task = task_class(str(shared_path("data", task_class.__name__.lower())))
    assert {file: len(task.records(file)) for file in task.FILES} == files
    assert splits(task) == sizes
    assert task.notes() == notes
    questions = [question for file in task.FILES for question in task.records(file)]
    assert len({question.id for question in questions}) == len(questions)
    assert [question.id for question in questions if not round_trip(task, question)] == []
    trained = {task._key(question) for split in (TRAIN, ANSWER_ONLY) for question in task.load(split)}
    held_out = {task._key(question) for split in (VALIDATION, TEST) for question in task.load(split)}
    assert not trained & held_out
    # an answer other than the gold one is wrong, unless its option reads the same
    letters = [q for q in questions if q.options and len(set(q.options)) == len(q.options)]
    assert len(letters) > 0 or task_class is Gsm8k
    assert not any(task.is_correct("B" if question.answer == "A" else "A", question) for question in letters)


def test_categories_of_mmlu():
    task = Mmlu(str(shared_path("data", "mmlu")))
    assert len({question.category for question in task.load(TEST)}) == 57
    assert {question.category for question in task.load(VALIDATION)} == {q.category for q in task.load(TEST)}
