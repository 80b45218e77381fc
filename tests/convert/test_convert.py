"""Groups as the rows of TRL and LLaMA-Factory: every field of every format, which pairs, and what is counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.convert import (
    SELECTIONS,
    Prompts,
    Selection,
    completion_rows,
    outranking_pairs,
    preference_rows,
    ranking_rows,
    select_pairs,
    unpaired_rows,
)
from aft.errors import ConfigError
from aft.records import Candidate, Group

TEXT = Prompts("Q: {question}\nA:")
CHAT = Prompts("{question}", conversational=True)


def candidates(*ratings: float) -> list[Candidate]:
    return [
        Candidate(f"c{index}", rating, "positive" if rating else "negative") for index, rating in enumerate(ratings)
    ]


def group(*ratings: float, question_id: str = "q", reference: str | None = None) -> Group:
    return Group(question_id, "½ of 漢?", "1", reference, tuple(candidates(*ratings)))


# ---- which pairs ----


@pytest.mark.parametrize(
    ("ratings", "gap", "pairs"),
    [
        ((1, 0), 0.0, [(0, 1)]),
        ((0, 1, 1), 0.0, [(1, 0), (2, 0)]),
        ((1, 1), 0.0, []),
        ((), 0.0, []),
        ((3, 2.5, 1), 0.0, [(0, 1), (0, 2), (1, 2)]),
        ((3, 2.5, 1), 0.5, [(0, 2), (1, 2)]),  # by more than the gap
    ],
)
def test_a_pair_is_one_rated_above_the_other_by_more_than_the_gap(ratings, gap, pairs):
    assert outranking_pairs(candidates(*ratings), gap) == pairs


@pytest.mark.parametrize(
    ("ratings", "pairs"),
    [
        ((1, 0), [(0, 1)]),
        ((1, 0, 0, 0), [(0, 1), (0, 2), (0, 3)]),
        ((1, 1, 0, 0), [(0, 2), (1, 3)]),
        ((1, 1, 1, 1, 0, 0), [(0, 4), (1, 5), (2, 4), (3, 5)]),  # those left over go to different partners
        ((4, 3, 2, 1), [(0, 2), (1, 3)]),
        ((1, 1), []),
    ],
)
def test_covering_pairs(ratings, pairs):
    assert select_pairs(outranking_pairs(candidates(*ratings)), candidates(*ratings), "covering") == pairs


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 4), max_size=5), st.sampled_from([0.0, 1.0, 2.0]))
def test_no_smaller_set_of_pairs_covers_as_much(ratings, gap):
    members = candidates(*ratings)
    pairs = outranking_pairs(members, gap)
    found = select_pairs(pairs, members, "covering")
    covered = {member for pair in pairs for member in pair}
    assert set(found) <= set(pairs) and {member for pair in found for member in pair} == covered
    smaller = itertools.combinations(pairs, max(len(found) - 1, 0))
    assert not found or all({member for pair in some for member in pair} != covered for some in smaller)


def test_best_worst_is_the_widest_pair_and_the_first_of_equals():
    members = candidates(2, 3, 3, 0, 1, 0)
    assert select_pairs(outranking_pairs(members), members, "best-worst") == [(1, 3)]


def test_one_pair_is_drawn_by_its_key_alone():
    members = candidates(1, 1, 1, 0, 0, 0)
    pairs = outranking_pairs(members)
    drawn = [select_pairs(pairs, members, "one", f"0 q{number}") for number in range(60)]
    assert drawn == [select_pairs(pairs, members, "one", f"0 q{number}") for number in range(60)]
    assert all(len(pair) == 1 for pair in drawn) and len({pair[0] for pair in drawn}) == 9  # each of them at some time


@pytest.mark.parametrize("selection", SELECTIONS)
def test_two_ratings_of_one_text_are_no_pair(selection):
    same = Group("q", "?", "", None, (Candidate("c", 1.0, "positive"), Candidate("c", 0.0, "negative")))
    rows, counts = preference_rows([same], TEXT, Selection(selection))
    assert rows == [] and counts["pairs of the same text, left out"] == 1
    assert counts["groups without a pair, left out"] == 1 and counts["candidates in no pair, left out"] == 2


# ---- preference ----


def test_a_preference_row_of_texts():
    rows, _ = preference_rows([group(1, 0)], TEXT)
    assert rows == [
        {
            "prompt": "Q: ½ of 漢?\nA:",
            "chosen": "c0",
            "rejected": "c1",
            "score_chosen": 1.0,
            "score_rejected": 0.0,
            "question_id": "q",
        }
    ]


def test_a_preference_row_of_messages():
    rows, _ = preference_rows([group(4, 2.5)], Prompts("{question}", conversational=True, system="Think."))
    assert rows == [
        {
            "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "½ of 漢?"}],
            "chosen": [{"role": "assistant", "content": "c0"}],
            "rejected": [{"role": "assistant", "content": "c1"}],
            "score_chosen": 4.0,
            "score_rejected": 2.5,
            "question_id": "q",
        }
    ]
    assert preference_rows([group(1, 0)], CHAT)[0][0]["prompt"] == [{"role": "user", "content": "½ of 漢?"}]


def test_everything_left_out_of_pairs_is_counted():
    groups = [
        group(1, 1, 0, 0, 0.5, question_id="pairs"),
        group(1, 1, question_id="ties"),
        group(question_id="empty"),
        Group(
            "cut",
            "?",
            "",
            None,
            (Candidate("a", 1.0, "positive", truncated=True), Candidate("b", 0.0, "negative"), *candidates(1)),
        ),
    ]
    rows, counts = preference_rows(groups, TEXT, Selection("covering"))
    assert counts == {
        "groups": 4,
        "groups without a pair, left out": 2,
        "candidates": 10,
        "candidates in no pair, left out": 2,
        "truncated candidates, kept": 1,
        "truncated candidates, left out": 0,
        "pairs of the same text, left out": 0,
        "pairs not selected, left out": 8 - 3,
        "rows (pairs)": 3 + 2,
    }
    assert len(rows) == 5
    rows, counts = preference_rows(groups, TEXT, Selection("all", drop_truncated=True))
    assert [row["chosen"] for row in rows if row["question_id"] == "cut"] == ["c0"]
    assert counts["truncated candidates, kept"] == 0 and counts["truncated candidates, left out"] == 1
    assert counts["rows (pairs)"] == len(rows) == 9


def test_a_reference_is_in_no_pair_unless_it_is_a_candidate():
    rows, _ = preference_rows([group(1, 0, reference="the reference")], TEXT)
    assert "the reference" not in str(rows)
    among = Group("q", "?", "", "r", (Candidate("r", 1.0, "reference"), Candidate("c", 0.0, "negative")))
    assert [row["chosen"] for row in preference_rows([among], TEXT)[0]] == ["r"]


# ---- LLaMA-Factory ----


def test_a_ranking_row():
    rows, counts = ranking_rows([group(1, 0)], Prompts("{question}"))
    assert rows == [
        {
            "instruction": "½ of 漢?",
            "input": "",
            "chosen": "c0",
            "rejected": "c1",
            "score_chosen": 1.0,
            "score_rejected": 0.0,
            "question_id": "q",
        }
    ]
    assert counts["rows (pairs)"] == 1
    with_system, _ = ranking_rows([group(1, 0)], Prompts("{question}", system="Think."))
    assert with_system == [{**rows[0], "system": "Think."}]


# ---- unpaired ----


def test_unpaired_rows_of_right_and_wrong():
    rows, counts = unpaired_rows([group(1, 0), group()], TEXT)
    shared = {"prompt": "Q: ½ of 漢?\nA:", "question_id": "q"}
    assert rows == [
        {**shared, "completion": "c0", "label": True, "score": 1.0},
        {**shared, "completion": "c1", "label": False, "score": 0.0},
    ]
    assert counts["groups without a candidate, left out"] == 1
    assert (counts["rows with label true"], counts["rows with label false"]) == (1, 1)
    chat, _ = unpaired_rows([group(1)], CHAT)
    assert chat[0]["prompt"] == [{"role": "user", "content": "½ of 漢?"}]
    assert chat[0]["completion"] == [{"role": "assistant", "content": "c0"}]


def test_graded_ratings_need_a_threshold():
    graded = [group(1, 0), group(3, 2, 1, question_id="graded")]
    with pytest.raises(ConfigError) as error:
        unpaired_rows(graded, TEXT)
    assert str(error.value) == (
        "--threshold: missing; candidates[0] of 'graded' is rated 3, so say above which rating a completion is a good"
        " one"
    )
    rows, _ = unpaired_rows(graded, TEXT, threshold=2)
    assert [row["label"] for row in rows] == [False, False, True, False, False]


# ---- prompt-completion ----

MIXED = Group(
    "q",
    "?",
    "1",
    "ref",
    (
        Candidate("good", 1.0, "positive"),
        Candidate("bad", 0.0, "negative"),
        Candidate("ref", 1.0, "positive"),
        Candidate("better", 2.0, "positive", truncated=True),
        Candidate("none", 0.0, "unparsed"),
    ),
)


@pytest.mark.parametrize(
    ("completions", "expected", "left_out", "repeated"),
    [
        ("references", ["ref"], 5, 0),
        ("positives", ["good", "ref", "better"], 2, 0),
        ("both", ["ref", "good", "better"], 2, 1),
        ("best", ["better"], 4, 0),
    ],
)
def test_which_completions_are_imitated(completions, expected, left_out, repeated):
    rows, counts = completion_rows([MIXED], TEXT, completions=completions)
    assert rows == [{"prompt": "Q: ?\nA:", "completion": text, "question_id": "q"} for text in expected]
    assert counts[f"candidates not asked for ({completions}), left out"] == left_out
    assert counts["positives that repeat the reference, written once"] == repeated
    assert counts["truncated candidates, kept"] == ("better" in expected)


def test_a_group_with_nothing_to_imitate_is_counted():
    rows, counts = completion_rows([group(0, 0), MIXED], CHAT, completions="best", drop_truncated=True)
    assert [row["completion"] for row in rows] == [[{"role": "assistant", "content": "good"}]]
    assert counts["groups without a row, left out"] == 1 and counts["truncated candidates, left out"] == 1
    assert counts["candidates"] == 7
