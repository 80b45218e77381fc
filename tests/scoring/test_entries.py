"""Text to entries: what is supervised, what is ranked, what is left out and what is counted."""

from __future__ import annotations

import pytest

from aft.records import NEGATIVE, POSITIVE, REFERENCE, Candidate, Group, Prefix
from aft.scoring.entries import (
    Encoder,
    alignment_entries,
    chosen_candidates,
    count_work,
    first_samples,
    group_item,
    reference_entries,
    scoring_entries,
    with_initial_scores,
)
from aft.scoring.packing import Item

END = 1


class Letters:
    """One token per character, so that lengths can be counted by eye."""

    def prompt(self, question):
        return [ord(letter) for letter in question]

    def response(self, question, text, *, ended=True, is_sampled=False):
        return [ord(letter) for letter in text] + ([END] if ended else [])

    def sampled(self, ids):
        return list(ids)

    def summary(self):
        return None


def encoder(max_length: int = 100, overlong: str = "drop") -> Encoder:
    return Encoder(Letters(), max_length, overlong)


def text(ids: list[int]) -> str:
    return "".join("." if token == END else chr(token) for token in ids)


def positive(completion: str, **keywords) -> Candidate:
    return Candidate(completion, 1.0, POSITIVE, **keywords)


def negative(completion: str, **keywords) -> Candidate:
    return Candidate(completion, 0.0, NEGATIVE, **keywords)


def group(*candidates: Candidate, reference: str | None = "ref", name: str = "q") -> Group:
    return Group(name, "ask", "42", reference, candidates)


def parts(item) -> list[tuple[str, bool, float | None]]:
    rows = zip(item.responses, item.supervised, item.ratings, strict=True)
    return [(text(response), supervised, rating) for response, supervised, rating in rows]


def test_reference_entries():
    entries = reference_entries([("a", "ask", "one"), ("b", "why", "two")], encoder())
    assert [text(item.prompt_ids) for (item,) in entries] == ["ask", "why"]
    assert [parts(item) for (item,) in entries] == [[("one.", True, None)], [("two.", True, None)]]
    assert [item.question_id for (item,) in entries] == ["a", "b"]


def test_aft_supervises_the_reference_and_ranks_the_candidates():
    item = group_item(group(positive("good"), negative("bad")), encoder(), supervise="reference")
    assert parts(item) == [("ref.", True, None), ("good.", False, 1.0), ("bad.", False, 0.0)]
    assert item.candidates == [1, 2]


def test_rft_supervises_positives_and_leaves_out_what_nothing_ranks():
    chosen = group(positive("good"), negative("bad"), positive("fine"))
    item = group_item(chosen, encoder(), supervise="reference_and_positives", ranked=False)
    assert parts(item) == [("ref.", True, None), ("good.", True, None), ("fine.", True, None)]
    assert item.candidates == []


def test_rft_together_with_ranking():
    item = group_item(group(positive("good"), negative("bad")), encoder(), supervise="reference_and_positives")
    assert parts(item) == [("ref.", True, None), ("good.", True, 1.0), ("bad.", False, 0.0)]


def test_vft_continued_leaves_only_the_reference():
    item = group_item(group(positive("good"), negative("bad")), encoder(), supervise="reference", ranked=False)
    assert parts(item) == [("ref.", True, None)]


def test_scoring_ranks_only():
    assert parts(group_item(group(positive("ref"), negative("bad")), encoder())) == [
        ("ref.", False, 1.0),
        ("bad.", False, 0.0),
    ]


@pytest.mark.parametrize("label", [POSITIVE, REFERENCE])
def test_a_candidate_that_repeats_the_reference_is_computed_once(label):
    repeated = Candidate("ref", 1.0, label)
    chosen = group(negative("bad"), repeated)
    item = group_item(chosen, encoder(), supervise="reference")
    assert parts(item) == [("ref.", True, 1.0), ("bad.", False, 0.0)]
    unranked = group_item(chosen, encoder(), supervise="reference_and_positives", ranked=False)
    assert parts(unranked) == [("ref.", True, None)]


def test_a_second_repetition_is_a_candidate_of_its_own():
    item = group_item(group(positive("ref"), positive("ref")), encoder(), supervise="reference")
    assert parts(item) == [("ref.", True, 1.0), ("ref.", False, 1.0)]


def test_a_truncated_candidate_has_no_end_token_and_is_never_the_reference():
    item = group_item(group(negative("ref", truncated=True)), encoder(), supervise="reference")
    assert parts(item) == [("ref.", True, None), ("ref", False, 0.0)]


def test_what_is_overlong_is_dropped_and_counted():
    encode = encoder(max_length=8)
    # the prompt has 3 tokens, so 5 are left: 4 letters and the end token
    item = group_item(group(positive("fits"), negative("tooooo long")), encode, supervise="reference")
    assert parts(item) == [("ref.", True, None), ("fits.", False, 1.0)]
    assert (encode.responses, encode.dropped, encode.truncated) == (3, 1, 0)
    assert encode.summary().startswith("1 of 3 responses dropped and 0 truncated")
    assert encoder().summary() is None


