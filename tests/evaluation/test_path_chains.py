"""The chains behind votes: distinct right ones, tokens, and the entropy of the model that wrote them."""

import itertools
import math
from collections import Counter
from statistics import fmean

import pytest

from aft.evaluation.path_chains import chain_key, chain_lines, chain_metrics, pairs_that_differ, path_entropy
from aft.records import Completion


def path(question, index, text, tokens, ids=None):
    return Completion(question, index, text, False, tokens, 0, ids)


PATHS = [
    path("q0", 0, "2 + 2 = 4", 3),
    path("q0", 1, "2 + 2 = 4", 3),
    path("q0", 2, "4", 1),
    path("q0", 3, "5", 1),
    path("q1", 0, "6", 2),
]
RIGHT = [True, True, True, False, False]
SCORES = {("q0", 0): -0.5, ("q0", 1): -0.5, ("q0", 2): -1.0, ("q0", 3): -3.0, ("q1", 0): -math.inf}


def lines():
    return chain_lines([{"is_correct": right} for right in RIGHT], PATHS, SCORES)


def test_a_line_has_each_path_in_its_order():
    first, second = lines()
    assert first["right"] == [True, True, True, False] and first["tokens"] == [3, 3, 1, 1]
    assert first["scores"] == [-0.5, -0.5, -1.0, -3.0]
    assert (second["question_id"], second["right"], second["tokens"]) == ("q1", [False], [2])
    assert second["scores"] == [None] and second["entropy"] is None and second["distinct_right"] == 0


def test_equal_right_texts_count_once_and_wrong_ones_never():
    assert [line["distinct_right"] for line in lines()] == [2, 0]


def test_pairs_of_right_texts_that_differ_do_not_depend_on_how_many_are_right():
    # of the three pairs of "2 + 2 = 4" twice and "4" once, two differ
    assert [line["right_pairs_differ"] for line in lines()] == [pytest.approx(2 / 3), None]
    assert (
        pairs_that_differ({"a": 1}) is None
        and pairs_that_differ({"a": 2}) == 0
        and pairs_that_differ({"a": 1, "b": 1}) == 1
    )
    # the mean over all ways to draw 3 of 5 paths is the figure of all 5
    texts = "aaabc"
    drawn = [pairs_that_differ(Counter(some)) for some in itertools.combinations(texts, 3)]
    assert fmean(drawn) == pytest.approx(pairs_that_differ(Counter(texts)))


def test_entropy_is_the_mean_over_tokens_and_not_over_paths():
    assert lines()[0]["entropy"] == pytest.approx((3 * 0.5 + 3 * 0.5 + 1.0 + 3.0) / 8)
    assert path_entropy([-1.0, None], [2, 2]) is None and path_entropy([], []) is None


def test_metrics_are_means_over_questions():
    found = chain_metrics(lines())
    assert found["distinct_right"].mean == 1.0 and found["distinct_right"].n == 2
    assert found["tokens"].mean == 2.0
    assert found["entropy"].n == 1 and found["entropy"].beside == {"skipped": 1}
    assert found["right_pairs_differ"].n == 1 and found["right_pairs_differ"].beside == {"skipped": 1}
    assert chain_metrics([]) == dict.fromkeys(("distinct_right", "right_pairs_differ", "entropy", "tokens"))


def test_paths_are_the_same_by_their_ids_or_by_text_and_end():
    assert chain_key(path("q", 0, "a", 1, (5,))) == chain_key(path("q", 1, "b", 1, (5,)))
    assert chain_key(path("q", 0, "a", 1)) != chain_key(Completion("q", 1, "a", True, 1, 0))
