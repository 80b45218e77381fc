"""Task accuracy, assessment accuracy and perplexity, each against arithmetic typed from its definition."""

from __future__ import annotations

import json
import math

import pytest

from aft.answers import extract_number, numbers_equal
from aft.evaluation.accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from aft.evaluation.assessment import (
    Assessed,
    assessment_accuracy,
    assessment_counts,
    assessment_lines,
    describe_scores,
    has_tokens,
    json_scores,
    perplexity,
    pool_metrics,
    question_shares,
    score_lines,
)
from aft.grading import grade_all
from aft.records import NEGATIVE, POSITIVE, REFERENCE, UNPARSED, Candidate, Completion, Group, Question
from aft.stats.bootstrap import accuracy_interval, bootstrap_interval, macro_interval
from aft.stats.estimate import Estimate
from aft.stats.intervals import wilson


class Numbers:
    """A task whose answers are numbers behind a marker."""

    def extract_answer(self, completion, question=None):
        return extract_number(completion, "[ANS]")

    def is_correct(self, answer, question):
        return numbers_equal(answer, question.answer)


def completion(text: str, *, question: str = "q1", index: int = 0, truncated: bool = False) -> Completion:
    return Completion(question, index, text, truncated, 5, 0)


# ---- task accuracy ----


def test_task_accuracy():
    questions = [Question(f"q{n}", f"ask {n}", "42") for n in range(4)]
    completions = [
        completion("so [ANS] 42.", question="q0"),
        completion("so [ANS] 41.", question="q1"),
        completion("so 42", question="q2", truncated=True),
        completion("[ANS] 1 [ANS] 42", question="q3"),
    ]
    lines = grade_all(Numbers(), completions, questions)
    assert [line["is_correct"] for line in lines] == [True, False, False, True]
    assert [line["answer"] for line in lines] == ["42", "41", None, "42"]
    assert [line["unparsed"] for line in lines] == [None, None, "no marker", None]
    assert lines[2]["truncated"] and lines[2]["question"] == "ask 2" and lines[2]["gold"] == "42"
    low, high = wilson(2, 4)
    assert task_accuracy(lines).to_json() == {
        "value": 2 / 4,
        "low": low,
        "high": high,
        "n": 4,
        "correct": 2,
        "unparsed": 1,
        "truncated": 1,
    }


def judged(category: str | None, *outcomes: bool) -> list[dict]:
    return [{"is_correct": ok, "answer": "1", "truncated": False, "category": category} for ok in outcomes]


def test_category_accuracy():
    # 1 of 1, 1 of 4, and one right answer outside: macro (1 + 1/4) / 2, micro 3 / 6
    lines = [*judged("law", True, False, False, False), *judged("algebra", True), *judged(None, True)]
    found = category_accuracy(lines)
    low, high = macro_interval([(1, 1), (1, 4)])
    assert found["macro"] == Estimate(0.625, low=low, high=high, n=2)
    assert (found["micro"].mean, found["micro"].beside["correct"], found["without_category"]) == (0.5, 3, 1)
    assert list(found["categories"]) == ["algebra", "law"]
    assert found["categories"]["law"] == task_accuracy(lines[:4])
    assert category_accuracy(judged(None, True, False)) is None


# ---- assessment accuracy ----


def lines(question: str, right: list[float], wrong: list[float]) -> list[dict]:
    sides = [(score, True) for score in right] + [(score, False) for score in wrong]
    return [{"question_id": question, "is_positive": positive, "score": score} for score, positive in sides]


def test_assessment_accuracy_counts_pairs_and_ties_half():
    # 9 pairs: -1 beats all three, -2 beats two, -3 beats one and ties with one
    found = assessment_accuracy(lines("a", [-1.0, -2.0, -3.0], [-1.5, -3.0, -4.0]), skipped=0)
    assert found.mean == pytest.approx((3 + 2 + 1.5) / 9)
    assert found.n == 1 and found.beside["skipped"] == 0 and found.low is None


def test_assessment_accuracy_averages_over_questions_not_pairs():
    many = lines("a", [-1.0] * 3, [-2.0] * 3)  # 9 of 9
    few = lines("b", [-2.0], [-1.0])  # 0 of 1
    found = assessment_accuracy(many + few, skipped=0)
    assert found.mean == 1 / 2 and found.n == 2
    assert (found.low, found.high) == bootstrap_interval([1.0, 0.0]) == (0.0, 1.0)


def test_an_assessment_that_is_always_right_still_has_a_width():
    found = assessment_accuracy([line for q in "abcd" for line in lines(q, [-1.0], [-2.0])], skipped=0)
    assert (found.mean, found.low, found.high) == (1.0, *wilson(4, 4))


