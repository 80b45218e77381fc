"""Mixtures of generated tasks: what a base model reads, its vocabulary, and parts that are only evaluated."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from task_data import write_rows

from aft.errors import ConfigError
from aft.tasks import make_task
from aft.tasks.base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION, closed_vocabulary
from aft.tasks.phrasings import read_question

SIZES = {"num_train": 30, "num_answer_only": 20, "num_validation": 10, "num_test": 40, "num_pretrain": 300}
FEW = {"min_statements": 1, "max_statements": 1}  # few problems, so that a leak would be seen


def generated(name="arithmetic", share=None, **changes):
    sizes = {key: changes.pop(key, value) for key, value in SIZES.items()}
    return {"share": share, "data": {"name": name, **sizes, "options": changes}}


def held_out(**options):
    return generated(share=0, num_validation=0, **options)


@pytest.fixture
def parts():
    return {
        "plain": generated(phrasing="mixed"),
        "choice": generated(num_choices=4, num_pretrain=200),
        "creatures": generated("creatures"),
        "long": held_out(min_statements=5, max_statements=6),
        "other": held_out(phrasing="other"),
    }


def by_part(questions):
    return dict(Counter(question.category for question in questions))


def test_a_base_model_reads_the_pretrain_text_of_the_parts_that_train(parts):
    task = make_task("mixture", parts=parts)
    questions = task.load(PRETRAIN)
    assert by_part(questions) == {"plain": 300, "choice": 200, "creatures": 300}
    assert set(by_part(questions[:40])) == {"plain", "choice", "creatures"}
    assert questions == make_task("mixture", parts=parts).load(PRETRAIN)
    own = {question.id: question for question in make_task(**parts["choice"]["data"]).load(PRETRAIN)}
    choice = [question for question in questions if question.category == "choice"]
    assert {question.id.removeprefix("choice/") for question in choice} == set(own)
    for question in choice:
        original = own[question.id.removeprefix("choice/")]
        assert (question.question, question.answer) == (original.question, original.answer)
        option = original.options["ABCD".index(original.answer)]
        assert task.reference_response(question) == f"{original.rationale} [ANS] {option}"
    # some of it is wrong, none of what is trained on later
    assert any(task.parts["plain"].task.check_chain(q.question, q.rationale).kinds for q in questions if q.id[0] == "p")


def test_a_mixture_beside_real_tasks_reads_their_training_questions(parts, tmp_path):
    rows = [{"question": f"Is it {n}?", "answer": n, "rationale": f"It is {n}."} for n in range(12)]
    write_rows(tmp_path / "numbers.jsonl", rows)
    parts["own"] = {"data": {"name": "jsonl", "train": str(tmp_path / "numbers.jsonl"), "num_test": 2}}
    task = make_task("mixture", parts=parts)
    assert by_part(task.load(PRETRAIN)) == {"plain": 300, "choice": 200, "creatures": 300, "own": 10}
    assert closed_vocabulary(task) is None  # one part does not know its tokens
    parts = {"own": parts["own"], "long": parts["long"]}
    alone = make_task("mixture", parts=parts)
    assert alone.load(PRETRAIN) == alone.load(TRAIN) and by_part(alone.load(PRETRAIN)) == {"own": 10}


def test_the_vocabulary_is_the_union_in_order_of_first_occurrence(parts):
    task = make_task("mixture", parts=parts)
    vocabulary = closed_vocabulary(task)
    assert vocabulary is not None and len(vocabulary) == len(set(vocabulary))
    own = [closed_vocabulary(part.task) for part in task.parts.values()]
    assert set(vocabulary) == set().union(*own)
    assert vocabulary[: len(own[0])] == own[0]
    known = set(vocabulary)
    for split in SPLITS:
        for question in task.load(split):
            response = task.reference_response(question) if question.rationale is not None else ""
            assert set(f"{question.question} {response}".split()) <= known


def test_parts_that_are_only_evaluated(parts):
    task = make_task("mixture", parts=parts)
    assert by_part(task.load(TRAIN)) == {"plain": 30, "choice": 30, "creatures": 30}
    assert by_part(task.load(ANSWER_ONLY)) == {"plain": 20, "choice": 20, "creatures": 20}
    assert by_part(task.load(VALIDATION)) == {"plain": 10, "choice": 10, "creatures": 10}
    assert by_part(task.load(TEST)) == dict.fromkeys(parts, 40)
    for question in task.load(TEST):
        answer = task.extract_answer(task.reference_response(question), question).answer
        assert answer is not None and task.is_correct(answer, question)
        if question.category == "long":
            assert question.question.count(" . ") - 1 in (5, 6)


def test_no_part_trains_on_what_another_tests():
    parts = {
        "plain": generated(**FEW),
        "choice": generated(num_choices=4, **FEW),
        "mixed": generated(phrasing="mixed", **FEW),
        "other": held_out(phrasing="other", **FEW),
    }
    task = make_task("mixture", parts=parts)
    problems = {split: set() for split in SPLITS}
    for split in SPLITS:
        for seed in range(2):
            for question in task.load(split, seed=seed):
                start, told = read_question(question.question)
                problems[split].add((start, *told))
    for split in (TRAIN, ANSWER_ONLY, PRETRAIN):
        assert not problems[split] & (problems[VALIDATION] | problems[TEST])
    assert not any("removed" in note for note in task.notes())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (generated(slip=2.0), "data.parts.x.data: slip: must be a rate between 0 and 1, got 2.0"),
        (generated(num_choice=4), "data.parts.x.data.options.num_choice: no such option. Did you mean 'num_choices'?"),
        (
            generated(num_train=90_000, frequency_exponent=20.0, **FEW),
            "data.parts.x.data: num_train: this world has only about",
        ),
    ],
)
def test_what_is_wrong_with_a_part_is_named_by_its_key(parts, section, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_task("mixture", parts={**parts, "x": section}).load(TRAIN)
