"""The tensors of a batch in every layout: where every response token is predicted, and what each response is for."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from aft.losses import groups_with_pair
from aft.records import has_pair
from aft.scoring.batching import unique_tokens
from aft.scoring.packing import LAYOUTS, PACKED, PADDED, SHARED, Item, pack
from tiny_models import random_items

KINDS = [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0, 1.0], [0.0]]


TWO = [
    Item("a", [5, 6], [[7, 1], [8, 9, 1], [2]], [True, False, False], [None, 2.0, 1.0]),
    Item("b", [4], [[3, 1]], [False], [-1.0]),
]


def test_initial_scores_stand_in_the_slots_of_their_candidates():
    scored = [
        dataclasses.replace(TWO[0], initial_scores=[-1.5, -2.5]),
        TWO[1],
        Item("c", [4], [[3, 1]], [True], [None]),
    ]
    found = pack(scored, 0, SHARED)["initial_scores"]
    assert found.dtype == torch.float32
    # nan where a candidate's is not known, so that what needs it fails; nothing is asked of a question without any
    assert found[0].tolist() == [-1.5, -2.5] and found[1, 0].isnan()
    assert found[1, 1] == 0 and found[2].tolist() == [0, 0]
    assert pack([scored[0].filler()], 0, SHARED)["initial_scores"].tolist() == [[0]]
    with pytest.raises(ValueError, match="a: 2 candidates, but 1 initial scores"):
        pack([dataclasses.replace(TWO[0], initial_scores=[-1.5])], 0, SHARED)


def test_records_and_losses_agree_on_which_groups_hold_a_pair():
    """Binary fractions decide: as float32, but not as Python's numbers, 0.3 and 0.2 differ by more than 0.1."""
    tenths = [number / 10 for number in range(4)]
    groups = [list(ratings) for size in range(4) for ratings in itertools.product(tenths, repeat=size)]
    items = [Item("q", [3], [[4, 1]] * len(ratings), [False] * len(ratings), ratings) for ratings in groups]
    batch = pack(items, 0, PADDED)
    for gap in (0.0, 0.1, 0.2, 0.25, 0.3):
        found = groups_with_pair(batch["ratings"], candidate_mask=batch["candidate_mask"], min_rating_gap=gap).tolist()
        assert [has_pair(ratings, gap) for ratings in groups] == found
        assert set(found) == ({False} if gap == 0.3 else {False, True})
    assert has_pair([0.2, 0.3], 0.1) and not has_pair([1.0, 0.0], 1.0) and not has_pair([1.0]) and not has_pair([])


def test_a_padded_batch_by_hand():
    batch = pack(TWO, 0, PADDED)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 0], [5, 6, 8, 9, 1], [5, 6, 2, 0, 0], [4, 3, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 4
    assert batch["positions"].tolist() == [1, 2, 6, 7, 8, 11, 15, 16]
    assert batch["segments"] is None


def test_a_shared_row_by_hand():
    batch = pack(TWO, 0, SHARED)
    # the question once; no last token of a response; a response of one token leaves nothing
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 2, 3, 0, 1]]
    assert batch["attention_mask"] is None
    # a question with one response is one segment
    assert batch["segments"].lengths == (2, 1, 2, 2) and batch["segments"].prefixes == (-1, 0, 0, -1)
    # the prompt's last token predicts the first of every response
    assert batch["positions"].tolist() == [1, 2, 1, 3, 4, 1, 5, 6]


def test_a_packed_row_by_hand():
    batch = pack(TWO, 0, PACKED)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 5, 6, 8, 9, 5, 6, 4, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1]]
    assert batch["segments"].lengths == (3, 4, 2, 2) and batch["segments"].prefixes == (-1,) * 4
    assert batch["positions"].tolist() == [1, 2, 4, 5, 6, 8, 9, 10]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_responses_are_for_is_the_same_in_every_layout(layout):
    batch = pack(TWO, 0, layout)
    assert batch["targets"].tolist() == [7, 1, 8, 9, 1, 2, 3, 1]
    assert batch["sequences"].tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    assert batch["supervised"].tolist() == [True, False, False, False]
    assert batch["slots"].tolist() == [-1, 0, 1, 2]
    assert batch["questions"].tolist() == [0, 0, 0, 1]
    assert batch["ratings"].tolist() == [[2.0, 1.0], [-1.0, 0.0]]
    assert batch["candidate_mask"].tolist() == [[True, True], [True, False]]
    assert batch["question_ids"] == ["a", "b"]