def test_what_is_overlong_is_truncated_and_counted():
    encode = encoder(max_length=8, overlong="truncate")
    item = group_item(group(positive("fits"), negative("tooooo long")), encode, supervise="reference")
    assert parts(item) == [("ref.", True, None), ("fits.", False, 1.0), ("toooo", False, 0.0)]
    assert (encode.responses, encode.dropped, encode.truncated) == (3, 0, 1)


@pytest.mark.parametrize("overlong", ["drop", "truncate"])
@pytest.mark.parametrize("max_length", [3, 2])
def test_a_prompt_that_leaves_no_room_drops_its_responses(overlong, max_length):
    encode = encoder(max_length, overlong)
    assert reference_entries([("a", "ask", "one")], encode) == []
    assert (encode.responses, encode.dropped, encode.truncated) == (1, 1, 0)


def test_a_response_without_any_token_is_dropped_and_counted():
    """It has no score: as a mean over nothing it would be 0, above every real one."""
    encode = encoder()
    item = group_item(group(positive("good"), negative("", truncated=True)), encode, supervise="reference")
    assert parts(item) == [("ref.", True, None), ("good.", False, 1.0)]
    assert encode.empty == 1 and encode.summary() == "1 of 3 responses dropped: without any token"
    # one that ended at once has an end token, and with it a score
    assert parts(group_item(group(negative("")), encoder())) == [(".", False, 0.0)]


def test_a_dropped_reference_does_not_swallow_a_candidate():
    encode = encoder(max_length=8)
    item = group_item(group(positive("good"), reference="a long reference"), encode, supervise="reference")
    assert parts(item) == [("good.", False, 1.0)]


def test_a_question_without_a_chain_borrows_a_reference():
    groups = [
        group(positive("p0"), name="q0", reference="r0"),
        group(positive("p1"), name="q1", reference=None),
        group(positive("p2"), name="q2", reference=None),
        group(positive("p3"), name="q3", reference="r3"),
        group(positive("p4"), name="q4", reference=None),
    ]
    options = {"supervise": "reference", "ranked": True}
    entries = alignment_entries(groups, encoder(), **options, pair_references=True, seed=0)
    assert [entry[0].question_id for entry in entries] == ["q0", "q1", "q2", "q3", "q4"]
    assert [len(entry) for entry in entries] == [1, 2, 2, 1, 2]
    lent = [entry[1] for entry in entries if len(entry) == 2]
    assert all(item.candidates == [] and item.supervised == [True] for item in lent)
    # in turn: both lenders before the first lends again
    names = [item.question_id for item in lent]
    assert set(names[:2]) == {"q0", "q3"} and names[2] == names[0]
    assert [text(item.responses[0]) for item in lent] == ["r" + name[1] + "." for name in names]
    again = alignment_entries(groups, encoder(), **options, pair_references=True, seed=0)
    assert again == entries

    alone = alignment_entries(groups, encoder(), **options, pair_references=False, seed=0)
    assert [len(entry) for entry in alone] == [1] * 5
    assert [any(item.supervised) for (item,) in alone] == [True, False, False, True, False]


def test_the_first_samples_are_those_that_fewer_draws_would_have_given():
    # sample 1 repeated sample 0, so labelling has dropped it: it still is one of the first two
    sampled = [positive("p0", index=0), negative("n2", index=2), positive("p5", index=5)]
    groups = [group(*sampled, positive("ref"), name="q0"), group(negative("n9", index=9), name="q1")]

    def kept(count):
        return [[candidate.completion for candidate in g.candidates] for g in first_samples(groups, count)]

    assert kept(1) == kept(2) == [["p0", "ref"], []]
    assert kept(3) == [["p0", "n2", "ref"], []]
    assert kept(None) == kept(10) == [["p0", "n2", "p5", "ref"], ["n9"]]
    assert first_samples(groups, None) is groups


def test_a_question_that_is_left_with_nothing_makes_no_entry():
    groups = [group(negative("bad"), name="q0", reference=None), group(positive("good"), name="q1")]
    options = {"supervise": "reference_and_positives", "ranked": False, "seed": 0}
    entries = alignment_entries(groups, encoder(), **options, pair_references=False)
    assert [[item.question_id for item in entry] for entry in entries] == [["q1"]]
    # paired, it still brings the reference it borrowed
    entries = alignment_entries(groups, encoder(), **options, pair_references=True)
    assert [[item.question_id for item in entry] for entry in entries] == [["q1"], ["q1"]]


def test_without_any_reference_nothing_is_borrowed():
    groups = [group(positive("good"), negative("bad"), reference=None)]
    entries = alignment_entries(groups, encoder(), supervise="reference", ranked=True, pair_references=True, seed=0)
    assert [parts(item) for (item,) in entries] == [[("good.", False, 1.0), ("bad.", False, 0.0)]]


