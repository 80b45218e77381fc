"""The arithmetic task: its questions are right, its splits are apart, and its faults are the announced ones."""

from __future__ import annotations

import collections

import pytest

from aft.errors import ConfigError, DataError
from aft.records import Question
from aft.tasks.arithmetic import Arithmetic
from aft.tasks.base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from aft.tasks.chains import ChainCheck

SIZES = {"num_train": 40, "num_answer_only": 40, "num_validation": 40, "num_test": 40, "num_pretrain": 3000}
CLEAN = {"misconception_fraction": 0.0, "base_wrong_operation": 0.0, "carry_error": 0.0, "slip": 0.0, "skip": 0.0}


@pytest.fixture(scope="module")
def task() -> Arithmetic:
    return Arithmetic(**SIZES)


def solve(task: Arithmetic, question: str) -> int:
    """The answer, worked out from the question's words alone."""
    operations = {verb.word: verb.operation for verb in task.verbs}
    head, *statements, tail = question.split(" . ")
    assert tail == "how many ?"
    value = int(head.split()[2])
    for statement in statements:
        word, operand = statement.split()
        value = {
            "+": value + int(operand),
            "-": value - int(operand),
            "*": value * int(operand),
            "/": value // int(operand),
        }[operations[word]]
        assert 1 <= value <= task.max_value
    return value


@pytest.mark.parametrize("split", [TRAIN, ANSWER_ONLY, VALIDATION, TEST])
def test_every_split_but_pretrain_is_right(task: Arithmetic, split: str) -> None:
    questions = task.load(split)
    assert len(questions) == 40
    for question in questions:
        assert int(question.answer) == solve(task, question.question)
        if split == ANSWER_ONLY:
            assert question.rationale is None
        else:
            check = task.check_chain(question.question, task.reference_response(question))
            assert check == ChainCheck(len(question.question.split(" . ")) - 2, None, ())


def test_the_number_of_statements_is_within_its_bounds() -> None:
    task = Arithmetic(**SIZES, min_statements=3, max_statements=5)
    counts = {question.question.count(" . ") - 1 for question in task.load(VALIDATION)}
    assert counts == {3, 4, 5}


def test_loading_is_reproducible_and_depends_on_the_seed(task: Arithmetic) -> None:
    again = Arithmetic(**SIZES)
    for split in SPLITS:
        assert task.load(split, seed=3) == again.load(split, seed=3)
        assert task.load(split, seed=3) != task.load(split, seed=4)
    assert Arithmetic(**SIZES, data_seed=1).load(TEST) != task.load(TEST)


def test_more_questions_begin_with_the_same_ones(task: Arithmetic) -> None:
    more = Arithmetic(**{**SIZES, "num_train": 60})
    assert more.load(TRAIN)[:40] == task.load(TRAIN)
    assert more.load(TEST) == task.load(TEST)


def test_one_recorded_question(task: Arithmetic) -> None:
    # fails where the generator changes: then VERSION must be raised, and the shipped base model trained again
    assert task.load(TEST)[0] == Question(
        id="test-0-0",
        question="Kim has 55 tiles . vim 4 . mol 5 . bem 13 . mol 14 . how many ?",
        answer="27",
        rationale="55 + 4 is 59 . 59 - 5 is 54 . 54 - 13 is 41 . so 41 - 14 = 27 .",
    )


def test_splits_never_share_a_problem_whatever_the_seeds() -> None:
    # with one statement there are few problems, so that overlaps would be certain without the buckets
    task = Arithmetic(**SIZES, min_statements=1, max_statements=1)
    problems: dict[str, set[tuple[str, ...]]] = collections.defaultdict(set)
    for split in SPLITS:
        for seed in range(3):
            questions = task.load(split, seed=seed)
            # the person and the thing do not make another problem
            contents = [tuple(t for t in q.question.split()[2:-3] if t != q.question.split()[3]) for q in questions]
            assert len(set(contents)) == len(contents)
            problems[split] |= set(contents)
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not problems[one] & problems[other]


