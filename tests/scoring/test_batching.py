"""Which questions make a step, who computes which, and in how many calls."""

from __future__ import annotations

import dataclasses
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.scoring.batching import Packer, PartDataset, StepSampler, entry_loader
from aft.scoring.packing import LAYOUTS, PADDED, SHARED, pack
from tiny_models import as_entries, random_items

KINDS = [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0, 1.0], [0.0]]


def sampler_of(num_entries, batch_size, *, max_tokens=None, layout=SHARED, **options) -> StepSampler:
    entries = as_entries(random_items(4, [KINDS[number % len(KINDS)] for number in range(num_entries)]))
    return StepSampler(entries, Packer(0, layout, max_tokens), batch_size, **options)


def test_a_filler_has_the_same_tokens_and_no_part_in_a_loss():
    entries = as_entries(random_items(0, KINDS))
    data = PartDataset(entries)
    for index in range(len(entries)):
        ((item,), (filler,)) = data[[index, -1 - index]]
        assert filler.responses == item.responses and filler.prompt_ids == item.prompt_ids
        assert not any(filler.supervised) and filler.candidates == []
    batch = pack([filler], 0, SHARED)
    assert not batch["supervised"].any() and not batch["candidate_mask"].any() and (batch["slots"] == -1).all()


def test_an_entry_of_two_questions_is_drawn_as_one():
    items = random_items(0, KINDS)
    entries = [(items[0], items[1]), (items[2],)]
    for max_tokens in (None, 1000):
        (batch,) = entry_loader(StepSampler(entries, Packer(0, SHARED, max_tokens), 2, shuffle=False))
        (part,) = batch["parts"]
        assert sorted(part["question_ids"]) == ["q0", "q1", "q2"]
        assert batch["input_ids"].tolist() == part["input_ids"].flatten().tolist()
    # too many tokens for one call: apart, but never the two questions of the entry
    (batch,) = entry_loader(StepSampler(entries, Packer(0, SHARED, 1), 2, shuffle=False))
    assert sorted(part["question_ids"] for part in batch["parts"]) == [["q0", "q1"], ["q2"]]


def _steps(num_entries, step, batch_size, num_ranks, max_tokens, epoch=0):
    """The entries of every optimizer step of `step` entries, over all ranks and micro-batches; fillers apart."""
    ranks, accumulation = [], step // (batch_size * num_ranks)
    for rank in range(num_ranks):
        sharing = {"rank": rank, "num_ranks": num_ranks, "accumulation": accumulation}
        sampler = sampler_of(num_entries, batch_size, max_tokens=max_tokens, seed=7, **sharing)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    # every rank makes as many calls of the model in every batch
    calls = {tuple(len(parts) for parts in batches) for batches in ranks}
    assert len(calls) == 1
    chunks = [[i for batches in ranks for part in batches[number] for i in part] for number in range(len(ranks[0]))]
    grouped = [chunks[start : start + accumulation] for start in range(0, len(chunks), accumulation)]
    real = [sorted(i for chunk in group for i in chunk if i >= 0) for group in grouped]
    return real, [i for chunk in chunks for i in chunk if i < 0]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.sampled_from([(8, 1), (4, 1), (1, 1), (4, 2), (2, 2), (1, 8), (1, 4)]),
    st.sampled_from([None, 30, 60, 10_000]),
)
def test_an_optimizer_step_holds_the_same_entries_however_divided(num_entries, division, max_tokens):
    batch_size, num_ranks = division
    steps, fillers = _steps(num_entries, 8, batch_size, num_ranks, max_tokens)
    expected, _ = _steps(num_entries, 8, 8, 1, None)
    assert steps == expected
    assert sorted(index for step in steps for index in step) == list(range(num_entries))
    if max_tokens is None and batch_size * num_ranks == 8:
        # only ranks for which the last step has nothing left compute a filler
        left = num_entries % (batch_size * num_ranks) or batch_size * num_ranks
        assert len(fillers) == max(0, num_ranks - left)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(10, 200), st.sampled_from(LAYOUTS))
def test_a_call_keeps_the_budget_of_tokens(num_entries, batch_size, max_tokens, layout):
    sampler = sampler_of(num_entries, batch_size, max_tokens=max_tokens, layout=layout)
    for batch, parts in zip(entry_loader(sampler), sampler, strict=True):
        assert [len(part) for part in parts] == [len(part["question_ids"]) for part in batch["parts"]]
        for part in batch["parts"]:
            # a question is never split: one above the budget has a call of its own
            assert part["input_ids"].numel() <= max_tokens or len(part["question_ids"]) == 1


def test_without_a_budget_a_batch_is_one_call_in_the_order_drawn():
    assert list(sampler_of(5, 2, shuffle=False)) == [[[0, 1]], [[2, 3]], [[4]]]
    assert len(sampler_of(5, 2)) == math.ceil(5 / 2)


def test_ranks_share_a_step_by_tokens():
    lengths = [90, 10, 10, 10, 30, 30]
    items = [dataclasses.replace(random_items(0, [[None]])[0], prompt_ids=[3] * length) for length in lengths]
    entries, shares = as_entries(items), []
    for rank in range(2):
        sampler = StepSampler(entries, Packer(0, SHARED), 3, rank=rank, num_ranks=2, shuffle=False)
        ((part,),) = sampler
        shares.append(sorted(part))
    assert shares == [[0, 3], [1, 2, 4, 5]]


def test_ranks_have_equally_many_tokens_in_a_step_of_several_batches():
    """One entry a batch: in each batch the ranks differ, and over the step they do not."""
    lengths = torch.randint(50, 400, (8 * 4 * 6,), generator=torch.Generator().manual_seed(0)).tolist()
    items = [dataclasses.replace(random_items(0, [[None]])[0], prompt_ids=[3] * length) for length in lengths]
    tokens = []
    for rank in range(8):
        sampler = StepSampler(as_entries(items), Packer(0, SHARED), 1, rank=rank, num_ranks=8, accumulation=4)
        of_batches = [sum(lengths[index] for part in parts for index in part if index >= 0) for parts in sampler]
        tokens.append([sum(of_batches[start : start + 4]) for start in range(0, len(of_batches), 4)])
    ranks = torch.tensor(tokens, dtype=torch.float64)
    assert (ranks.amax(0) / ranks.mean(0)).mean() < 1.1
    assert ranks.sum() == sum(lengths)


def test_epochs_are_shuffled_anew_and_reproducibly():
    orders = [_steps(20, 4, 4, 1, None, epoch)[0] for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_a_loader_follows_a_layout_that_is_found_out_later():
    sampler = sampler_of(4, 4, layout=PADDED, shuffle=False)
    loader = entry_loader(sampler)
    (batch,) = loader
    assert batch["parts"][0]["segments"] is None
    sampler.packer.layout = SHARED
    (batch,) = loader
    assert batch["parts"][0]["segments"] is not None


def test_a_loader_draws_no_number_from_the_global_generator():
    """Else what is measured in between would change dropout, and with it the run."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert len(list(entry_loader(sampler_of(4, 2)))) == 2
    assert torch.equal(torch.get_rng_state(), before)
