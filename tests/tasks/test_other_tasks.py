"""SVAMP and MATH, on small files and on rows of the hub's fields."""

from __future__ import annotations

import pytest
from task_data import ids, round_trip, serve, splits, write_rows

from aft.errors import DataError
from aft.tasks.base import TEST, TRAIN
from aft.tasks.math import SUBJECTS, Math
from aft.tasks.svamp import Svamp


def svamp_row(number, **changes):
    row = {
        "ID": f"chal-{number}",
        "Body": f"Ann had {number} pens. ",
        "Question": "She got 2 more. How many has she?",
        "Equation": f"( {number}.0 + 2.0 )",
        "Answer": f"{number + 2}.0",
        "Type": "Addition",
        "question_concat": f"Ann had {number} pens. She got 2 more. How many has she?",
    }
    return {**row, **changes}


@pytest.fixture
def svamp_rows():
    return {"train": [svamp_row(number) for number in range(12)], "test": [svamp_row(number) for number in (3, 40, 41)]}


def test_svamp(tmp_path, svamp_rows, monkeypatch):
    for file, rows in svamp_rows.items():
        write_rows(tmp_path / f"{file}.jsonl", rows)
    task = Svamp(str(tmp_path), num_validation=4)
    question = task.records(TEST)[1]
    assert question.question == "Ann had 40 pens. She got 2 more. How many has she?"
    assert (question.id, question.answer, question.category) == ("svamp-test-000001", "42", "Addition")
    assert task.reference_response(question) == "( 40.0 + 2.0 )\n[ANS] 42"
    assert all(round_trip(task, question) for file in task.FILES for question in task.records(file))
    assert splits(task) == {"train": 7, "answer_only": 0, "validation": 4, "test": 3}
    assert task.notes() == ["1 question removed from training: also held out (1 in test)"]
    serve(monkeypatch, {("ChilleD/SVAMP", None, file): rows for file, rows in svamp_rows.items()})
    assert Svamp().fingerprint() == task.fingerprint()


def test_svamp_without_the_joined_text(tmp_path):
    row = svamp_row(5, Answer=7, Equation="", question_concat=None)
    write_rows(tmp_path / "train.jsonl", [row])
    write_rows(tmp_path / "test.jsonl", [svamp_row(6, Answer="many")])
    task = Svamp(str(tmp_path), num_validation=0)
    (question,) = task.records(TRAIN)
    assert question.question == "Ann had 5 pens. She got 2 more. How many has she?"
    assert (question.answer, question.rationale) == ("7", None)
    with pytest.raises(DataError, match=r"test\.jsonl:1: 'Answer' must be a number, got 'many'"):
        task.load(TEST)


def math_row(number, subject="Algebra"):
    return {
        "problem": f"What is $\\frac{{{number}}}{{7}}$, simplified?",
        "level": "Level 1",
        "type": subject,
        "solution": f"Not $\\boxed{{0}}$: it is $\\boxed{{\\frac{{{number}}}{{7}}}}$.",
    }


def test_math(tmp_path, monkeypatch):
    rows = {"train": [math_row(number) for number in range(1, 13)], "test": [math_row(12), math_row(13), math_row(15)]}
    for file in rows:
        write_rows(tmp_path / f"{file}.jsonl", rows[file])
    task = Math(str(tmp_path), num_validation=4)
    question = task.records(TEST)[1]
    assert (question.id, question.answer, question.category) == ("math-test-000001", "\\frac{13}{7}", "Algebra")
    assert task.reference_response(question) == rows["test"][1]["solution"]
    assert all(round_trip(task, question) for file in task.FILES for question in task.records(file))
    assert not task.is_correct("\\frac{14}{7}", question)
    assert splits(task) == {"train": 7, "answer_only": 0, "validation": 4, "test": 3}
    # the hub keeps a configuration per subject
    hub = {
        ("EleutherAI/hendrycks_math", subject, file): [math_row(100 + place, subject)]
        for file in rows
        for place, subject in enumerate(SUBJECTS)
    }
    serve(monkeypatch, hub)
    assert [question.category for question in Math().records(TEST)] == list(SUBJECTS)
    assert ids(Math().records(TEST))[-1] == "math-test-000006"


def test_a_solution_without_a_box(tmp_path):
    write_rows(tmp_path / "train.jsonl", [{"problem": "p", "solution": "It is 3."}])
    write_rows(tmp_path / "test.jsonl", [math_row(1)])
    with pytest.raises(DataError, match=r"train\.jsonl:1: 'solution' has no answer in \\boxed\{\.\.\.\}: "):
        Math(str(tmp_path)).load(TRAIN)


# ---- the hub ----


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("Dataset scripts are no longer supported, but found aqua_rat.py"),
        ValueError("The repository contains custom code. Pass the argument `trust_remote_code=True`"),
    ],
)
def test_a_data_set_with_a_loading_script_is_one_clear_line(monkeypatch, raised):
    datasets = pytest.importorskip("datasets")

    def load_dataset(name, config, split):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        Svamp().load(TRAIN)
    message = str(caught.value)
    assert message.startswith("data set ChilleD/SVAMP on the hub has a loading script, which datasets does not run (")
    assert message.endswith("data.path=DIR takes a folder with train.jsonl and test.jsonl") and "\n" not in message


@pytest.mark.parametrize("skip", [False, True])
def test_what_the_hub_serves_may_be_skipped_too(monkeypatch, skip):
    rows = [
        {"Body": "He has 3.", "Question": "How many?", "Equation": "3", "Answer": answer, "Type": "-"}
        for answer in ("3", "none", "4")
    ]
    serve(monkeypatch, {("ChilleD/SVAMP", None, split): rows for split in ("train", "test")})
    task = Svamp(skip_unreadable=skip)
    if not skip:
        with pytest.raises(
            DataError, match=r"^ChilleD/SVAMP, train:2: 'Answer' must be a number.*data\.skip_unreadable"
        ):
            task.records(TRAIN)
    else:
        assert ids(task.records(TRAIN)) == ["svamp-train-000000", "svamp-train-000002"]
