"""Attention over a packed row against attention over each sequence alone; what is refused."""

from __future__ import annotations

import itertools
import math
import sys
import types

import pytest
import torch
from transformers import AttentionInterface

import aft.scoring.attention
from aft.scoring.attention import IMPLEMENTATIONS, SEGMENTS, CannotShare
from aft.scoring.segments import Segments

# a question with three responses, one with a single one, one with two of which the second is a token long
SEGMENTS_OF_ROW = Segments((5, 4, 7, 2, 6, 3, 4, 1), (-1, 0, 0, 0, -1, -1, 5, 5))
TOKENS = sum(SEGMENTS_OF_ROW.lengths)
HEADS, KEY_HEADS, SIZE, SCALE = 4, 2, 8, 0.3


def row(dtype=torch.float64, seed=0):
    """Query (1, 4, T, 8), key and value (1, 2, T, 8)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, TOKENS, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def slow(query, key, value, *, window=None, softcap=None):
    """(1, T, 4, 8): one query at a time, over the positions that it sees."""
    starts = [sum(SEGMENTS_OF_ROW.lengths[:s]) for s in range(len(SEGMENTS_OF_ROW.lengths))]
    rows = []
    for segment, (length, prefix) in enumerate(zip(SEGMENTS_OF_ROW.lengths, SEGMENTS_OF_ROW.prefixes, strict=True)):
        before = [] if prefix < 0 else [starts[prefix] + k for k in range(SEGMENTS_OF_ROW.lengths[prefix])]
        for token in range(length):
            seen = before + [starts[segment] + k for k in range(token + 1)]
            seen = seen[-window:] if window else seen
            heads = []
            for head in range(HEADS):
                of_key = head // (HEADS // KEY_HEADS)
                weights = key[0, of_key, seen] @ query[0, head, starts[segment] + token] * SCALE
                weights = softcap * torch.tanh(weights / softcap) if softcap else weights
                heads.append(weights.softmax(0) @ value[0, of_key, seen])
            rows.append(torch.stack(heads))
    return torch.stack(rows)[None]


def call(name, query, key, value, *, segments=SEGMENTS_OF_ROW, module=None, mask=None, **options):
    function = AttentionInterface()[name]
    module = types.SimpleNamespace(is_causal=True) if module is None else module
    return function(module, query, key, value, mask, scaling=SCALE, **{SEGMENTS: segments}, **options)[0]


@pytest.mark.parametrize("window", [None, 1, 3, 6, 50])
@pytest.mark.parametrize(
    ("name", "softcap"),
    [("aft_sdpa", None), ("aft_eager", None), ("aft_eager", 1.5), ("aft_auto", None), ("aft_auto", 1.5)],
)
def test_values_and_gradients_are_those_of_each_sequence_alone(name, softcap, window):
    found_inputs, expected_inputs = row(), row()
    expected = slow(*expected_inputs, window=window, softcap=softcap)
    found = call(name, *found_inputs, sliding_window=window, softcap=softcap)
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(found_inputs, expected_inputs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def varlen_by_hand(query, key, value, ends_q, ends_k, longest_q, longest_k, *, scale, window_size, enable_gqa):
    """What a variable-length kernel is documented to do, causal from the bottom right; (tokens, heads, size)."""
    assert ends_q.dtype == ends_k.dtype == torch.int32 and enable_gqa == (query.shape[1] != key.shape[1])
    assert (longest_q, longest_k) == ((ends_q.diff()).max().item(), (ends_k.diff()).max().item())
    left, right = window_size
    assert right == 0
    key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], 1) for states in (key, value))
    results = []
    for (q, q_end), (k, k_end) in zip(itertools.pairwise(ends_q), itertools.pairwise(ends_k), strict=True):
        queries, keys = torch.arange(q_end - q)[:, None] + (k_end - k) - (q_end - q), torch.arange(k_end - k)
        seen = (keys <= queries) & (keys >= (queries - left if left >= 0 else 0))
        weights = torch.einsum("qhd,khd->hqk", query[q:q_end], key[k:k_end]) * scale
        weights = weights.masked_fill(~seen, -math.inf).softmax(-1)
        results.append(torch.einsum("hqk,khd->qhd", weights, value[k:k_end]))
    return torch.cat(results)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_the_arguments_of_the_call_over_all_segments(monkeypatch, window):
    """The kernel itself needs a GPU (test_gpu.py); what it is given is checked with one written by its description."""
    monkeypatch.setattr(aft.scoring.attention, "varlen_attn", varlen_by_hand)
    found = call("aft_varlen", *row(), sliding_window=window)
    torch.testing.assert_close(found, slow(*row(), window=window))


def test_flash_attention_is_given_the_same_by_its_own_names(monkeypatch):
    seen = {}

    def flash(query, key, value, ends_q, ends_k, longest_q, longest_k, **options):
        seen.update(options)
        left, _ = options["window_size"]
        return varlen_by_hand(
            query,
            key,
            value,
            ends_q,
            ends_k,
            longest_q,
            longest_k,
            scale=options["softmax_scale"],
            window_size=(left, 0),
            enable_gqa=True,
        )

    module = types.ModuleType("flash_attn")
    module.flash_attn_varlen_func = flash
    monkeypatch.setattr(aft.scoring.attention, "_has_flash_attn", lambda: True)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    found = call("aft_flash", *row(), sliding_window=3)
    torch.testing.assert_close(found, slow(*row(), window=3))
    assert seen == {"softmax_scale": SCALE, "causal": True, "window_size": (2, 0), "softcap": 0.0, "dropout_p": 0.0}


def test_under_autocast_the_one_call_computes_in_sixteen_bits(monkeypatch):
    seen = []

    def kernel(query, key, value, *rest, **options):
        seen.append({query.dtype, key.dtype, value.dtype})
        return query

    monkeypatch.setattr(aft.scoring.attention, "varlen_attn", kernel)
    query, key, value = row(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        call("aft_varlen", query, key, value.bfloat16())
    assert seen == [{torch.bfloat16}]


def test_a_row_is_masked_by_one_band():
    """Segments cut their masks out of the same tensor: it is made once for a row, not for each layer and segment."""
    first = SEGMENTS_OF_ROW.mask(1, None, torch.zeros(1))
    second = SEGMENTS_OF_ROW.mask(2, None, torch.zeros(1))
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert first.shape == (4, 9) and second.shape == (7, 12)
    assert (first == 0).sum(1).tolist() == [6, 7, 8, 9]


def test_every_implementation_is_registered():
    for name in IMPLEMENTATIONS.values():
        assert name in AttentionInterface().valid_keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": None}, "does not pass keyword arguments on"),
        ({"mask": torch.zeros(1, 1, 2, 2)}, "makes a mask of its own"),
        ({"is_causal": False}, "attention that is not causal"),
        ({"module": types.SimpleNamespace(is_causal=False)}, "attention that is not causal"),
        ({"s_aux": torch.zeros(4), "position_bias": torch.zeros(1)}, "its attention takes position_bias, s_aux"),
        ({"position_ids": torch.zeros(1), "s_aux": None}, None),
        (
            {
                "module": types.SimpleNamespace(
                    is_causal=True,
                    layer_idx=1,
                    config=types.SimpleNamespace(layer_types=["full_attention", "sliding_attention"]),
                )
            },
            "does not tell its attention the size",
        ),
    ],
)
def test_what_would_be_left_out_is_refused(options, message):
    if message is None:
        call("aft_sdpa", *row(), **options)
        return
    with pytest.raises(CannotShare, match=message):
        call("aft_sdpa", *row(), **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("aft_sdpa", {"softcap": 2.0}, "has no soft-capping"),
        ("aft_varlen", {"softcap": 2.0}, "neither soft-capping nor dropout"),
        ("aft_varlen", {"dropout": 0.1}, "neither soft-capping nor dropout"),
        ("aft_flash", {}, "flash-attn is not installed"),
    ],
)
def test_what_a_forced_implementation_lacks_is_refused(name, options, message):
    with pytest.raises(CannotShare, match=message):
        call(name, *row(), **options)


def test_dropout_drops():
    torch.manual_seed(0)
    for name in ("aft_eager", "aft_sdpa"):
        kept = call(name, *row(torch.float32))
        assert not torch.allclose(call(name, *row(torch.float32), dropout=0.5), kept)
