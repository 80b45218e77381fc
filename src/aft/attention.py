"""Attention over one packed row: each run of tokens sees the tokens before it in the run, and a run that they share.

Axes: `T` tokens of the row, `S` segments, `Q` query heads, `K` key and value heads, `D` size of a head.

A response attends to its prompt's keys and to its own, exactly as if it stood alone behind the prompt, and the prompt
is computed once. Positions are logical: a response begins right behind the prompt, wherever it is in the row.

The functions are registered with transformers' `AttentionInterface` under names of ours, without an entry among its
masks: mask building then leaves such a call alone. The segments travel to them as a keyword argument of the model.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from .errors import AftError
from .segments import Segments

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention import varlen

    varlen_attn = varlen.varlen_attn
except ImportError:  # an older torch
    varlen_attn = None

SEGMENTS = "aft_segments"
"""The model's keyword argument that carries the `Segments` of its row."""

# `model.attn_implementation`, transformers' names where it has them -> the name under which ours is registered
IMPLEMENTATIONS: dict[str | None, str] = {
    None: "aft_auto",
    "eager": "aft_eager",
    "sdpa": "aft_sdpa",
    "flash_attention_2": "aft_flash",
    "varlen": "aft_varlen",
}


class CannotShare(AftError):
    """An attention layer asks for something that is not known for packed rows; says what."""


# ---- one segment after the other ----


def _by_segment(one: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """(1, Q, T, D): `one(segment, queries, keys, values)` for each. Split and joined once, so is the gradient."""
    lengths = list(segments.lengths)
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    results = []
    for segment, prefix in enumerate(segments.prefixes):
        seen = [segment] if prefix < 0 else [prefix, segment]
        own_keys, own_values = (torch.cat([part[s] for s in seen], dim=2) for part in (keys, values))
        results.append(one(segment, queries[segment], own_keys, own_values))
    return torch.cat(results, dim=2)


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    if softcap is not None:
        raise CannotShare("scaled-dot-product attention has no soft-capping")
    grouped = query.shape[1] != key.shape[1]

    def one(segment: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        plain = segments.prefixes[segment] < 0 and (window is None or window >= keys.shape[2])
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if plain else segments.mask(segment, window, queries),
            is_causal=plain,
            dropout_p=dropout,
            scale=scale,
            enable_gqa=grouped,
        )

    return _by_segment(one, query, key, value, segments)


def _eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    repeats = query.shape[1] // key.shape[1]
    factor = query.shape[-1] ** -0.5 if scale is None else scale

    def one(segment: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        keys, values = (states.repeat_interleave(repeats, dim=1) for states in (keys, values))
        weights = queries @ keys.transpose(2, 3) * factor  # (1, Q, queries, keys)
        if softcap is not None:
            weights = softcap * torch.tanh(weights / softcap)
        weights = weights + segments.mask(segment, window, weights)
        weights = weights.softmax(dim=-1, dtype=torch.promote_types(weights.dtype, torch.float32)).to(values.dtype)
        return F.dropout(weights, dropout) @ values

    return _by_segment(one, query, key, value, segments)


# ---- all segments in one call ----


def _in_one_call(
    kernel: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, segments: Segments, **arguments: Any
) -> Tensor:
    """(1, Q, T, D) from a variable-length kernel over (tokens, heads, D), causal from the bottom right."""
    if torch.is_autocast_enabled(query.device.type):
        # such a kernel is no operation that autocast knows, and a norm of the queries may have left them in float32
        computing = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(computing), key.to(computing), value.to(computing)
    index, query_ends, key_ends, longest_query, longest_key = segments.varlen(query.device)
    flat_query, flat_key, flat_value = (states[0].transpose(0, 1) for states in (query, key, value))
    result = kernel(
        flat_query.contiguous(),
        flat_key.index_select(0, index),
        flat_value.index_select(0, index),
        query_ends,
        key_ends,
        longest_query,
        longest_key,
        **arguments,
    )
    return result.transpose(0, 1).unsqueeze(0)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    if varlen_attn is None:
        raise CannotShare("this torch has no torch.nn.attention.varlen")
    if softcap is not None or dropout:
        raise CannotShare("torch's variable-length attention has neither soft-capping nor dropout")
    return _in_one_call(
        varlen_attn,
        query,
        key,
        value,
        segments,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    if not _has_flash_attn():
        raise CannotShare("flash-attn is not installed")
    from flash_attn import flash_attn_varlen_func

    return _in_one_call(
        flash_attn_varlen_func,
        query,
        key,
        value,
        segments,
        softmax_scale=scale,
        causal=True,
        window_size=(-1 if window is None else window - 1, 0),
        softcap=softcap or 0.0,
        dropout_p=dropout,
    )


def _auto(query: Tensor, key: Tensor, value: Tensor, segments: Segments, **asked: Any) -> Tensor:
    """One call on a GPU in sixteen bits, else segment by segment."""
    if query.is_cuda and _flash_fits(query, value):
        if varlen_attn is not None and asked["softcap"] is None and not asked["dropout"]:
            return _varlen(query, key, value, segments, **asked)
        if _has_flash_attn():
            return _flash(query, key, value, segments, **asked)
    return (_sdpa if asked["softcap"] is None else _eager)(query, key, value, segments, **asked)


def _flash_fits(query: Tensor, value: Tensor) -> bool:
    """Whether a flash kernel takes such states: sixteen bits, Ampere or newer, heads of one size up to 256."""
    autocast = torch.is_autocast_enabled(query.device.type)
    computing = torch.get_autocast_dtype(query.device.type) if autocast else query.dtype
    sizes = query.shape[-1] == value.shape[-1] <= 256 and query.shape[-1] % 8 == 0
    return computing in (torch.bfloat16, torch.float16) and sizes and _capability(query.device) >= (8, 0)


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _has_flash_attn() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


# ---- as transformers calls it ----


def _as_transformers_calls(attend: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, None]]:
    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        softcap: float | None = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        segments = others.pop(SEGMENTS, None)
        if segments is None:
            raise CannotShare("it does not pass keyword arguments on to its attention")
        _refuse_unknown(module, query, attention_mask, is_causal, sliding_window, others)
        result = attend(
            query, key, value, segments, scale=scaling, window=sliding_window, softcap=softcap, dropout=dropout
        )
        return result.transpose(1, 2).contiguous(), None  # (1, T, Q, D)

    return attention


# Tensors that models hand to their attention beside queries, keys and values, and that change nothing for it.
_HARMLESS = {"position_ids", "cache_position", "position_embeddings"}


def _refuse_unknown(
    module: torch.nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None,
    window: int | None,
    others: dict[str, Any],
) -> None:
    """Raise `CannotShare` where a layer wants more than causal attention with a window: it would be left out."""
    if attention_mask is not None:
        raise CannotShare("it makes a mask of its own")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if causal is False:
        raise CannotShare("it has attention that is not causal")
    unknown = [name for name, value in others.items() if isinstance(value, Tensor) and name not in _HARMLESS]
    if unknown:
        raise CannotShare(f"its attention takes {', '.join(sorted(unknown))}")
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    layer = getattr(module, "layer_idx", None)
    if kinds and layer is not None and kinds[layer] == "sliding_attention" and window is None:
        raise CannotShare("it does not tell its attention the size of a sliding window")


for _name, _attend in {
    "aft_auto": _auto,
    "aft_eager": _eager,
    "aft_sdpa": _sdpa,
    "aft_varlen": _varlen,
    "aft_flash": _flash,
}.items():
    AttentionInterface.register(_name, _as_transformers_calls(_attend))