def test_scoring_entries_leave_out_groups_without_candidates():
    groups = [group(name="q0"), group(positive("good"), negative("bad"), name="q1")]
    entries = scoring_entries(groups, encoder())
    assert [[item.question_id for item in entry] for entry in entries] == [["q1"]]
    assert parts(entries[0][0]) == [("good.", False, 1.0), ("bad.", False, 0.0)]


def test_work_is_counted_in_responses_and_their_tokens():
    group = Group("q", "ask", "1", "ref", (positive("ab"), negative("cdef")))
    ranked, unranked = (
        alignment_entries(
            [group],
            encoder(),
            supervise="reference_and_positives",
            ranked=ranked,
            pair_references=True,
            seed=0,
        )
        for ranked in (True, False)
    )
    # an end token each: "ref", "ab" and, where candidates are ranked, "cdef"
    assert count_work(ranked) == {"sequences": 3, "response_tokens": 4 + 3 + 5}
    assert count_work(unranked) == {"sequences": 2, "response_tokens": 4 + 3}


def test_initial_scores_go_to_the_question_whose_candidates_they_are():
    """A borrowed reference has its lender's id and no candidates: it takes none."""
    group = Item("a", [3], [[4, 1], [5, 1]], [False, False], [1.0, 0.0])
    borrowed = Item("b", [3], [[4, 1]], [True], [None])
    [(scored, other)] = with_initial_scores([(group, borrowed)], {"a": [-1.0, -2.0], "b": [-3.0]})
    assert scored.initial_scores == [-1.0, -2.0] and other.initial_scores is None
    assert group.initial_scores is None


def test_a_mask_goes_with_the_tokens_it_counts():
    masked = negative("wxyz", token_ids=(5, 6, 7, END), response_mask=(0, 0, 1, 1))
    item = group_item(group(positive("a"), masked), encoder())
    assert item.masks == [None, (0, 0, 1, 1)]
    assert group_item(group(positive("a")), encoder()).masks is None
    # it counts for L_VFT as well
    right = positive("wxyz", token_ids=(5, 6, 7, END), response_mask=(0, 0, 1, 1))
    item = group_item(group(right), encoder(), supervise="reference_and_positives")
    assert item.supervised == [True, True] and item.masks == [None, (0, 0, 1, 1)]
    # the reference stays apart from a candidate of the same tokens that counts less
    same = positive("ref", token_ids=(*map(ord, "ref"), END), response_mask=(0, 1, 1, 1))
    item = group_item(group(same), encoder(), supervise="reference")
    assert parts(item) == [("ref.", True, None), ("ref.", False, 1.0)]


def test_a_truncated_response_has_a_truncated_mask_and_none_without_a_token_that_counts():
    masked = negative("wxyz", token_ids=(5, 6, 7, END), response_mask=(0, 0, 1, 1))
    cut = encoder(6, "truncate")
    assert group_item(group(masked), cut).masks == [(0, 0, 1)] and cut.truncated == 1
    cut = encoder(5, "truncate")
    assert group_item(group(masked), cut).responses == [] and (cut.truncated, cut.masked) == (0, 1)
    assert cut.summary() == "1 of 1 responses dropped: cut before the first 1 of the response_mask"


def test_which_negatives_are_used():
    candidates = [
        positive("right", index=0),
        negative("wrong", index=1),
        negative("step", index=6, token_ids=(1, 2), response_mask=(0, 1), prefix=Prefix(0, 1)),
        negative("late", index=9, token_ids=(1, 2), response_mask=(0, 1), prefix=Prefix(4, 1)),
    ]
    groups = [group(*candidates)]

    def texts(chosen):
        return [candidate.completion for candidate in chosen[0].candidates]

    assert chosen_candidates(groups, "all", masked=True) == groups
    assert texts(chosen_candidates(groups, "sampled", masked=True)) == ["right", "wrong"]
    steps = chosen_candidates(groups, "from_prefix", masked=True)
    assert texts(steps) == ["right", "step", "late"] and steps[0].candidates[1].response_mask == (0, 1)
    whole = chosen_candidates(groups, "from_prefix", masked=False)
    assert all(candidate.response_mask is None for candidate in whole[0].candidates)
    # fewer samples: what continues a chain goes with the chain
    assert texts(first_samples(groups, 2)) == ["right", "wrong", "step"]


def test_a_continuation_with_the_text_of_a_sample_is_used_where_the_sample_is_not():
    step = {"token_ids": (1, 2), "response_mask": (0, 1), "prefix": Prefix(0, 1)}
    candidates = [positive("right", index=0), negative("same", index=3), negative("same", index=6, **step)]
    groups = [group(*candidates)]

    def indices(negatives, count=None, masked=True):
        [chosen] = chosen_candidates(first_samples(groups, count), negatives, masked=masked)
        return [candidate.index for candidate in chosen.candidates]

    assert indices("all") == indices("all", masked=False) == indices("sampled") == [0, 3]
    assert indices("from_prefix") == [0, 6]
    # of the first two samples none has the text
    assert indices("all", 2) == [0, 6]