def test_the_share_of_every_question_is_kept():
    found = question_shares([*lines("a", [-1.0, -3.0], [-2.0]), *lines("b", [], [-1.0])])
    assert found == {"a": 0.5, "b": None}


def test_lines_of_questions_may_be_mixed():
    mixed = [*lines("a", [-1.0], []), *lines("b", [], [-3.0]), *lines("a", [], [-2.0]), *lines("b", [-4.0], [])]
    assert assessment_accuracy(mixed, skipped=0).mean == (1 + 0) / 2


def test_a_question_with_one_side_missing_is_skipped_and_counted():
    found = assessment_accuracy(
        [*lines("a", [-1.0], [-2.0]), *lines("b", [-1.0], []), *lines("c", [], [-1.0])], skipped=4
    )
    assert found.mean == 1.0 and found.n == 1 and found.beside["skipped"] == 6
    assert assessment_accuracy(lines("b", [-1.0], []), skipped=0) is None
    assert assessment_accuracy([], skipped=3) is None


def test_a_score_that_is_not_a_number_wins_no_pair():
    assert assessment_accuracy(lines("a", [math.nan], [-2.0]), skipped=0).mean == 0.0


# ---- perplexity and scores ----


def test_perplexity_is_the_mean_of_exponentials():
    found = perplexity([-0.5, -1.0, 0.0])
    values = [math.exp(0.5), math.exp(1.0), 1.0]
    assert found.mean == pytest.approx(sum(values) / 3) and found.n == 3
    mean = sum(values) / 3
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    factor = math.exp(1.959964 * sd / math.sqrt(3) / mean)
    assert (found.low, found.high) == pytest.approx((mean / factor, mean * factor), rel=1e-5)
    # one chain of sixty decides: a symmetric interval would begin below 0
    spread = perplexity([-0.5] * 59 + [-6.5])
    assert 0 < spread.low < spread.mean < spread.high
    assert perplexity([]) is None


@pytest.mark.parametrize("score", [-800.0, -math.inf, math.nan])
def test_an_infinite_perplexity_is_null_and_counted(score):
    """exp overflows a float beyond 709 nats per token, and JSON has no infinity."""
    found = perplexity([-1.0, score, -2.0])
    assert found.to_json() == {"value": None, "low": None, "high": None, "n": 3, "infinite": 1}
    json.dumps(found.to_json(), allow_nan=False)


def test_no_prediction_has_no_accuracy():
    assert task_accuracy([]).to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "correct": 0,
        "unparsed": 0,
        "truncated": 0,
    }
    assert self_consistency([])["vote"] == {} and not self_consistency([])["questions"]
    assert category_accuracy([]) is None and perplexity([]) is None and describe_scores([]) is None


def test_scores_are_described():
    assert describe_scores([-1.0, -3.0]) == {"mean": -2.0, "sd": math.sqrt(2), "n": 2, "not_finite": 0}
    assert describe_scores([-1.0]) == {"mean": -1.0, "sd": None, "n": 1, "not_finite": 0}
    assert describe_scores([-1.0, -math.inf]) == {"mean": -1.0, "sd": None, "n": 1, "not_finite": 1}
    assert describe_scores([math.nan]) == {"mean": None, "sd": None, "n": 0, "not_finite": 1}
    assert describe_scores([]) is None


def test_scores_that_json_cannot_hold_are_null_in_the_files():
    found = json_scores(lines("a", [-1.0], [-math.inf]))
    assert [line["score"] for line in found] == [-1.0, None]


def test_pool_metrics_count_questions_without_both_kinds():
    found = pool_metrics([*lines("a", [-1.0, -2.0], [-3.0]), *lines("b", [], [-1.0])], questions=5)
    assert found["assessment_accuracy"].mean == 1.0
    assert found["assessment_accuracy"].beside["skipped"] == 1 + 3  # b, and the three that have no line
    assert found["positive"] == {"mean": -1.5, "sd": math.sqrt(0.5), "n": 2, "not_finite": 0}
    assert found["negative"] == {"mean": -2.0, "sd": math.sqrt(2), "n": 2, "not_finite": 0}
    assert pool_metrics([], questions=5) is None


# ---- chains ----


def test_score_lines_follow_groups_and_slots():
    candidates = (
        Candidate("good", 1.0, POSITIVE, index=4),
        Candidate("bad", 0.0, NEGATIVE, index=0),
        Candidate("odd", 0.0, UNPARSED, index=2),
    )
    groups = [Group("a", "ask", "42", None, candidates), Group("b", "ask", "42", None, ())]
    assert score_lines(groups, {"a": [-1.0, -2.0, -3.0]}) == [
        {"question_id": "a", "index": 4, "is_positive": True, "score": -1.0},
        {"question_id": "a", "index": 0, "is_positive": False, "score": -2.0},
        {"question_id": "a", "index": 2, "is_positive": False, "score": -3.0},
    ]
    with pytest.raises(ValueError, match="zip"):
        score_lines(groups, {"a": [-1.0]})