def test_too_many_questions_for_a_small_world_are_an_error() -> None:
    world = {"min_statements": 1, "max_statements": 1, "frequency_exponent": 20.0}
    task = Arithmetic(**{**SIZES, **world, "num_train": 50_000})
    with pytest.raises(ConfigError, match="num_train: this world has only about"):
        task.load(TRAIN)


def test_pretrain_chains_end_with_their_answer_and_hold_the_announced_faults(task: Arithmetic) -> None:
    questions = task.load(PRETRAIN)
    faults: collections.Counter[str] = collections.Counter()
    num_steps = wrong = 0
    for question in questions:
        assert question.rationale is not None
        last = [token for token in question.rationale.split() if token.isdigit()][-1]
        assert question.answer == last
        check = task.check_chain(question.question, task.reference_response(question))
        is_wrong = int(question.answer) != solve(task, question.question)
        assert check.kinds or not is_wrong
        wrong += is_wrong
        num_steps += check.num_steps
        faults.update(check.kinds)
    assert 0.25 < wrong / len(questions) < 0.6
    assert 0.01 < faults["skip"] / num_steps < 0.03
    assert faults["operation"] / num_steps > 0.04
    assert faults["carry"] / num_steps > 0.03
    assert 0.004 < faults["arithmetic"] / num_steps < 0.02


def test_pretrain_without_faults_is_right() -> None:
    task = Arithmetic(**SIZES, **CLEAN)
    for question in task.load(PRETRAIN):
        assert int(question.answer) == solve(task, question.question)


def test_a_misconception_is_a_property_of_the_verb() -> None:
    task = Arithmetic(**{**SIZES, **CLEAN, "misconception_fraction": 0.5}, misconception_low=1, misconception_high=1)
    rates = {verb.word: verb.misread_rate for verb in task.verbs}
    assert sum(rates.values()) == len(rates) / 2 == 48
    misread: dict[str, collections.Counter[bool]] = collections.defaultdict(collections.Counter)
    for question in task.load(PRETRAIN):
        statements = question.question.split(" . ")[1:-1]
        steps = question.rationale.split(" .")  # type: ignore[union-attr]
        for statement, step in zip(statements, steps, strict=False):
            word = statement.split()[0]
            operation = next(verb.operation for verb in task.verbs if verb.word == word)
            misread[word][operation not in step.split()] += 1
    assert not any(misread[word][True] for word, rate in rates.items() if rate == 0)
    # the misreading is left out only where its result would be out of range
    assert sum(misread[word][True] for word, rate in rates.items() if rate == 1) > 1000


def test_wordings_and_swaps_are_independent_of_right_and_wrong(task: Arithmetic) -> None:
    shares: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    for question in task.load(PRETRAIN):
        is_right = int(question.answer) == solve(task, question.question)
        for step in question.rationale.split(" .")[:-1]:  # type: ignore[union-attr]
            shares[is_right].update(word for word in step.split() if word in ("so", "now", "is"))
            shares[is_right]["steps"] += 1
    for word in ("so", "now", "is"):
        for is_right in (True, False):
            assert shares[is_right][word] / shares[is_right]["steps"] == pytest.approx(0.25, abs=0.03)


def test_the_vocabulary_covers_every_text_and_round_trips(task: Arithmetic) -> None:
    vocabulary = task.vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    assert all(token.split() == [token] for token in vocabulary)
    ids = {token: index for index, token in enumerate(vocabulary)}
    for split in (TRAIN, PRETRAIN):
        for question in task.load(split):
            for text in (question.question, task.reference_response(question)):
                assert " ".join(vocabulary[ids[token]] for token in text.split()) == text


def test_reference_extraction_and_comparison_agree(task: Arithmetic) -> None:
    for question in task.load(TEST):
        answer = task.extract_answer(task.reference_response(question)).answer
        assert answer is not None
        assert task.is_correct(answer, question)
        assert not task.is_correct(str(int(answer) + 1), question)
    assert task.extract_answer("so 3 + 4 = 7 .").answer is None


def test_reference_response_needs_a_rationale(task: Arithmetic) -> None:
    with pytest.raises(DataError, match="answer_only-0-0"):
        task.reference_response(task.load(ANSWER_ONLY)[0])


