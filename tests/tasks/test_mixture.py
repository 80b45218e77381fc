"""Several tasks as one: ids, weights, overlaps, and whose rules read an answer."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter

import pytest
from task_data import ids, round_trip, splits, write_rows

from aft.config import load_config, to_yaml
from aft.errors import ConfigError
from aft.launch.conductor import conduct
from aft.stages.plan import Plan
from aft.tasks import hub_names, make_task
from aft.tasks.base import ANSWER_ONLY, TEST, TRAIN, VALIDATION


def numbers(start, stop, **changes):
    return [{"question": f"Is it {n}?", "answer": n, "rationale": f"It is {n}.", **changes} for n in range(start, stop)]


@pytest.fixture
def sections(tmp_path):
    """Two tasks: 20 training questions with numbers, 10 with letters."""
    write_rows(tmp_path / "numbers.jsonl", numbers(0, 26))
    letters = [
        {"question": f"Which, {n}?", "answer": "B", "options": ["4", str(n)], "rationale": "The other."}
        for n in range(10, 23)
    ]
    write_rows(tmp_path / "letters.jsonl", letters)
    common = {"num_validation": 2}
    return {
        "sums": {"data": {"name": "jsonl", "train": str(tmp_path / "numbers.jsonl"), "num_test": 4, **common}},
        "picks": {
            "data": {
                "name": "jsonl",
                "train": str(tmp_path / "letters.jsonl"),
                "answer_type": "choice",
                "num_test": 1,
                "answer_marker": "####",
                **common,
            }
        },
    }


def by_part(questions):
    return dict(Counter(question.id.split("/")[0] for question in questions))


def test_all_parts_are_there_and_mixed(sections):
    task = make_task("mixture", parts=sections)
    assert splits(task) == {"train": 30, "answer_only": 0, "validation": 4, "test": 5}
    train = task.load(TRAIN)
    assert by_part(train) == {"sums": 20, "picks": 10}
    assert all(question.category == question.id.split("/")[0] for question in train)
    assert set(by_part(train[:10])) == {"sums", "picks"}  # whoever takes the first few takes some of each
    assert train == make_task("mixture", parts=sections).load(TRAIN) == task.load("pretrain")
    assert ids(train) != ids(make_task("mixture", parts=sections, split_seed=1).load(TRAIN))
    assert task.notes() == ["training questions by part: sums 20, picks 10"]


def test_each_question_is_read_by_its_parts_rules(sections):
    task = make_task("mixture", parts=sections)
    for split in (TRAIN, VALIDATION, TEST):
        assert all(round_trip_of(task, question) for question in task.load(split))
    pick = next(question for question in task.load(TRAIN) if question.category == "picks")
    assert task.reference_response(pick) == "The other.\n#### (B)"
    assert task.extract_answer("[ANS] 4 #### A", pick).answer == "A"
    assert task.extract_answer("[ANS] 4", pick).answer is None
    # a task that has loaded nothing itself reads it the same
    fresh = make_task("mixture", parts=sections)
    assert fresh.extract_answer("#### B", pick).answer == "B"
    assert fresh.is_correct("B", pick)
    with pytest.raises(ValueError, match="it needs the question"):
        task.extract_answer("#### B")
    with pytest.raises(ValueError, match=re.escape("question 'x/1' is of no part of this mixture (sums, picks)")):
        task.is_correct("B", dataclasses.replace(pick, id="x/1"))


def round_trip_of(task, question):
    answer = task.extract_answer(task.reference_response(question), question).answer
    return answer is not None and task.is_correct(answer, question)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.5, 0.5), {"sums": 10, "picks": 10}),
        ((0.8, 0.2), {"sums": 20, "picks": 5}),
        ((0.75, 0.25), {"sums": 20, "picks": 6}),
        ((0, None), {"picks": 10}),
        ((0, 1), {"picks": 10}),
        ((None, 0), {"sums": 20}),
    ],
)
def test_shares(sections, shares, expected):
    for section, share in zip(sections.values(), shares, strict=True):
        section["share"] = share
    task = make_task("mixture", parts=sections)
    assert by_part(task.load(TRAIN)) == expected
    assert by_part(task.load(TEST)) == {"sums": 4, "picks": 1}  # a part that trains nothing is evaluated


def test_a_share_takes_the_parts_first_questions(sections):
    whole = make_task("mixture", parts=sections)
    sections["sums"]["share"], sections["picks"]["share"] = 0.5, 0.5
    part = make_task("mixture", parts=sections)
    assert set(ids(part.load(TRAIN))) < set(ids(whole.load(TRAIN)))


def test_numbers_are_the_parts_own(sections):
    sections["sums"]["data"]["num_train"] = 3
    sections["sums"]["data"]["num_answer_only"] = 2
    task = make_task("mixture", parts=sections)
    assert by_part(task.load(TRAIN)) == {"sums": 3, "picks": 10}
    assert by_part(task.load(ANSWER_ONLY)) == {"sums": 2}
    sections["sums"]["share"] = 0
    assert by_part(make_task("mixture", parts=sections).load(ANSWER_ONLY)) == {}


def test_what_another_part_holds_out_is_not_trained_on(sections, tmp_path):
    write_rows(tmp_path / "held.jsonl", numbers(0, 26))
    sections["held"] = {"data": {"name": "jsonl", "test": str(tmp_path / "held.jsonl")}}
    task = make_task("mixture", parts=sections)
    assert by_part(task.load(TRAIN)) == {"picks": 10}
    assert task.notes() == [
        "sums: 20 questions removed from training: also held out (20 in held's test)",
        "6 questions of sums also in held: kept in both",
        "training questions by part: picks 10",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sums": {"share": 0.5}}, "data.parts: the shares must sum to 1, got 0.5"),
        ({"sums": {"share": 1.0}}, "data.parts.picks.share: null, but other parts have a share; give each one or none"),
        ({"a/b": {"data": {"name": "gsm8k"}}}, "data.parts.a/b: letters, digits, '.', '_' and '-' only"),
        (
            {"x": {"data": {"name": "gsm8k", "num_train": -1}}},
            "data.parts.x.data.num_train: must be at least 0, got -1",
        ),
        ({"x": {"data": {"name": "jsonl", "train": "no"}}}, "data.parts.x.data.train: no file no (looked in "),
    ],
)
def test_what_is_wrong_with_a_mixture(sections, changes, message):
    for name, change in changes.items():
        sections.setdefault(name, {}).update(change)
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_task("mixture", parts=sections).load(TRAIN)


def test_a_mixture_without_parts():
    with pytest.raises(ConfigError, match=r"data\.parts: empty"):
        make_task("mixture", parts={})


def test_it_is_chosen_by_yaml_and_the_run_keeps_what_was_done(sections, tmp_path):
    path = tmp_path / "run.yaml"
    sections["sums"]["share"] = 0
    text = f"output_dir: {tmp_path}/run\nmodel: {{name_or_path: a/b}}\n"
    text += f"data: {{name: mixture, parts: {json.dumps(sections)}}}\n"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.data.parts["picks"].data.answer_marker == "####"
    (tmp_path / "again.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config
    plan = Plan(config)
    conduct(plan, [])
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["questions"] == {"train": 10, "answer_only": 0, "validation": 4, "test": 5}
    assert kept["notes"] == ["training questions by part: picks 10"]
    with pytest.raises(ConfigError, match=r"data\.parts\.sums\.data\.answer_marker: empty"):
        load_config(path, ["data.parts.sums.data.answer_marker=' '"])
    with pytest.raises(ConfigError, match=r"data\.parts\.sums\.data\.name: got 'jsnl'"):
        load_config(path, ["data.parts.sums.data.name=jsnl"])


def test_a_pool_larger_than_validation_is_an_error(sections, tmp_path):
    path = tmp_path / "run.yaml"
    text = f"output_dir: {tmp_path}/run\nmodel: {{name_or_path: a/b}}\nsample: {{pool_questions: 5}}\n"
    path.write_text(text + f"data: {{name: mixture, parts: {json.dumps(sections)}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"sample\.pool_questions: 5, but there are 4 validation questions"):
        Plan(load_config(path)).pool_questions(0)


def test_the_data_sets_of_a_model_card(sections, tmp_path):
    sections["quiz"] = {"data": {"name": "mmlu"}}
    path = tmp_path / "run.yaml"
    text = f"output_dir: {tmp_path}/run\nmodel: {{name_or_path: a/b}}\n"
    path.write_text(text + f"data: {{name: mixture, parts: {json.dumps(sections)}}}\n", encoding="utf-8")
    assert hub_names(load_config(path).data) == ["cais/mmlu"]


def test_references_survive(sections):
    task = make_task("mixture", parts=sections)
    assert round_trip(task, next(question for question in task.load(TRAIN) if question.category == "sums"))
