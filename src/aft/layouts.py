"""Which layout a model can be given: tried on real questions, with the padded one as the judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .attention import CannotShare
from .batching import unique_tokens
from .errors import ConfigError
from .logps import mean_scores
from .packing import LAYOUTS, PACKED, PADDED, SHARED, Entry, Item, pack
from .scoring import score_responses

# Kinds of layers, by the names in a configuration's `layer_types`, whose attention `attention.py` knows.
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
# Responses of a question that are tried: they do not differ in kind.
_MOST_RESPONSES = 8
# Largest difference of a score, nats per token. Sixteen bits leave about 1 % of a logit, and most of that averages out.
TOLERANCE, ROUGH_TOLERANCE = 1e-4, 0.03

_WORDS = {
    SHARED: "questions are computed once for all their responses",
    PACKED: "questions are computed again for each of their responses, without padding",
    PADDED: "questions are computed again for each of their responses, padded to the longest",
}


def choose_layout(
    model: torch.nn.Module,
    entries: Sequence[Entry],
    pad_id: int,
    *,
    wanted: str = "auto",
    rough: bool = False,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
) -> tuple[str, str | None]:
    """The best layout in which the model scores entries as it does padded, and a line to print if it is not `shared`.

    `model` has been through `forward.enable_scoring` and may be wrapped (DDP, FSDP); all ranks call this together,
    with the same entries. `wanted`: a layout, or auto. `rough`: it computes in sixteen bits. `prepare` moves a batch
    to its device. Raises `ConfigError` where the wanted layout is not one of these that the model can be given.
    """
    if wanted == PADDED or not entries:
        return PADDED if wanted == PADDED else SHARED, None
    tried = [wanted] if wanted != "auto" else [layout for layout in LAYOUTS if layout != PADDED]
    items = _some(entries)
    tolerance = ROUGH_TOLERANCE if rough else TOLERANCE
    padded = _scores(model, pack(items, pad_id, PADDED), prepare)
    reasons = []
    for layout in tried:
        reason = _agree(_what_is_known(model) or _try(model, pack(items, pad_id, layout), padded, tolerance, prepare))
        if reason is None:
            break
        reasons.append(reason)
    else:
        layout = PADDED
    if layout == SHARED or (layout == wanted and not reasons):
        return layout, None
    name = type(_causal(model)).__name__
    if wanted != "auto":
        raise ConfigError(
            f"model.layout: {name} cannot be given '{wanted}' rows: {reasons[0]}; allowed: auto, {PADDED}"
        )
    return layout, f"{name}: {_WORDS[layout]}, because {reasons[0]}"


def _some(entries: Sequence[Entry]) -> list[Item]:
    """The longest question, a middling one and the shortest: windows and caps show on the longest, if anywhere."""
    items = sorted((item for entry in entries for item in entry), key=unique_tokens)
    chosen = {id(item): item for item in (items[-1], items[len(items) // 2], items[0])}
    return [_at_most(item, _MOST_RESPONSES) for item in chosen.values()]


def _at_most(item: Item, count: int) -> Item:
    return dataclasses.replace(
        item, responses=item.responses[:count], supervised=item.supervised[:count], ratings=item.ratings[:count]
    )


def _causal(model: torch.nn.Module) -> Any:
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _what_is_known(model: torch.nn.Module) -> str | None:
    """Why the model cannot have packed rows, as far as that is known without trying; None: nothing is known."""
    adapted = getattr(model, "module", model)
    if getattr(getattr(adapted, "active_peft_config", None), "is_prompt_learning", False):
        return "its adapter puts tokens of its own before every row"
    causal = _causal(model)
    if causal.config.is_encoder_decoder:
        return "it is an encoder-decoder"
    others = sorted(set(getattr(causal.config.get_text_config(), "layer_types", None) or ()) - _KNOWN_LAYERS)
    if others:
        return f"it has layers of another kind ({', '.join(others)})"
    if not getattr(causal, "_supports_attention_backend", False):
        return "its attention is not one that transformers lets us replace"
    return None


@torch.no_grad()
def _scores(
    model: torch.nn.Module, batch: dict[str, Any], prepare: Callable[[dict[str, Any]], dict[str, Any]]
) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        return mean_scores(*score_responses(model, prepare(batch)))
    finally:
        model.train(was_training)
        # under autocast, weights that were cast here are remembered without a gradient
        torch.clear_autocast_cache()


def _try(
    model: torch.nn.Module,
    batch: dict[str, Any],
    padded: Tensor,
    tolerance: float,
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
) -> str | None:
    """Why the batch's scores are not those of the padded path; None: they are."""
    try:
        found = _scores(model, batch, prepare)
    except torch.OutOfMemoryError:
        raise
    except CannotShare as error:
        return str(error)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        return f"it fails: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    difference = (found - padded).abs().max().item()
    if difference <= tolerance:
        return None
    return f"a score would be wrong by {difference:.2g} nats per token"


def _agree(reason: str | None) -> str | None:
    """The same answer on all ranks: the first reason that any has."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return reason
    reasons: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(reasons, reason)
    return next((found for found in reasons if found is not None), None)
