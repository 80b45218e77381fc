"""The task of creatures: one right option, right splits, faults as announced, and a checker that finds them."""

from __future__ import annotations

import collections

import pytest
from task_data import tokens_of

from aft.errors import ConfigError, DataError
from aft.records import NEGATIVE, POSITIVE, Question
from aft.tasks import make_task
from aft.tasks.arithmetic import Arithmetic
from aft.tasks.base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from aft.tasks.chains import ChainCheck
from aft.tasks.creature_chains import CLASSES, PROPERTIES
from aft.tasks.creatures import Creatures
from aft.tasks.steps import rate

SIZES = {"num_train": 60, "num_answer_only": 60, "num_validation": 60, "num_test": 60, "num_pretrain": 3000}
CLEAN = {"misconception_fraction": 0.0, "base_wrong_class": 0.0, "wrong_property": 0.0, "slip": 0.0, "skip": 0.0}
LETTERS = "ABCDEFGH"


@pytest.fixture(scope="module")
def task() -> Creatures:
    return Creatures(**SIZES)


@pytest.fixture(scope="module")
def pretrain(task: Creatures) -> list[Question]:
    return task.load(PRETRAIN)


def right_letters(task: Creatures, question: Question) -> list[str]:
    """Every option that fits, by the question's words and the world's facts."""
    asked = question.question.removeprefix("which one ").partition(" ?")[0]
    kinds = {creature.word: creature.kind for creature in task.creatures}
    assert question.options is not None
    return [
        letter
        for letter, word in zip(LETTERS, question.options, strict=False)
        if asked in [f"{key} {value}" for key, value in task.facts[kinds[word]].items()]
    ]


def concluded(question: Question) -> str:
    assert question.rationale is not None
    return question.rationale.split()[-2]


def test_a_world_is_whole(task: Creatures) -> None:
    words = [creature.word for creature in task.creatures]
    assert len(set(words)) == 80
    assert collections.Counter(creature.kind for creature in task.creatures) == dict.fromkeys(CLASSES, 10)
    assert all(creature.kind != creature.wrong_kind for creature in task.creatures)
    assert sum(creature.misread_rate > 0.01 for creature in task.creatures) == 36
    for asked, values in PROPERTIES.items():
        assert sorted(task.facts[kind][asked] for kind in CLASSES) == sorted(values)  # each is one class's
    assert not set(words) & set(Arithmetic(num_choices=8, phrasing="mixed").vocabulary())
    assert Creatures(data_seed=1).facts != task.facts


@pytest.mark.parametrize("choices", [2, 4, 8])
def test_exactly_one_option_is_right_and_all_splits_but_pretrain_say_so(choices: int) -> None:
    task = Creatures(**SIZES, num_choices=choices)
    for split in SPLITS:
        for question in task.load(split):
            assert question.options is not None and len(set(question.options)) == choices
            pairs = zip(LETTERS, question.options, strict=False)
            assert question.question.endswith(" ? " + " ".join(f"( {letter} ) {word}" for letter, word in pairs))
            right = right_letters(task, question)
            assert len(right) == 1
            if split == ANSWER_ONLY:
                assert question.rationale is None
            if split != PRETRAIN:
                assert [question.answer] == right
                assert (
                    question.rationale is None
                    or not task.check_chain(question.question, task.reference_response(question)).kinds
                )


def test_references_are_read_back(task: Creatures, pretrain: list[Question]) -> None:
    for question in [*task.load(TRAIN), *pretrain]:
        answer = task.extract_answer(task.reference_response(question), question).answer
        assert answer == question.answer and task.is_correct(answer, question)
    question = task.load(TEST)[0]
    assert question.options is not None
    for letter, word in zip("ABCD", question.options, strict=True):
        for form in (letter, word, f"( {letter} )", f"( {letter} ) {word}"):
            assert task.extract_answer(f"so it is {word} . [ANS] {form}", question).answer == letter
        assert task.is_correct(letter, question) == (letter == question.answer)
    with pytest.raises(DataError, match="answer_only-0-0"):
        task.reference_response(task.load(ANSWER_ONLY)[0])


def test_one_recorded_question(task: Creatures) -> None:
    # fails where the generator changes: then VERSION must be raised
    assert task.load(TEST)[0] == Question(
        id="test-0-0",
        question="which one lives in trees ? ( A ) tihe ( B ) yujo ( C ) jiya ( D ) hoha",
        answer="B",
        rationale="every snake lives in trees . a yujo is a snake . so it is yujo .",
        options=("tihe", "yujo", "jiya", "hoha"),
    )
    assert task.fingerprint() == "982aa90e04a8e7f5"


def test_loading_is_reproducible_and_depends_on_the_seed(task: Creatures) -> None:
    again = Creatures(**SIZES)
    for split in SPLITS:
        assert task.load(split, seed=3) == again.load(split, seed=3)
        assert task.load(split, seed=3) != task.load(split, seed=4)
    assert Creatures(**{**SIZES, "num_test": 90}).load(TEST)[:60] == task.load(TEST)


