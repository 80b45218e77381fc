"""Batches: where every response token is predicted, what each response is for, and who computes which question."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.packing import EntryDataset, Item, StepSampler, entry_loader, pack
from models import random_items

KINDS = [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0, 1.0], [0.0]]


def test_a_batch_by_hand():
    items = [
        Item("a", [5, 6], [[7, 1], [8, 9, 1]], [True, False], [None, 2.0]),
        Item("b", [4], [[3, 1]], [False], [-1.0]),
    ]
    batch = pack(items, pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 0], [5, 6, 8, 9, 1], [4, 3, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 3
    assert batch["positions"].tolist() == [1, 2, 6, 7, 8, 10, 11]
    assert batch["targets"].tolist() == [7, 1, 8, 9, 1, 3, 1]
    assert batch["sequences"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch["supervised"].tolist() == [True, False, False]
    assert batch["slots"].tolist() == [-1, 0, 1]
    assert batch["ratings"].tolist() == [[2.0], [-1.0]]
    assert batch["candidate_mask"].tolist() == [[True], [True]]
    assert batch["question_ids"] == ["a", "b"]


def test_groups_of_unequal_size_are_padded_with_masked_slots():
    batch = pack(random_items(0, KINDS), pad_id=0)
    assert batch["candidate_mask"].tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True] * 4,
        [True, False, False, False],
    ]
    assert batch["slots"].tolist() == [-1, 0, 1, -1, 8, 9, 10, 11, 12]
    flat = batch["ratings"].flatten()
    assert flat[batch["slots"][batch["slots"] >= 0]].tolist() == [1, 0, 1, 0, 0, 1, 0]
    assert not flat[~batch["candidate_mask"].flatten()].any()
    dtypes = {key: value.dtype for key, value in batch.items() if isinstance(value, torch.Tensor)}
    masks = {key for key, dtype in dtypes.items() if dtype == torch.bool}
    assert masks == {"supervised", "candidate_mask"} and dtypes["ratings"] == torch.float32


@pytest.mark.parametrize("seed", range(5))
def test_the_token_behind_a_position_is_its_target(seed):
    items = random_items(seed, KINDS)
    batch = pack(items, pad_id=0)
    after = batch["input_ids"].flatten()[batch["positions"] + 1]
    assert torch.equal(after, batch["targets"])
    responses = [response for item in items for response in item.responses]
    assert batch["targets"].tolist() == [token for response in responses for token in response]
    assert batch["sequences"].bincount().tolist() == [len(response) for response in responses]
    # in the row of its own sequence
    assert torch.equal(batch["positions"] // batch["input_ids"].shape[1], batch["sequences"])


def test_a_filler_has_the_same_tokens_and_no_part_in_a_loss():
    entries = [(item,) for item in random_items(0, KINDS)]
    data = EntryDataset(entries)
    for index in range(len(entries)):
        (item,), (filler,) = data[index], data[-1 - index]
        assert filler.responses == item.responses and filler.prompt_ids == item.prompt_ids
        assert not any(filler.supervised) and filler.candidates == []
    batch = pack(data[-1], pad_id=0)
    assert not batch["supervised"].any() and not batch["candidate_mask"].any() and (batch["slots"] == -1).all()


def test_an_entry_of_two_questions_is_drawn_as_one():
    items = random_items(0, KINDS)
    entries = [(items[0], items[1]), (items[2],)]
    sampler = StepSampler(2, 2, shuffle=False)
    (batch,) = entry_loader(entries, sampler, pad_id=0)
    assert batch["question_ids"] == ["q0", "q1", "q2"]


def _steps(num_entries, step, batch_size, num_ranks, epoch=0):
    """The entries of every optimizer step of `step` entries, over all ranks and micro-batches; fillers apart."""
    parts = []
    for rank in range(num_ranks):
        sampler = StepSampler(num_entries, batch_size, seed=7, rank=rank, num_ranks=num_ranks)
        sampler.set_epoch(epoch)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    assert len({len(part) for part in parts}) == 1
    chunks = [[index for part in parts for index in part[number]] for number in range(len(parts[0]))]
    accumulation = step // (batch_size * num_ranks)
    grouped = [chunks[start : start + accumulation] for start in range(0, len(chunks), accumulation)]
    real = [sorted(i for chunk in group for i in chunk if i >= 0) for group in grouped]
    return real, [i for chunk in chunks for i in chunk if i < 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.sampled_from([(8, 1), (4, 1), (1, 1), (4, 2), (2, 2), (1, 8), (1, 4)]))
def test_an_optimizer_step_holds_the_same_entries_however_divided(num_entries, division):
    batch_size, num_ranks = division
    steps, fillers = _steps(num_entries, 8, batch_size, num_ranks)
    expected, _ = _steps(num_entries, 8, 8, 1)
    assert steps == expected
    assert sorted(index for step in steps for index in step) == list(range(num_entries))
    # only ranks for which the last chunk has nothing left compute a filler
    left = num_entries % (batch_size * num_ranks) or batch_size * num_ranks
    assert len(fillers) == max(0, num_ranks - left)


def test_epochs_are_shuffled_anew_and_reproducibly():
    orders = [_steps(20, 4, 4, 1, epoch)[0] for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    unshuffled = StepSampler(5, 2, shuffle=False)
    assert list(unshuffled) == [[0, 1], [2, 3], [4]] and len(unshuffled) == math.ceil(5 / 2)


def test_a_loader_draws_no_number_from_the_global_generator():
    """Else what is measured in between would change dropout, and with it the run."""
    entries = [(item,) for item in random_items(0, KINDS)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert len(list(entry_loader(entries, StepSampler(4, 2), pad_id=0))) == 2
    assert torch.equal(torch.get_rng_state(), before)
