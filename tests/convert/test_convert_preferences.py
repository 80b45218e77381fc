"""TRL preference sets as groups: what is read, which ratings follow from pairs, and what a group cannot hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.convert import Imported, Prompts, outranking_pairs, preference_groups, preference_rows
from aft.errors import ConfigError, DataError
from aft.records import Candidate, Group

EXPECTED = "expected all texts, or all lists of messages"
SKIP = " (--skip-unusable leaves such out and counts them)"


def read(*rows: dict[str, Any], **options: Any) -> Imported:
    return preference_groups([(f"x.jsonl:{line}", row) for line, row in enumerate(rows, start=1)], **options)


def pair(chosen: str, rejected: str, prompt: str = "p", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def ratings(imported: Imported) -> list[dict[str, float]]:
    return [{c.completion: c.rating for c in group.candidates} for group in imported.groups]


# ---- what is read ----


def test_rows_of_one_prompt_are_one_group():
    imported = read(pair("a", "b"), pair("c", "d", "p2"), pair("a", "e"), pair("a", "b"))
    assert imported.groups == [
        Group(
            "prompt-000000",
            "p",
            "",
            None,
            (
                Candidate("a", 1.0, "positive", index=0),
                Candidate("b", 0.0, "negative", index=1),
                Candidate("e", 0.0, "negative", index=2),
            ),
        ),
        Group(
            "prompt-000001",
            "p2",
            "",
            None,
            (Candidate("c", 1.0, "positive", index=0), Candidate("d", 0.0, "negative", index=1)),
        ),
    ]
    assert imported.counts == {
        "rows": 4,
        "rows of two equal completions, no pair": 0,
        "rows that repeat an earlier one": 1,
        "groups (prompts)": 2,
        "groups without a candidate": 0,
        "candidates": 5,
        "pairs in the rows": 3,
        "pairs that follow from these": 0,
        "pairs that ratings alone add": 0,
    }
    assert not imported.conversational and imported.system is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "question", "completions"),
    [
        ("Q: 2?\nA: two", "Q: 2?\nA: six", "Q: 2?\nA:", [" two", " six"]),
        ("The sky is blue", "The sky is bright", "The sky is b", ["lue", "right"]),  # character by character, as TRL
        ("ab", "abc", "a", ["b", "bc"]),  # something is left of each
        ("x", "y", "", ["x", "y"]),
    ],
)
def test_an_implicit_prompt_of_texts_is_their_common_beginning(chosen, rejected, question, completions):
    (group,) = read({"chosen": chosen, "rejected": rejected}).groups
    assert (group.question, [c.completion for c in group.candidates]) == (question, completions)


SYSTEM, USER = turn("system", "Think."), turn("user", "2?")
CHOSEN, REJECTED = turn("assistant", "two"), turn("assistant", "six")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [SYSTEM, USER], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"chosen": [SYSTEM, USER, CHOSEN], "rejected": [SYSTEM, USER, REJECTED]},
        {"prompt": "2?", "chosen": [SYSTEM, USER, CHOSEN], "rejected": [SYSTEM, USER, REJECTED]},
    ],
    ids=["explicit", "implicit", "a text beside the conversations"],
)
def test_conversations(row):
    imported = read(row)
    (group,) = imported.groups
    assert (group.question, [c.completion for c in group.candidates]) == ("2?", ["two", "six"])
    assert imported.conversational and imported.system == "Think."


def test_scores_are_the_ratings_unless_the_order_is_asked_for():
    rows = [pair("a", "b", score_chosen=8, score_rejected=7.5), pair("b", "c", score_chosen=7.5, score_rejected=1)]
    assert ratings(read(*rows)) == [{"a": 8.0, "b": 7.5, "c": 1.0}]
    assert ratings(read(*rows, ratings="order")) == [{"a": 2.0, "b": 1.0, "c": 0.0}]
    assert read(*rows).unread == []
    assert read({**rows[0], "source": "x"}, ratings="order").unread == ["score_chosen", "score_rejected", "source"]


def test_question_ids_and_templates_are_taken_back():
    rows = [pair("a", "b", "Q: p\nA:", question_id="one"), pair("a", "b", "Q: p\nA:", question_id="two")]
    found = [(group.question_id, group.question) for group in read(*rows, template="Q: {question}\nA:").groups]
    assert found == [("one", "p"), ("two", "p")]
    assert [group.question_id for group in read(pair("a", "b"), name="ultra").groups] == ["ultra-000000"]


def test_two_equal_completions_are_no_pair():
    imported = read(pair("a", "a"), pair("a", "b"), pair("c", "c", "p2"))
    assert ratings(imported) == [{"a": 1.0, "b": 0.0}, {}]
    assert imported.counts["rows of two equal completions, no pair"] == 2
    assert imported.counts["groups without a candidate"] == 1


def test_two_equal_texts_without_a_prompt_are_no_question_either():
    imported = read({"chosen": "same text", "rejected": "same text"}, {"chosen": "ab", "rejected": "ac"})
    assert [group.question for group in imported.groups] == ["a"]
    assert imported.counts["rows of two equal completions, no pair"] == 1
    assert imported.counts["groups without a candidate"] == 0
    alike = {"chosen": [USER, CHOSEN], "rejected": [USER, CHOSEN]}  # here the prompt is the user's turn
    assert [group.question for group in read(alike).groups] == ["2?"]


def test_keys_of_messages_that_are_not_read_are_counted():
    named = {"prompt": [{**USER, "name": "Ann"}], "chosen": [{**CHOSEN, "name": "Bo"}], "rejected": [REJECTED]}
    empty = {"prompt": [{**USER, "name": None, "tool_calls": []}], "chosen": [CHOSEN], "rejected": [REJECTED]}
    weighed = {"chosen": [USER, {**CHOSEN, "weight": 0, "name": "Bo"}], "rejected": [USER, REJECTED]}
    assert read(named, empty, weighed).unread_keys == {"name": 2, "weight": 1}
    assert read(pair("a", "b")).unread_keys == {}


# ---- ratings from pairs ----


@pytest.mark.parametrize(
    ("pairs", "expected", "follow", "added"),
    [
        (["ab"], {"a": 1, "b": 0}, 0, 0),
        (["ab", "bc"], {"a": 2, "b": 1, "c": 0}, 1, 0),  # a over c follows
        (["ab", "bc", "ac"], {"a": 2, "b": 1, "c": 0}, 0, 0),
        (["ab", "bc", "dc"], {"a": 2, "b": 1, "c": 0, "d": 1}, 1, 1),  # a over d is what the levels add
        (["ab", "cd"], {"a": 1, "b": 0, "c": 1, "d": 0}, 0, 2),  # a over d, c over b
        (["ab", "ac", "bd", "cd", "de"], {"a": 3, "b": 2, "c": 2, "d": 1, "e": 0}, 4, 0),
    ],
)
def test_levels_of_the_preference_graph(pairs, expected, follow, added):
    imported = read(*(pair(*both) for both in pairs))
    assert ratings(imported) == [expected]
    counts = imported.counts
    assert counts["pairs in the rows"] == len(pairs)
    assert (counts["pairs that follow from these"], counts["pairs that ratings alone add"]) == (follow, added)
    highest = max(expected.values())
    labels = {c.completion: c.label for c in imported.groups[0].candidates}
    assert labels == {text: "positive" if rating == highest else "negative" for text, rating in expected.items()}


@settings(deadline=None, max_examples=100)
@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] < pair[1]), min_size=1))
def test_every_pair_of_the_rows_is_one_of_the_group(pairs):
    (found,) = ratings(read(*(pair(f"c{better}", f"c{worse}") for better, worse in pairs)))
    assert all(found[f"c{better}"] > found[f"c{worse}"] for better, worse in pairs)


# ---- there and back ----

WORDS = st.text(max_size=4)


@st.composite
def groups(draw: st.DrawFn) -> list[Group]:
    """Groups with unique ids, in which a text that occurs twice has one rating."""
    found = []
    for number in range(draw(st.integers(0, 3))):
        rated = draw(st.lists(st.tuples(WORDS, st.integers(-2, 2)), max_size=6))
        known: dict[str, float] = {}
        candidates = tuple(Candidate(text, known.setdefault(text, rating / 2), "negative") for text, rating in rated)
        found.append(Group(f"q{number}", draw(WORDS), "1", None, candidates))
    return found


def pair_set(groups: list[Group]) -> set[tuple[str, str, str, str]]:
    return {
        (group.question_id, group.question, group.candidates[i].completion, group.candidates[j].completion)
        for group in groups
        for i, j in outranking_pairs(group.candidates)
    }


@settings(deadline=None, max_examples=200)
@given(groups(), st.booleans(), st.sampled_from(["scores", "order"]), st.sampled_from(["{question}", "Q {question}\n"]))
def test_all_pairs_written_and_read_are_the_same_pairs(written, conversational, source, template):
    rows, counts = preference_rows(written, Prompts(template, conversational))
    imported = read(*rows, template=template, ratings=source)
    assert pair_set(imported.groups) == pair_set(written)
    assert imported.counts["pairs that ratings alone add"] == imported.counts["pairs that follow from these"] == 0
    assert imported.counts["rows"] == counts["rows (pairs)"]
    if source == "scores":
        known = {(g.question_id, c.completion): c.rating for g in written for c in g.candidates}
        assert all(known[g.question_id, c.completion] == c.rating for g in imported.groups for c in g.candidates)


# ---- what is wrong with a row ----


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "p", "choosen": "a", "rejected": "b"},
            "missing 'chosen' (the row has 'prompt', 'choosen', 'rejected'). Did you mean 'choosen'?",
        ),
        ({"chosen": "a"}, "missing 'rejected' (the row has 'chosen')."),
        (pair("a", None), "'rejected' must be str or list, got NoneType"),
        (
            pair("a", [REJECTED]),
            f"'chosen' is a text, 'rejected' is a conversation, 'prompt' is a text; {EXPECTED}",
        ),
        (
            {"prompt": [USER], "chosen": "a", "rejected": "b"},
            f"'chosen' is a text, 'rejected' is a text, 'prompt' is a conversation; {EXPECTED}",
        ),
        (
            {"prompt": [USER], "chosen": ["a"], "rejected": ["b"]},
            "chosen[0]: expected a message with 'role' and 'content', got str",
        ),
        (
            {"prompt": [USER], "chosen": [{"from": "gpt"}], "rejected": [REJECTED]},
            "chosen[0]: missing 'role' (the line has 'from')",
        ),
        ({"prompt": [USER], "chosen": [], "rejected": [REJECTED]}, "'chosen' has no message"),
        (
            {"prompt": "3?", "chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]},
            "'prompt' is a text, and not that of the user's turn in 'chosen' and 'rejected'",
        ),
        (
            pair("a", "b", score_chosen=1),
            "missing 'score_rejected' (the line has 'prompt', 'chosen', 'rejected', 'score_chosen')",
        ),
        (pair("a", "b", score_chosen=float("nan"), score_rejected=0), "'score_chosen' must be finite, got nan"),
        (pair("a", "b", question_id=3), "'question_id' must be str, got int"),
    ],
)
def test_a_malformed_row_is_named(row, message):
    for skip in (False, True):
        with pytest.raises(DataError) as error:
            read(pair("a", "b"), row, skip_unusable=skip)
        assert str(error.value) == f"x.jsonl:2: {message}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": [USER], "chosen": [CHOSEN], "rejected": [REJECTED]},
            "kind: 'conversation' here, 'text' in x.jsonl:1",
        ),
        (pair("a", "b", question_id="q"), "question_id: 'question_id' here, 'no question_id' in x.jsonl:1"),
        (
            pair("a", "b", score_chosen=1, score_rejected=0),
            "score_chosen and score_rejected: 'scores' here, 'no scores' in x.jsonl:1",
        ),
    ],
)
def test_a_set_is_of_one_kind(row, message):
    with pytest.raises(DataError) as error:
        read(pair("a", "b"), row)
    assert str(error.value) == f"x.jsonl:2: {message}; a set must be of one kind, so convert each apart"


def test_two_system_turns_and_two_prompts_of_one_id():
    rows = [{"prompt": [turn("system", text), USER], "chosen": [CHOSEN], "rejected": [REJECTED]} for text in "ab"]
    with pytest.raises(DataError, match=r"^x.jsonl:2: system turn: 'b' here, 'a' in x.jsonl:1; a set must be of one"):
        read(*rows)
    with pytest.raises(
        DataError, match=r"^x.jsonl:2: another prompt than in x.jsonl:1, with the same question_id 'q'$"
    ):
        read(pair("a", "b", question_id="q"), pair("a", "b", "p2", question_id="q"))


def test_a_prompt_of_another_template():
    with pytest.raises(DataError) as error:
        read(pair("a", "b", "Q: p"), template="Q: {question}\n")
    assert str(error.value) == "x.jsonl:1: the prompt is not as --template 'Q: {question}\\n' makes it: 'Q: p'"
    with pytest.raises(ConfigError, match="must occur once to be found in a prompt"):
        read(pair("a", "b"), template="{question} {question}")


# ---- what a group cannot hold ----

UNUSABLE = [
    (
        [{"prompt": [USER, CHOSEN, USER], "chosen": [CHOSEN], "rejected": [REJECTED]}],
        "x.jsonl:1: a prompt of other turns than one user's: it has user, assistant, user",
    ),
    (
        [{"prompt": [USER], "chosen": [CHOSEN, USER, CHOSEN], "rejected": [REJECTED]}],
        "x.jsonl:1: a completion of other turns than one assistant's: 'chosen' has assistant, user, assistant",
    ),
    (
        [{"prompt": [USER], "chosen": [{**CHOSEN, "content": None, "tool_calls": [{}]}], "rejected": [REJECTED]}],
        "x.jsonl:1: a message that calls tools: chosen[0] has 'tool_calls'",
    ),
    (
        [pair("a", "b"), pair("b", "c"), pair("c", "a")],
        "prompt 'prompt-000000': its pairs contradict each other: x.jsonl:1 prefers 'a' to 'b';"
        " x.jsonl:2 prefers 'b' to 'c'; x.jsonl:3 prefers 'c' to 'a'",
    ),
    (
        [pair("a", "b", score_chosen=7, score_rejected=7)],
        "x.jsonl:1: its scores contradict its pairs: score_chosen 7 is not above score_rejected 7;"
        " --ratings order goes by the pairs alone",
    ),
    (
        [pair("a", "b", score_chosen=7, score_rejected=6), pair("a", "c", score_chosen=8, score_rejected=6)],
        "x.jsonl:2: its scores contradict its pairs: 'a' has the score 8 here and 7 in an earlier row;"
        " --ratings order goes by the pairs alone",
    ),
]


@pytest.mark.parametrize(
    ("rows", "message"), UNUSABLE, ids=["prompt", "completion", "tools", "circle", "tie", "two scores"]
)
def test_what_no_group_can_hold_is_an_error_or_counted(rows, message):
    with pytest.raises(DataError) as error:
        read(*rows)
    assert str(error.value) == message + SKIP
    reason = message.split(": ")[1]
    imported = read(*rows, skip_unusable=True)
    counts = imported.counts
    assert counts["rows"] == len(rows) == counts[f"rows left out: {reason}"] + counts["pairs in the rows"]
    assert len(imported.groups) == (counts["pairs in the rows"] > 0)


def test_a_row_at_fault_takes_no_other_row_with_it():
    rows = [
        pair("a", "b", score_chosen=3, score_rejected=2),
        pair("b", "c", score_chosen=2, score_rejected=2),  # a tie
        pair("a", "c", score_chosen=4, score_rejected=1),  # another score than before, and c gets none from it
        pair("b", "c", score_chosen=2, score_rejected=0),
        pair("a", "b", "p2", score_chosen=1, score_rejected=1),
    ]
    imported = read(*rows, skip_unusable=True)
    assert ratings(imported) == [{"a": 3.0, "b": 2.0, "c": 0.0}]
    assert imported.counts["rows left out: its scores contradict its pairs"] == 3


def test_a_circle_takes_all_rows_of_its_prompt():
    circle = [pair("a", "b"), pair("b", "a"), pair("c", "d"), pair("x", "x")]
    imported = read(*circle, pair("a", "b", "p2"), skip_unusable=True)
    assert ratings(imported) == [{"a": 1.0, "b": 0.0}]
    reason = "left out: its pairs contradict each other"
    assert (imported.counts[f"rows {reason}"], imported.counts[f"prompts {reason}"]) == (4, 1)
    assert imported.counts["rows of two equal completions, no pair"] == 0, "a row is counted once"


def test_an_empty_set():
    assert read().groups == [] and read().counts["rows"] == 0