def test_splits_never_share_a_problem_whatever_the_seeds_and_the_order_of_the_options() -> None:
    # two options out of the commonest creatures: overlaps would be certain without the buckets
    task = Creatures(**{**SIZES, "num_pretrain": 800}, num_choices=2, frequency_exponent=2.0)
    problems: dict[str, set] = collections.defaultdict(set)
    for split in SPLITS:
        for seed in range(3):
            questions = task.load(split, seed=seed)
            found = [(q.question.partition(" ?")[0], frozenset(q.options)) for q in questions]
            assert len(set(found)) == len(found)
            problems[split] |= set(found)
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not problems[one] & problems[other]


def test_pretrain_chains_hold_the_announced_faults(task: Creatures, pretrain: list[Question]) -> None:
    faults: collections.Counter[str] = collections.Counter()
    wrong = letters = 0
    for question in pretrain:
        check = task.check_chain(question.question, task.reference_response(question))
        is_wrong = [question.answer] != right_letters(task, question)
        assert check.kinds or not is_wrong
        wrong += is_wrong
        faults.update(check.kinds)
        letters += question.options[LETTERS.index(question.answer)] != concluded(question)
    assert 0.25 < wrong / len(pretrain) < 0.45
    assert set(faults) == {"class", "property", "skip", "letter"}
    assert 0.2 < faults["class"] / len(pretrain) < 0.45
    assert 0.03 < faults["property"] / len(pretrain) < 0.07
    assert 0.01 < faults["skip"] / len(pretrain) < 0.03
    assert letters == faults["letter"] and 0.004 < letters / len(pretrain) < 0.02


def test_without_slips_the_letter_is_that_of_the_creature_that_the_chain_ends_with() -> None:
    task = Creatures(**SIZES, slip=0.0)
    for question in task.load(PRETRAIN):
        assert question.options is not None
        assert question.options[LETTERS.index(question.answer)] == concluded(question)


def test_a_chain_names_a_class_and_concludes_with_the_option_that_it_puts_there() -> None:
    for question in Creatures(**SIZES, skip=0.0).load(PRETRAIN):
        asked = question.question.removeprefix("which one ").partition(" ?")[0]
        fact, membership, _ = [sentence.split() for sentence in question.rationale.split(" .") if sentence.strip()]
        (kind,) = set(fact) & set(CLASSES)
        assert " ".join(fact).endswith(f"{kind} {asked}")
        assert membership[-1] == kind and concluded(question) in membership


def test_faulty_chains_are_wrong_as_often_as_the_creatures_are_misread() -> None:
    """A misconception is always of the same class, and no option is preferred where two seem to fit, or none does."""
    task = Creatures(**{**SIZES, "num_pretrain": 6000, **CLEAN, "misconception_fraction": 0.5}, num_choices=2)
    creatures = {creature.word: creature for creature in task.creatures}
    assert {creature.misread_rate > 0 for creature in task.creatures} == {True, False}
    found: dict[tuple[bool, bool], list[tuple[float, bool]]] = collections.defaultdict(list)
    for question in task.load(PRETRAIN):
        right = creatures[question.options[LETTERS.index(right_letters(task, question)[0])]]
        other = creatures[next(word for word in question.options if word != right.word)]
        mistaken = other.misread_rate if other.wrong_kind == right.kind else 0.0
        # both seem to fit, or neither does: half; the other one alone: always
        expected = (right.misread_rate + mistaken) / 2
        found[right.misread_rate > 0, mistaken > 0].append((expected, concluded(question) == other.word))
    for pairs in found.values():
        expected, wrong = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        assert len(pairs) > 150 and wrong == pytest.approx(expected, abs=0.08)
    assert len(found) == 4 and not any(wrong for _, wrong in found[False, False])


def test_pretrain_without_faults_is_right() -> None:
    task = Creatures(**SIZES, **CLEAN)
    for question in task.load(PRETRAIN):
        assert [question.answer] == right_letters(task, question)
        assert not task.check_chain(question.question, task.reference_response(question)).kinds


def test_wording_and_letters_are_independent_of_right_and_wrong(task: Creatures, pretrain: list[Question]) -> None:
    words: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    letters: dict[bool, collections.Counter[str]] = {True: collections.Counter(), False: collections.Counter()}
    for question in pretrain:
        is_right = [question.answer] == right_letters(task, question)
        letters[is_right][question.answer] += 1
        sentences = question.rationale.split(" .")[:-2]
        for sentence in sentences:
            words[is_right]["all"] += 1 / len(sentences)  # each wording stands in one of the two kinds of sentences
            words[is_right].update(t for t in sentence.split() if t in ("the", "now", "each", "every"))
    for is_right in (True, False):
        for word in ("the", "now", "each", "every"):
            assert words[is_right][word] / words[is_right]["all"] == pytest.approx(0.25, abs=0.03)
        for letter in "ABCD":
            assert letters[is_right][letter] / letters[is_right].total() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("choices", [2, 8])
