"""Continuations of right chains as negatives: which are kept, what they are scored by, and the counts."""

from __future__ import annotations

import pytest

from aft.errors import DataError
from aft.grading import Grader
from aft.labelling.continuations import add_continuations
from aft.labelling.labels import label_completions
from aft.records import NEGATIVE, UNPARSED, Completion, Prefix, Question
from aft.tasks import make_task

QUESTION = Question("q", "?", "6")
TASK = make_task("arithmetic", num_train=1, num_answer_only=0, num_validation=1, num_test=1)


def sampled(index: int, text: str, ids=(4, 5, 6, 1), prefix: Prefix | None = None) -> Completion:
    tokens = len(ids) - prefix.tokens if ids and prefix else 4
    return Completion("q", index, text, False, tokens, 0, ids, prefix=prefix)


OWN = [sampled(0, "2 + 4 is 6 . [ANS] 6"), sampled(1, "2 + 4 is 7 . [ANS] 7")]
CONTINUED = [
    sampled(3, "2 + 4 is 6 . now 6 is 9 . [ANS] 9", prefix=Prefix(0, 2)),
    sampled(2, "2 + 4 is 6 . so . [ANS] 6", prefix=Prefix(0, 1)),  # ends right
    sampled(4, "2 + 4 is 7 . [ANS] 7", prefix=Prefix(0, 1)),  # the text of a sample
    sampled(7, "2 + 4 is 7 . [ANS] 7", prefix=Prefix(0, 2)),  # and that of a continuation
    sampled(5, "2 + 4 is", prefix=Prefix(0, 3)),
    sampled(6, "2 + 4 is 8 . [ANS] 8", ids=None, prefix=Prefix(0, 1)),
]


def grown(**changes):
    grader = Grader(TASK)
    groups, _ = label_completions([QUESTION], {}, OWN, TASK, grader=grader)
    keys = {"unparsed": "negative", "deduplicate": "exact", "credit": "step", **changes}
    [group], counts = add_continuations(groups, [QUESTION], CONTINUED, grader, **keys)
    return group.candidates, vars(counts)


def test_what_ends_wrong_becomes_a_negative_that_is_scored_behind_its_beginning():
    candidates, counts = grown()
    assert [candidate.index for candidate in candidates] == [0, 1, 3, 4, 5], "a method may not use sample 1"
    right, wrong, step, _, cut = candidates
    assert right.response_mask is None and wrong.response_mask is None
    assert (step.label, step.rating, step.answer) == (NEGATIVE, 0.0, "9")
    assert step.response_mask == (0, 0, 1, 1) and step.prefix == Prefix(0, 2) and step.token_ids == (4, 5, 6, 1)
    assert cut.label == UNPARSED and cut.response_mask == (0, 0, 0, 1)
    assert counts == {
        "continuations": 6,
        "tokens": 2 + 3 + 3 + 1 + 4 + 2,
        "right": 1,
        "wrong": 4,
        "unparsed": 1,
        "duplicates": 1,
        "without_ids": 1,
        "kept": 3,
        "groups": 1,
        "as_samples": 1,
    }


def test_credit_for_the_whole_chain_needs_no_mask():
    candidates, counts = grown(credit="chain")
    assert [candidate.index for candidate in candidates] == [0, 1, 3, 4, 5, 6] and counts["without_ids"] == 0
    assert all(candidate.response_mask is None for candidate in candidates)


def test_unparsed_ends_and_repeated_texts_follow_the_rules_of_labelling():
    assert [candidate.index for candidate in grown(unparsed="drop")[0]] == [0, 1, 3, 4]
    assert [candidate.index for candidate in grown(deduplicate="none")[0]] == [0, 1, 3, 4, 5, 7]


def test_a_continuation_of_another_question_is_refused():
    with pytest.raises(DataError, match=r"continuation 2 of question 'q' is of no training question"):
        add_continuations([], [], CONTINUED, Grader(TASK), unparsed="negative", deduplicate="exact", credit="step")
