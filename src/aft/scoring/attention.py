"""Attention over one packed row: a token attends to earlier tokens of its segment and to the segment's prefix.

Axes: `T` tokens of the row, `S` segments, `Q` query heads, `K` key and value heads, `D` size of a head.

A response attends to its prompt's keys and to its own, as if the row held only the prompt and this response. The prompt
is computed once. Position ids of a response continue those of its prompt, wherever the response is in the row.

The functions are registered with transformers' `AttentionInterface` under our own names. transformers has no mask
function for these names, so it builds no mask. The model passes `Segments` to them as a keyword argument.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from ..errors import AftError
from .segments import Segments

varlen_attn: Callable[..., Any] | None
try:
    from torch.nn.attention import varlen

    varlen_attn = varlen.varlen_attn
except ImportError:  # an older torch
    varlen_attn = None

SEGMENTS = "aft_segments"
"""The model's keyword argument that carries the `Segments` of its row."""

# value of `model.attn_implementation` -> the name under which our attention is registered
IMPLEMENTATIONS: dict[str | None, str] = {
    None: "aft_auto",
    "eager": "aft_eager",
    "sdpa": "aft_sdpa",
    "flash_attention_2": "aft_flash",
    "varlen": "aft_varlen",
}


class CannotShare(AftError):
    """An attention layer needs something that packed rows do not support; the message names it."""


@dataclass(frozen=True)
class Call:
    """One layer's attention over a row: its states, the row's segments, and the layer's options."""

    query: Tensor  # (1, Q, T, D)
    key: Tensor  # (1, K, T, D)
    value: Tensor  # (1, K, T, D)
    segments: Segments
    scale: float | None
    window: int | None  # tokens that a token attends to, itself included; None: all earlier ones
    softcap: float | None
    dropout: float

    @property
    def grouped(self) -> bool:
        """True if several query heads share a key head."""
        return self.query.shape[1] != self.key.shape[1]

    @property
    def window_size(self) -> tuple[int, int]:
        """The window as variable-length kernels take it: (tokens before, tokens after); -1 is no limit."""
        return (-1 if self.window is None else self.window - 1, 0)


# ---- one call per segment ----


def _by_segment(one: Callable[..., Tensor], call: Call) -> Tensor:
    """Joins `one(segment, queries, keys, values)` of all segments, (1, Q, T, D). Splits once, for a cheap gradient."""
    lengths = list(call.segments.lengths)
    queries, keys, values = (states.split(lengths, dim=2) for states in (call.query, call.key, call.value))
    results = []
    for segment, prefix in enumerate(call.segments.prefixes):
        own = keys[segment], values[segment]
        if prefix >= 0:
            own = torch.cat([keys[prefix], own[0]], dim=2), torch.cat([values[prefix], own[1]], dim=2)
        # tokens before heads: the order in which kernels write their result and the model reads it
        results.append(one(segment, queries[segment], *own).transpose(1, 2))
    return torch.cat(results, dim=1).transpose(1, 2)


def _sdpa(call: Call) -> Tensor:
    if call.softcap is not None:
        raise CannotShare("scaled-dot-product attention has no soft-capping")

    def one(segment: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        plain = call.segments.prefixes[segment] < 0 and (call.window is None or call.window >= keys.shape[2])
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if plain else call.segments.mask(segment, call.window, queries),
            is_causal=plain,
            dropout_p=call.dropout,
            scale=call.scale,
            enable_gqa=call.grouped,
        )

    return _by_segment(one, call)


def _eager(call: Call) -> Tensor:
    repeats = call.query.shape[1] // call.key.shape[1]
    factor = call.query.shape[-1] ** -0.5 if call.scale is None else call.scale

    def one(segment: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        keys, values = (states.repeat_interleave(repeats, dim=1) for states in (keys, values))
        weights = queries @ keys.transpose(2, 3) * factor  # (1, Q, queries, keys)
        if call.softcap is not None:
            weights = call.softcap * torch.tanh(weights / call.softcap)
        weights = weights + call.segments.mask(segment, call.window, weights)
        weights = weights.softmax(dim=-1, dtype=torch.promote_types(weights.dtype, torch.float32)).to(values.dtype)
        return F.dropout(weights, call.dropout) @ values

    return _by_segment(one, call)


# ---- all segments in one call ----


def _in_one_call(kernel: Callable[..., Tensor], call: Call, **arguments: Any) -> Tensor:
    """(1, Q, T, D) from a variable-length kernel over (tokens, heads, D), with the causal mask aligned bottom right."""
    query, key, value = call.query, call.key, call.value
    if torch.is_autocast_enabled(query.device.type):
        # autocast does not cast for these kernels, and a norm of the queries may have left them in float32
        computing = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(computing), key.to(computing), value.to(computing)
    index, query_ends, key_ends, longest_query, longest_key = call.segments.varlen(query.device)
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


def _varlen(call: Call) -> Tensor:
    if varlen_attn is None:
        raise CannotShare("this torch has no torch.nn.attention.varlen")
    if call.softcap is not None or call.dropout:
        raise CannotShare("torch's variable-length attention has neither soft-capping nor dropout")
    return _in_one_call(
        varlen_attn,
        call,
        scale=call.scale,
        window_size=call.window_size,
        enable_gqa=call.grouped,
    )


def _flash(call: Call) -> Tensor:
    if not _has_flash_attn():
        raise CannotShare("flash-attn is not installed")
    from flash_attn import flash_attn_varlen_func

    return _in_one_call(
        flash_attn_varlen_func,
        call,
        softmax_scale=call.scale,
        causal=True,
        window_size=call.window_size,
        softcap=call.softcap or 0.0,
        dropout_p=call.dropout,
    )


def _auto(call: Call) -> Tensor:
    """One call for all segments on a GPU in 16 bits, otherwise one call per segment."""
    if call.query.is_cuda and _flash_fits(call.query, call.value):
        if varlen_attn is not None and call.softcap is None and not call.dropout:
            return _varlen(call)
        if _has_flash_attn():
            return _flash(call)
    return _sdpa(call) if call.softcap is None else _eager(call)


def _flash_fits(query: Tensor, value: Tensor) -> bool:
    """True if a flash kernel takes these states: 16 bits, Ampere or newer, one head size, a multiple of 8 up to 256."""
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


# ---- registered with transformers ----


def _as_transformers_calls(attend: Callable[[Call], Tensor]) -> Callable[..., tuple[Tensor, None]]:
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
        result = attend(Call(query, key, value, segments, scaling, sliding_window, softcap, dropout))
        return result.transpose(1, 2).contiguous(), None  # (1, T, Q, D)

    return attention


# Extra tensors that models pass to their attention and that do not change its result.
_HARMLESS = {"position_ids", "cache_position", "position_embeddings"}


def _refuse_unknown(
    module: torch.nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None,
    window: int | None,
    others: dict[str, Any],
) -> None:
    """Raise `CannotShare` if a layer needs more than causal attention with a window, which is all we compute."""
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
