"""Votes and pass@k against brute force over all subsets, hand-computed cases, and what must hold for any tally."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.answers import numbers_equal
from aft.evaluation.voting import MOST_PATHS, Tally, pass_at_k, tally, vote_accuracy

SETTINGS = settings(derandomize=True, deadline=None, max_examples=60)


def paths_of(votes: Tally) -> list[str | None]:
    wrong = [answer for answer, count in votes.wrong.items() for _ in range(count)]
    return ["right"] * votes.right + wrong + [None] * votes.unparsed


def brute_force_vote(votes: Tally, n: int) -> Fraction:
    """The mean over all subsets of n paths, each voted on by itself."""
    results = []
    for subset in itertools.combinations(paths_of(votes), n):
        counts = Counter(answer for answer in subset if answer is not None)
        best = max(counts.values(), default=0)
        winners = [answer for answer, count in counts.items() if count == best]
        results.append(Fraction(1, len(winners)) if "right" in winners else Fraction(0))
    return sum(results, Fraction(0)) / len(results)


def brute_force_pass(votes: Tally, k: int) -> Fraction:
    subsets = list(itertools.combinations(paths_of(votes), k))
    return Fraction(sum("right" in subset for subset in subsets), len(subsets))


tallies = st.builds(
    lambda right, wrong, unparsed: Tally(right, {f"wrong {i}": count for i, count in enumerate(wrong)}, unparsed),
    st.integers(0, 5),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(0, 3),
).filter(lambda votes: 1 <= votes.total <= 10)


@SETTINGS
@given(tallies)
def test_every_subset_size_equals_brute_force_over_all_subsets(votes):
    ns = range(1, votes.total + 1)
    found = vote_accuracy(votes, list(ns))
    for n in ns:
        assert found[n] == pytest.approx(float(brute_force_vote(votes, n)), abs=1e-12)
        assert pass_at_k(votes.right, votes.total, n) == pytest.approx(float(brute_force_pass(votes, n)), abs=1e-12)


def test_by_hand():
    # A A B: of the pairs AA AB AB, one is A and two are ties
    votes = Tally(right=2, wrong={"B": 1})
    assert vote_accuracy(votes, [1, 2, 3]) == pytest.approx({1: 2 / 3, 2: (1 + 1 / 2 + 1 / 2) / 3, 3: 1.0})
    # A B C: every vote of all three is a tie of three
    assert vote_accuracy(Tally(1, {"B": 1, "C": 1}), [3])[3] == pytest.approx(1 / 3)


def test_an_unparsed_path_never_wins():
    # nine of ten say nothing: the one that speaks wins as soon as it is drawn
    votes = Tally(right=1, unparsed=9)
    assert vote_accuracy(votes, [1, 5, 10]) == pytest.approx({1: 0.1, 5: 0.5, 10: 1.0})
    # and where nothing speaks there is no winner
    assert vote_accuracy(Tally(unparsed=4), [1, 4]) == {1: 0.0, 4: 0.0}


def test_all_right_and_none_right():
    assert vote_accuracy(Tally(right=64), [1, 4, 64]) == {1: 1.0, 4: 1.0, 64: 1.0}
    assert vote_accuracy(Tally(wrong={"x": 64}), [1, 4, 64]) == {1: 0.0, 4: 0.0, 64: 0.0}


def test_one_path_is_the_share_and_all_paths_are_the_vote():
    votes = Tally(right=20, wrong={"a": 21, "b": 13}, unparsed=10)
    found = vote_accuracy(votes, [1, 64])
    assert found[1] == pytest.approx(20 / 64)
    assert found[64] == 0.0
    assert vote_accuracy(Tally(22, {"a": 21, "b": 11}, 10), [64])[64] == 1.0


def test_64_paths_agree_with_many_drawn_subsets():
    votes = Tally(right=18, wrong={"a": 16, "b": 9, "c": 4, "d": 1, "e": 1}, unparsed=15)
    found = vote_accuracy(votes, [4, 8, 32])
    generator, paths, draws = random.Random(0), paths_of(votes), 4000
    for n in (4, 8, 32):
        wins = 0.0
        for _ in range(draws):
            counts = Counter(answer for answer in generator.sample(paths, n) if answer is not None)
            best = max(counts.values(), default=0)
            winners = [answer for answer, count in counts.items() if count == best]
            wins += ("right" in winners) / max(1, len(winners))
        assert found[n] == pytest.approx(wins / draws, abs=4 * 0.5 / math.sqrt(draws))


@SETTINGS
@given(st.integers(0, 100), st.lists(st.integers(1, 60), max_size=4), st.integers(0, 100))
def test_many_paths_stay_probabilities(right, wrong, unparsed):
    votes = Tally(right, {str(i): count for i, count in enumerate(wrong)}, unparsed)
    if votes.total:
        ns = sorted({1, min(64, votes.total), votes.total // 2 or 1})
        assert all(-1e-12 <= value <= 1 + 1e-12 for value in vote_accuracy(votes, ns).values())


def test_the_most_paths_do_not_overflow():
    votes = Tally(right=60, wrong={"a": 50}, unparsed=MOST_PATHS - 110)
    found = vote_accuracy(votes, [1, MOST_PATHS // 2, MOST_PATHS])
    assert (found[1], found[MOST_PATHS]) == (pytest.approx(0.06), 1.0)
    assert 0.8 < found[MOST_PATHS // 2] < 1.0


@pytest.mark.parametrize("ns", [[0], [4], [-1, 1]])
def test_sizes_out_of_range_are_refused(ns):
    with pytest.raises(ValueError, match=r"1 \.\. 3"):
        vote_accuracy(Tally(1, {"a": 2}), ns)


def test_pass_at_k_by_hand():
    # 1 - C(7, 2) / C(10, 2) = 1 - 21 / 45
    assert pass_at_k(3, 10, 2) == pytest.approx(24 / 45)
    assert (pass_at_k(0, 10, 5), pass_at_k(6, 10, 5), pass_at_k(3, 10, 1)) == (0.0, 1.0, pytest.approx(0.3))
    with pytest.raises(ValueError, match="pass_at_k"):
        pass_at_k(3, 10, 11)


# ---- counting ----


def test_equal_answers_do_not_split_their_votes():
    def is_right(answer: str) -> bool:
        return numbers_equal(answer, "1,234")

    answers = ["1,234", "1234", "$1234.00", "7", "7.0", "14/2", None, "8"]
    votes = tally(answers, is_right, numbers_equal)
    assert votes == Tally(right=3, wrong={"7": 3, "8": 1}, unparsed=1)
    assert votes.total == len(answers)


def test_a_right_answer_is_right_even_if_a_wrong_one_is_taken_for_it():
    # a tolerance is no equality: 1.0 ~ 1.4 ~ 1.8, but only 1.8 is near enough to the gold 2.0
    def near(left: str, right: str) -> bool:
        return abs(float(left) - float(right)) < 0.5

    votes = tally(["1.0", "1.4", "1.8"], lambda answer: near(answer, "2.0"), near)
    assert votes == Tally(right=1, wrong={"1.0": 2})


def test_each_spelling_is_compared_once():
    asked = []

    def is_right(answer: str) -> bool:
        asked.append(answer)
        return False

    tally(["a", "b", "a", "a", "b"], is_right, lambda one, other: False)
    assert asked == ["a", "b"]