def test_a_reference_among_the_candidates_is_right():
    groups = [Group("a", "ask", "42", "ref", (Candidate("ref", 1.0, REFERENCE),))]
    assert [line["is_positive"] for line in score_lines(groups, {"a": [-1.0]})] == [True]


def test_chains_are_collected_until_both_sides_are_full():
    assessed = Assessed()
    samples = [("r1", True), ("w1", False), ("r1", True), ("r2", True), ("r3", True), ("", False), ("w2", False)]
    for index, (text, right) in enumerate(samples):
        assert not assessed.is_full(2)
        assessed.add(completion(text, index=index, truncated=text == ""), right, 2)
    assert assessed.is_full(2)
    # each text once, in order, no more than asked for, and none without a token
    assert [c.completion for c in assessed.positives] == ["r1", "r2"]
    assert [c.completion for c in assessed.negatives] == ["w1", "w2"]
    assert [c.index for c in assessed.positives] == [0, 3]
    assert assessed.samples == len(samples)


def test_questions_that_cannot_be_filled_are_counted_and_their_values_kept():
    found = {}
    for name, right, wrong in (("full", 2, 2), ("no wrong", 3, 0), ("nothing", 0, 0), ("one wrong", 2, 1)):
        found[name] = Assessed()
        for index in range(right + wrong):
            found[name].add(completion(f"{index}", question=name, index=index), index < right, 2)
    assert assessment_counts(found, 2) == {
        "questions": 4,
        "used": 1,
        "skipped": 3,
        "too_few_right": 1,
        "too_few_wrong": 3,
        "samples": 4 + 3 + 0 + 3,
    }
    kept = assessment_lines(found, lines("full", [-1.0, -2.0], [-1.5, -3.0]))
    assert [line["value"] for line in kept] == [0.75, None, None, None]
    assert kept[1] == {"question_id": "no wrong", "value": None, "right": 2, "wrong": 0, "samples": 3}


# ---- self-consistency ----


def paths(question: str, *texts: str) -> list[Completion]:
    return [completion(text, question=question, index=index) for index, text in enumerate(texts)]


def test_votes_are_on_equal_answers_and_unparsed_paths_never_win():
    questions = [Question("a", "ask a", "1,234"), Question("b", "ask b", "5"), Question("c", "ask c", "5")]
    completions = [
        *paths("a", "[ANS] 1,234", "[ANS] $1234.00", "[ANS] 7", "no idea"),
        *paths("b", "[ANS] 6", "[ANS] 6.0", "[ANS] 5", "[ANS] 12/2"),
        *paths("c", "hm", "hm", "hm", "hm"),
    ]
    found = vote_lines(grade_all(Numbers(), completions, questions), questions, Numbers(), [1, 2, 4])
    assert [(line["right"], line["wrong"], line["unparsed"]) for line in found] == [
        (2, {"7": 1}, 1),
        (1, {"6": 3}, 0),
        (0, {}, 4),
    ]
    # a: pairs of R R 7 -: one RR, two R7 (half each), two R- and one 7-
    assert found[0]["vote"] == pytest.approx({"1": 2 / 4, "2": (1 + 2 * 0.5 + 2) / 6, "4": 1.0})
    assert found[0]["pass"] == pytest.approx({"1": 2 / 4, "2": 5 / 6, "4": 1.0})
    # b: pairs of 6 6 6 R: three ties
    assert found[1]["vote"] == pytest.approx({"1": 1 / 4, "2": 3 * 0.5 / 6, "4": 0.0})
    assert found[2]["vote"] == {"1": 0.0, "2": 0.0, "4": 0.0}


def test_self_consistency_averages_over_questions_with_intervals():
    questions = [Question("a", "ask a", "1"), Question("b", "ask b", "1")]
    completions = [*paths("a", "[ANS] 1", "[ANS] 1"), *paths("b", "[ANS] 2", "hm")]
    found = vote_lines(grade_all(Numbers(), completions, questions), questions, Numbers(), [1, 2])
    metrics = self_consistency(found)
    low, high = accuracy_interval([1.0, 0.0])
    assert metrics["vote"]["2"] == Estimate(0.5, low=low, high=high, n=2)
    assert metrics["pass"]["1"].mean == 0.5
    assert (metrics["questions"], metrics["unparsed"], metrics["truncated"]) == (2, 1, 0)


def test_only_a_chain_that_was_cut_before_any_text_has_no_token():
    assert not has_tokens(completion("", truncated=True))
    assert has_tokens(completion("")) and has_tokens(completion("a", truncated=True))
