"""The arithmetic task with options and in another phrasing; and that without them nothing has moved."""

from __future__ import annotations

import collections
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_data import tokens_of

from aft.errors import ConfigError, DataError
from aft.records import Question
from aft.tasks.arithmetic import Arithmetic
from aft.tasks.base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from aft.tasks.phrasings import english_chain, read_question, write_question

SIZES = {"num_train": 60, "num_answer_only": 60, "num_validation": 60, "num_test": 60, "num_pretrain": 1500}
CLEAN = {"misconception_fraction": 0.0, "base_wrong_operation": 0.0, "carry_error": 0.0, "slip": 0.0, "skip": 0.0}
KINDS = [
    {"num_choices": choices, "phrasing": phrasing}
    for choices in (0, 2, 4, 8)
    for phrasing in ("plain", "other", "mixed")
]


def value_of(task: Arithmetic, question: Question) -> int:
    """The right value, by what the question tells."""
    value, statements = task.statements(question.question)
    for operation, operand in statements:
        value = {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[operation]
    return value


def end_of(question: Question) -> str:
    """The value that the question's chain ends with."""
    assert question.rationale is not None
    return [token for token in question.rationale.split() if token.isdigit()][-1]


def digest(questions: list[Question]) -> str:
    fields = [f"{q.id}|{q.question}|{q.answer}|{q.rationale}|{q.options}|{q.category}" for q in questions]
    return hashlib.sha256("\n".join(fields).encode()).hexdigest()[:16]


# Computed by the generator that made the shipped base model: what changes one of these needs a new VERSION and model.
@pytest.mark.parametrize(
    ("split", "seed", "expected"),
    [
        (TRAIN, 0, "8ad24e7da0b0a51b"),
        (TRAIN, 3, "17de8c4d944d5127"),
        (ANSWER_ONLY, 0, "b90464ae557190c3"),
        (VALIDATION, 3, "280e7db33851b0c5"),
        (TEST, 0, "46318234caede83c"),
        (TEST, 3, "de4d8ebf77eaed09"),
        (PRETRAIN, 0, "2e484fb15a91fcaf"),
    ],
)
def test_the_default_world_is_what_the_shipped_base_model_has_read(split: str, seed: int, expected: str) -> None:
    assert digest(Arithmetic(num_pretrain=2000).load(split, seed=seed)) == expected


def test_the_fingerprint_and_the_order_of_the_vocabulary_are_those_of_old_runs() -> None:
    task = Arithmetic()
    assert task.fingerprint() == "b4c75808bcb5d168"
    assert hashlib.sha256(" ".join(task.vocabulary()).encode()).hexdigest()[:16] == "d7234b4a48871f96"
    other = Arithmetic(data_seed=5, marker="=>", slip=0.02, min_statements=5, max_statements=6)
    assert other.fingerprint() == "4232b4c1f02b2bb5"
    assert digest(other.load(TRAIN, seed=1)) == "ffe713ddcf2222a6"


def test_each_kind_has_a_fingerprint_of_its_own() -> None:
    assert len({Arithmetic(**kind).fingerprint() for kind in KINDS}) == len(KINDS)


def test_one_recorded_question_of_each_phrasing_with_options() -> None:
    # fails where the generator changes: then VERSION must be raised
    plain, other = (Arithmetic(**SIZES, num_choices=4, phrasing=phrasing) for phrasing in ("plain", "other"))
    listed = "( A ) 53 ( B ) 44 ( C ) 38 ( D ) 50"
    assert plain.load(TEST)[0] == Question(
        id="test-0-0",
        question=f"Kim has 58 nuts . bim 3 . zib 4 . ruv 6 . diz 7 . how many ? {listed}",
        answer="D",
        rationale="so 58 - 3 = 55 . 55 - 4 = 51 . 51 + 6 = 57 . 57 - 7 = 50 .",
        options=("53", "44", "38", "50"),
    )
    asked = "how many nuts has Kim ? first 58 , then bim 3 , then zib 4 , then ruv 6 , then diz 7 ."
    assert other.load(TEST)[0].question == f"{asked} {listed}"


@pytest.mark.parametrize("kind", KINDS)
def test_right_splits_are_right(kind: dict) -> None:
    task = Arithmetic(**SIZES, **kind)
    for split in (TRAIN, ANSWER_ONLY, VALIDATION, TEST):
        for question in task.load(split):
            right = str(value_of(task, question))
            if not task.num_choices:
                assert question.answer == right and question.options is None
                continue
            assert (
                question.options is not None and len(set(question.options)) == len(question.options) == task.num_choices
            )
            assert [letter for letter, text in zip("ABCDEFGH", question.options, strict=False) if text == right] == [
                question.answer
            ]
            assert all(1 <= int(text) <= task.max_value for text in question.options)
            pairs = zip("ABCDEFGH", question.options, strict=False)
            listed = " ".join(f"( {letter} ) {text}" for letter, text in pairs)
            assert question.question.endswith(f" {listed}")


@pytest.mark.parametrize("kind", KINDS)
def test_references_are_read_back(kind: dict) -> None:
    task = Arithmetic(**SIZES, **kind)
    for split in (TRAIN, PRETRAIN):
        for question in task.load(split):
            answer = task.extract_answer(task.reference_response(question), question).answer
            assert answer == question.answer and task.is_correct(answer, question)
            check = task.check_chain(question.question, task.reference_response(question))
            assert split == PRETRAIN or not check.kinds


def test_a_choice_is_read_by_letter_or_value_and_needs_its_question() -> None:
    task = Arithmetic(**SIZES, num_choices=3)
    question = task.load(TEST)[0]
    assert question.options is not None
    for letter, text in zip("ABC", question.options, strict=True):
        for form in (letter, f"( {letter} )", f"( {letter} ) {text}", text):
            assert task.extract_answer(f"1 + 1 = 2 . [ANS] {form}", question).answer == letter
        assert task.is_correct(letter, question) == (letter == question.answer)
    assert task.extract_answer("[ANS] D", question).answer is None
    with pytest.raises(ValueError, match="without its question's options"):
        task.extract_answer("[ANS] A")


@pytest.mark.parametrize("choices", [2, 4])
def test_a_pretrain_answer_is_the_letter_of_the_value_that_the_chain_ends_with(choices: int) -> None:
    task = Arithmetic(**SIZES, num_choices=choices)
    wrong = 0
    for question in task.load(PRETRAIN):
        assert question.options is not None
        assert question.options["ABCDEFGH".index(question.answer)] == end_of(question)
        right = str(value_of(task, question))
        assert right in question.options
        wrong += end_of(question) != right
    assert 0.25 < wrong / 1500 < 0.6


def test_the_position_of_an_option_tells_nothing() -> None:
    task = Arithmetic(**{**SIZES, "num_pretrain": 6000}, num_choices=4)
    letters: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    for question in task.load(PRETRAIN):
        letters[end_of(question) == str(value_of(task, question))][question.answer] += 1
    for counts in letters.values():
        assert all(counts[letter] / counts.total() == pytest.approx(0.25, abs=0.03) for letter in "ABCD")


def test_wrong_options_are_what_faulty_chains_end_with() -> None:
    # 100 % misread verbs and nothing else: the only fault of a question with one statement
    world = {**CLEAN, "misconception_fraction": 1.0, "misconception_low": 1.0, "misconception_high": 1.0}
    task = Arithmetic(**SIZES, **world, num_choices=2, min_statements=1, max_statements=1)
    possible = 0
    for question in task.load(TEST):
        value, [(operation, operand)] = task.statements(question.question)
        misread = {"+": value - operand, "-": value + operand, "*": value / operand, "/": value * operand}[operation]
        assert question.options is not None
        if 1 <= misread <= task.max_value and misread == int(misread):
            possible += 1
            assert str(int(misread)) in question.options
    assert possible > 20


def test_without_faults_the_wrong_options_are_near_numbers() -> None:
    task = Arithmetic(**SIZES, **CLEAN, num_choices=4)
    for question in task.load(PRETRAIN):
        right = value_of(task, question)
        assert question.options is not None and end_of(question) == str(right)
        assert all(abs(int(text) - right) <= 13 for text in question.options)


def test_the_other_phrasing_asks_the_same_problems_with_the_same_chains() -> None:
    for choices in (0, 4):
        plain, other = (Arithmetic(**SIZES, num_choices=choices, phrasing=phrasing) for phrasing in ("plain", "other"))
        for split in SPLITS:
            for one, two in zip(plain.load(split), other.load(split), strict=True):
                assert one.question != two.question and set(one.question.split()) < set(two.question.split())
                assert (
                    plain.statements(one.question) == other.statements(two.question) == plain.statements(two.question)
                )
                assert (one.rationale, one.answer, one.options) == (two.rationale, two.answer, two.options)


def test_mixed_phrasings_are_both_there_independently_of_right_and_wrong() -> None:
    task = Arithmetic(**SIZES, phrasing="mixed")
    shares: dict[bool, collections.Counter[bool]] = {True: collections.Counter(), False: collections.Counter()}
    for question in task.load(PRETRAIN):
        shares[question.answer == str(value_of(task, question))][question.question.startswith("how many ")] += 1
    for counts in shares.values():
        assert counts[True] / counts.total() == pytest.approx(0.5, abs=0.06)


def test_no_problem_is_in_two_splits_whatever_the_kind_and_the_seed() -> None:
    # with one statement there are few problems, so that overlaps would be certain without the buckets
    problems: dict[str, set] = collections.defaultdict(set)
    for kind in KINDS:
        task = Arithmetic(**SIZES, **kind, min_statements=1, max_statements=1)
        for split in SPLITS:
            for seed in range(2):
                found = [read_question(question.question) for question in task.load(split, seed=seed)]
                problems[split] |= {(start, *told) for start, told in found}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not problems[one] & problems[other]


def test_parts_with_and_without_options_ask_other_problems() -> None:
    plain, choice = Arithmetic(**SIZES), Arithmetic(**SIZES, num_choices=4)
    told = [{str(task.statements(q.question)) for q in task.load(TRAIN)} for task in (plain, choice)]
    assert len(told[0] & told[1]) < 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_covers_every_text(kind: dict) -> None:
    task = Arithmetic(**{**SIZES, "num_pretrain": 2000}, **kind, min_statements=2, max_statements=5)
    vocabulary = task.vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    assert vocabulary[:195] == Arithmetic().vocabulary()
    used = tokens_of(task)
    assert used <= set(vocabulary)
    assert set(vocabulary[195:]) <= used


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["plain", "other"]),
    st.integers(0, 999),
    st.lists(st.tuples(st.sampled_from(["vim", "mol", "bem"]), st.integers(0, 99)), max_size=7),
    st.lists(st.integers(1, 60).map(str), max_size=8),
)
def test_a_written_question_is_read_back(phrasing: str, start: int, told: list, options: list[str]) -> None:
    text = write_question(phrasing, "Eve", "apples", start, told)
    listed = "".join(f" ( {letter} ) {text}" for letter, text in zip("ABCDEFGH", options, strict=False))
    assert read_question(text + listed) == (start, told)