def test_the_vocabulary_covers_every_text(choices: int) -> None:
    task = Creatures(**{**SIZES, "num_pretrain": 2000}, num_choices=choices)
    vocabulary = task.vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    assert tokens_of(task) == set(vocabulary)


def named(task: Creatures, asked: str, values: list[str]) -> list[tuple[str, str]]:
    """A creature (and its class) with each value."""
    return [next((c.word, c.kind) for c in task.creatures if task.facts[c.kind][asked] == value) for value in values]


def test_check_chain_names_the_faults_of_chains_written_by_hand(task: Creatures) -> None:
    (flier, flies), (swimmer, swims) = named(task, "can", ["fly", "swim"])
    stranger = next(creature.word for creature in task.creatures if creature.kind == flies and creature.word != flier)
    question = f"which one can fly ? ( A ) {swimmer} ( B ) {flier}"
    fact, known = f"a {flies} can fly .", f"now {flier} is a {flies} ."
    so, wrongly = f"so it is {flier} . [ANS] B", f"so {swimmer} . [ANS] A"
    expected: dict[str, tuple[int, int | None, tuple[str, ...]]] = {
        f"{fact} {known} {so}": (3, None, ()),
        f"{known} {fact} {so}": (3, None, ()),
        f"{fact} {swimmer} is a {swims} . {known} {so}": (4, None, ()),
        f"{fact} {known} so {flier} .": (3, None, ()),
        f"{fact} {known} so {flier} . [ANS] A": (3, 3, ("letter",)),
        f"{fact} {known} {wrongly}": (3, 2, ("conclusion",)),
        f"{fact} {known} [ANS] B": (2, 2, ("conclusion",)),
        f"{fact} {swimmer} is a {flies} . {wrongly}": (3, 1, ("class",)),
        f"{fact} {swimmer} is a {swims} . {wrongly}": (3, 2, ("conclusion",)),
        f"{fact} {stranger} is a {flies} . {so}": (3, 1, ("class", "conclusion")),
        f"{swims} can fly . {swimmer} is a {swims} . {wrongly}": (3, 0, ("property",)),
        f"{swims} can swim . {swimmer} is a {swims} . {wrongly}": (3, 0, ("property", "skip")),
        f"{fact} {so}": (2, 2, ("skip",)),
        f"{known} {so}": (2, 2, ("skip",)),
        f"{known} {wrongly}": (2, 1, ("conclusion", "skip")),
        f"{fact} so so . {known} {so}": (4, 1, ("form",)),
        f"{fact} {flies} has fur . {known} {so}": (4, 1, ("form",)),
        f"{fact} {known} so {flier} . {known} [ANS] B": (4, 3, ("form",)),
        "[ANS] B": (0, 0, ("skip", "skip", "conclusion")),
    }
    for chain, faults in expected.items():
        assert task.check_chain(question, chain) == ChainCheck(*faults), chain


def test_chains_are_rated_like_those_of_arithmetic(task: Creatures) -> None:
    for question in task.load(TRAIN):
        response = task.reference_response(question)
        assert rate(question.question, response, response, question.answer, POSITIVE) == 10
        assert rate(question.question, None, response, question.answer, NEGATIVE) == 9
        assert rate(question.question, None, "[ANS] A", question.answer, NEGATIVE) == 6
    other = Creatures(**SIZES, data_seed=5, marker="=>")
    for question in other.load(TRAIN):
        response = other.reference_response(question)
        assert rate(question.question, None, response, question.answer, POSITIVE, data_seed=5, marker="=>") == 10


def test_a_foreign_question_is_refused(task: Creatures) -> None:
    word = task.creatures[0].word
    for question in ("", "which one can fly ?", f"which one can run ? ( A ) {word}", "which one can fly ? ( A ) bird"):
        with pytest.raises(DataError, match="not a question of this world of creatures"):
            task.check_chain(question, "")


def test_fingerprint_tells_worlds_apart(task: Creatures) -> None:
    assert task.fingerprint() == Creatures(**{**SIZES, "num_test": 7}).fingerprint()
    others = [Creatures(num_choices=5), Creatures(data_seed=1), Creatures(slip=0.02), Arithmetic()]
    assert len({task.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_bad_arguments_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Creatures(num_train=-1, num_choices=1, slip=1.5, skip=1.0, marker="a b", frequency_exponent=3.0)
    assert caught.value.problems == [
        "num_train: must be a whole number of at least 0, got -1",
        "slip: must be a rate between 0 and 1, got 1.5",
        "skip: must be below 1, or no chain has a step",
        "marker: must be one word without spaces, got 'a b'",
        "num_choices: must be 2 to 8, got 1",
        "frequency_exponent: must be from 0 to 2, got 3.0",
    ]


def test_it_is_made_by_name_with_its_options() -> None:
    task = make_task("creatures", num_validation=0, answer_marker="=>", options={"num_choices": 3})
    assert task.load(VALIDATION) == [] and len(task.load(TRAIN)[0].options or ()) == 3
    with pytest.raises(ConfigError, match=r"data\.options\.num_choice: no such option\. Did you mean 'num_choices'"):
        make_task("creatures", options={"num_choice": 3})