def word_of(task: Arithmetic, operation: str) -> str:
    return next(verb.word for verb in task.verbs if verb.operation == operation)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("47 - 19 = 28 . so 28 + 4 = 32 . [ANS] 32", (2, None, ())),
        ("now 47 - 19 gives 28 . 4 + 28 is 32 . [ANS] 32", (2, None, ())),
        ("47 + 19 = 66 . so 66 + 4 = 70 . [ANS] 70", (2, 0, ("operation",))),
        ("47 - 19 = 38 . so 38 + 4 = 42 . [ANS] 42", (2, 0, ("carry",))),
        ("47 - 19 = 28 . so 28 + 4 = 22 . [ANS] 22", (2, 1, ("carry",))),
        ("47 - 19 = 27 . so 27 + 4 = 32 . [ANS] 32", (2, 0, ("arithmetic", "arithmetic"))),
        ("19 - 47 = 28 . so 28 + 4 = 32 . [ANS] 32", (2, 0, ("operand", "arithmetic"))),
        ("47 - 19 = 28 . so 29 + 4 = 33 . [ANS] 33", (2, 1, ("operand",))),
        ("47 + 4 = 51 . [ANS] 51", (1, 0, ("skip",))),
        ("47 - 19 = 28 . [ANS] 28", (1, 1, ("skip",))),
        ("47 - 19 = 28 . 28 + 4 = 32 . 32 + 4 = 36 . [ANS] 36", (3, 2, ("operand",))),
        ("47 / 0 = 28 . 28 + 4 = 32 . [ANS] 32", (2, 0, ("operation", "operand", "arithmetic"))),
        ("[ANS] 32", (0, 0, ("skip", "skip"))),
        ("so so = [ANS]", (0, 0, ("skip", "skip"))),
    ],
)
def test_check_chain(task: Arithmetic, chain: str, expected: tuple[int, int | None, tuple[str, ...]]) -> None:
    question = f"Eve has 47 apples . {word_of(task, '-')} 19 . {word_of(task, '+')} 4 . how many ?"
    assert tuple(task.check_chain(question, chain)) == expected


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is 3 + 4 ?",
        "Eve has 47 apples . xyzzy 19 . how many ?",
        "Eve has many apples . how many ?",
        "Eve has 47 apples . how few ?",
        "Eve . how many ?",
    ],
)
def test_check_chain_rejects_a_foreign_question(task: Arithmetic, question: str) -> None:
    with pytest.raises(DataError, match="not a question of this arithmetic world"):
        task.check_chain(question, "3 + 4 = 7 .")


def test_fingerprint_tells_arguments_apart(task: Arithmetic) -> None:
    assert task.fingerprint() == Arithmetic(**SIZES).fingerprint()
    assert task.fingerprint() == Arithmetic(**{**SIZES, "num_test": 7}).fingerprint()
    assert task.fingerprint() != Arithmetic(**SIZES, slip=0.02).fingerprint()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train": -1}, "num_train: must be a whole number of at least 0, got -1"),
        ({"num_test": 10.5}, "num_test: must be a whole number of at least 0, got 10.5"),
        ({"slip": 1.5}, "slip: must be a rate between 0 and 1, got 1.5"),
        ({"skip": 1.0}, "skip: must be below 1, or no chain has a step"),
        ({"max_value": 9}, "max_value: must be a whole number of at least 10, got 9"),
        ({"max_operand": 1}, "max_operand: must be a whole number of at least 2, got 1"),
        ({"min_statements": 0}, "min_statements, max_statements: must be 1 <= min <= max, got 0 and 4"),
        ({"misconception_low": 0.9}, "misconception_low: must not exceed misconception_high"),
        ({"marker": "[A S]"}, "marker: must be one word without spaces, got '[A S]'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Arithmetic(**arguments)  # type: ignore[arg-type]
    assert caught.value.problems == [message]


def test_all_bad_arguments_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Arithmetic(num_train=-1, slip=-0.1)
    assert len(caught.value.problems) == 2


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown 'validaton'.*Did you mean 'validation'"):
        Arithmetic(**SIZES).load("validaton")