def test_the_texts_of_both_phrasings() -> None:
    told = [("rep", 19), ("bab", 4)]
    assert write_question("plain", "Eve", "apples", 47, told) == "Eve has 47 apples . rep 19 . bab 4 . how many ?"
    assert (
        write_question("other", "Eve", "apples", 47, told)
        == "how many apples has Eve ? first 47 , then rep 19 , then bab 4 ."
    )


def test_english_sentences_for_a_pretrained_model() -> None:
    told = [("gives away {}", 19), ("then has {} times as many", 2)]
    text = "Eve has 47 apples. Eve gives away 19. Eve then has 2 times as many. How many apples does Eve have now?"
    assert write_question("english", "Eve", "apples", 47, told) == text and read_question(text) == (47, told)
    listed = f"{text} ( A ) 56 ( B ) 9"
    assert read_question(listed) == (47, told) and read_question(text.replace("19", "some")) is None
    assert english_chain("47 - 19 = 28 . so 28 * 2 = 56 .") == "47 - 19 = 28. So 28 * 2 = 56."


def test_english_questions_and_chains_read_back_and_splits_share_none() -> None:
    task = Arithmetic(**SIZES, phrasing="english")
    asked = {split: task.load(split) for split in ("train", "validation", "test", "pretrain")}
    for question in asked["train"]:
        check = task.check_chain(question.question, task.reference_response(question))
        assert check.kinds == () and check.num_steps == len(task.statements(question.question)[1])
        assert task.extract_answer(task.reference_response(question)).answer == question.answer
    # name and thing are wording: what is told is the problem
    told = {split: {str(task.statements(q.question)) for q in questions} for split, questions in asked.items()}
    assert not told["train"] & told["test"] and not told["validation"] & told["test"]
    assert {q.question for q in asked["train"]} == {q.question for q in task.load("train")}
    assert any(
        task.check_chain(question.question, task.reference_response(question)).kinds for question in asked["pretrain"]
    )
    assert task.vocabulary() == []  # a pretrained model brings its own
    with pytest.raises(DataError, match="not a question of this arithmetic world"):
        task.statements("Eve has 4 apples. Eve eats 2. How many apples does Eve have now?")
    others = {Arithmetic(phrasing=phrasing).fingerprint() for phrasing in ("plain", "other", "mixed", "english")}
    assert len(others) == 4


@pytest.mark.parametrize("text", ["how many apples has Eve ? first 47 , then xyzzy 3 .", "how many ? first 47 ."])
def test_a_foreign_question_of_the_other_phrasing_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a question of this arithmetic world"):
        Arithmetic().statements(text)


def test_bad_arguments_of_the_kinds_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Arithmetic(num_choices=1, phrasing="othr", slip=2.0)
    assert caught.value.problems == [
        "slip: must be a rate between 0 and 1, got 2.0",
        "num_choices: must be 0 or 2 to 8, got 1",
        "phrasing: got 'othr'; allowed: plain, other, mixed, english. Did you mean 'other'?",
    ]