@pytest.mark.parametrize("seed", range(5))
def test_a_shared_row_reads_every_unique_token_once_and_predicts_every_response_token_once(seed):
    """The measure of the layout: tokens processed over unique ones is exactly 1, head rows are response tokens."""
    items = random_items(seed, [*KINDS, [0.0] * 9])
    batch = pack(items, 0, SHARED)
    assert batch["input_ids"].numel() == sum(map(unique_tokens, items)) == sum(batch["segments"].lengths)
    assert len(batch["positions"]) == sum(len(response) for item in items for response in item.responses)
    written = sum(len(item.prompt_ids) + sum(map(len, item.responses)) for item in items)
    assert batch["input_ids"].numel() <= 1.01 * written
    # an ordinary batch of references has nothing to share, and no padding either
    references = random_items(seed, [[None]] * 6)
    batch = pack(references, 0, SHARED)
    assert batch["input_ids"].numel() == sum(len(i.prompt_ids) + len(i.responses[0]) - 1 for i in references)


def test_groups_of_unequal_size_are_padded_with_masked_slots():
    batch = pack(random_items(0, KINDS), 0, SHARED)
    assert batch["candidate_mask"].tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True] * 4,
        [True, False, False, False],
    ]
    assert batch["slots"].tolist() == [-1, 0, 1, -1, 8, 9, 10, 11, 12]
    assert batch["questions"].tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 3]
    flat = batch["ratings"].flatten()
    assert flat[batch["slots"][batch["slots"] >= 0]].tolist() == [1, 0, 1, 0, 0, 1, 0]
    assert not flat[~batch["candidate_mask"].flatten()].any()
    dtypes = {key: value.dtype for key, value in batch.items() if isinstance(value, torch.Tensor)}
    masks = {key for key, dtype in dtypes.items() if dtype == torch.bool}
    assert masks == {"supervised", "candidate_mask"} and dtypes["ratings"] == torch.float32


@pytest.mark.parametrize("layout", [PADDED, PACKED])
@pytest.mark.parametrize("seed", range(5))
def test_the_tokens_before_a_position_are_its_prompt_and_response_so_far(seed, layout):
    items = random_items(seed, KINDS)
    batch = pack(items, 0, layout)
    flat, row = batch["input_ids"].flatten().tolist(), batch["input_ids"].shape[1]
    responses = [(item.prompt_ids, response) for item in items for response in item.responses]
    number = 0
    for prompt, response in responses:
        for done in range(len(response)):
            position = batch["positions"][number].item()
            before = [*prompt, *response[:done]]
            assert flat[position + 1 - len(before) : position + 1] == before
            assert batch["targets"][number] == response[done]
            assert layout == PACKED or position // row == batch["sequences"][number]
            number += 1
    assert number == len(batch["targets"])


@pytest.mark.parametrize("seed", range(5))
def test_what_a_shared_position_sees_is_its_prompt_and_response_so_far(seed):
    """By segments: the tokens of the prefix, then the segment's own up to the position."""
    items = random_items(seed, [*KINDS, [1.0, 0.0, 0.0, 0.0]])
    batch = pack(items, 0, SHARED)
    flat, segments = batch["input_ids"].flatten().tolist(), batch["segments"]
    starts = [sum(segments.lengths[:s]) for s in range(len(segments.lengths) + 1)]

    def seen(position: int) -> list[int]:
        segment = next(s for s in range(len(segments.lengths)) if starts[s] <= position < starts[s + 1])
        prefix = segments.prefixes[segment]
        before = flat[starts[prefix] : starts[prefix + 1]] if prefix >= 0 else []
        found = before + flat[starts[segment] : position + 1]
        assert batch["position_ids"][0, position] == len(found) - 1
        return found

    expected = [
        [*item.prompt_ids, *response[:done]]
        for item in items
        for response in item.responses
        for done in range(len(response))
    ]
    assert [seen(position) for position in batch["positions"].tolist()] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_masked_token_is_read_and_predicted_nowhere(layout):
    whole = pack(TWO, 0, layout)
    masked = [dataclasses.replace(TWO[0], masks=[None, [0, 1, 1], None]), TWO[1]]
    batch = pack(masked, 0, layout)
    assert torch.equal(batch["input_ids"], whole["input_ids"]) and torch.equal(batch["slots"], whole["slots"])
    kept = torch.tensor([True, True, False, True, True, True, True, True])
    for name in ("targets", "sequences", "positions"):
        assert torch.equal(batch[name], whole[name][kept])
    # a filler adds to no loss, with a mask or without
    assert not pack([masked[0].filler()], 0, layout)["supervised"].any()
