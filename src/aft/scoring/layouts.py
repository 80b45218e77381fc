"""Which layout a model can be given: tried on real questions, with each sequence on its own as the judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .attention import CannotShare
from .packing import LAYOUTS, PACKED, PADDED, SHARED, Batch, Entry, Item, pack
from .responses import response_logps

# Kinds of layers, by the names in a configuration's `layer_types`, whose attention `attention.py` knows.
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
# Responses of a question that are tried.
_MOST_RESPONSES = 3
# What packing may change in a token's log-prob, nats: the largest difference, or in sixteen bits, which leave about 1 %
# of a logit, the root of the mean square over a response.
TOLERANCE, ROUGH_TOLERANCE = 1e-3, 0.05

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
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> tuple[str, str | None]:
    """The best layout in which the model scores entries as it does each alone, and a line to print if not `shared`.

    `model` has been through `forward.enable_scoring` and may be wrapped (DDP, FSDP); all ranks call this together,
    with the same entries. `wanted`: a layout, or auto. `rough`: it computes in sixteen bits. `prepare` moves a batch
    to its device. Raises `ConfigError` where the wanted layout is not one of these that the model can be given.
    """
    if wanted == PADDED or not entries:
        return PADDED if wanted == PADDED else SHARED, None
    tried = [wanted] if wanted != "auto" else [layout for layout in LAYOUTS if layout != PADDED]
    items = _some(entries)
    # one sequence a call: no company, no padding, and no more memory than a single one takes
    alone = [
        _logps(model, pack([_only(item, index)], pad_id, PADDED), prepare)
        for item in items
        for index in range(len(item.responses))
    ]
    reasons = []
    for layout in tried:
        reason = _agree(_what_is_known(model) or _try(model, pack(items, pad_id, layout), alone, rough, prepare))
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
    """The question with the longest sequence, the shortest, and the longest of those that have something to share.

    Windows and limits of positions show on the longest sequence, if anywhere; a lost question only where it is shared.
    """
    items = [item for entry in entries for item in entry]
    sharing = [item for item in items if len(item.responses) > 1]
    chosen = [max(items, key=_longest), min(items, key=_longest), *([max(sharing, key=_longest)] if sharing else [])]
    return [_longest_of(item) for item in {id(item): item for item in chosen}.values()]


def _longest(item: Item) -> int:
    return len(item.prompt_ids) + max(map(len, item.responses))


def _longest_of(item: Item) -> Item:
    """The item with its longest responses alone, in their order."""
    by_length = sorted(range(len(item.responses)), key=lambda index: -len(item.responses[index]))
    return _with(item, sorted(by_length[:_MOST_RESPONSES]))


def _only(item: Item, index: int) -> Item:
    return _with(item, [index])


def _with(item: Item, indices: Sequence[int]) -> Item:
    return dataclasses.replace(
        item,
        responses=[item.responses[index] for index in indices],
        supervised=[item.supervised[index] for index in indices],
        ratings=[item.ratings[index] for index in indices],
        initial_scores=None,
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
def _logps(model: torch.nn.Module, batch: Batch, prepare: Callable[[Batch], Batch]) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        return response_logps(model, prepare(batch))
    finally:
        model.train(was_training)
        # under autocast, weights that were cast here are remembered without a gradient
        torch.clear_autocast_cache()


def _try(
    model: torch.nn.Module,
    batch: Batch,
    alone: Sequence[Tensor],
    rough: bool,
    prepare: Callable[[Batch], Batch],
) -> str | None:
    """Why the batch's log-probs are not those of each sequence alone; None: they are."""
    try:
        found = _logps(model, batch, prepare).split([len(logps) for logps in alone])
    except (torch.OutOfMemoryError, ConfigError):
        raise
    except CannotShare as error:
        return str(error)
    except Exception as error:  # whatever a model does with a row that it was not written for
        return f"it fails: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    differences = [one - other for one, other in zip(found, alone, strict=True)]
    if rough:
        difference = max(difference.square().mean().sqrt().item() for difference in differences)
    else:
        difference = max(difference.abs().max().item() for difference in differences)
    if difference <= (ROUGH_TOLERANCE if rough else TOLERANCE):
        return None
    return f"a token's log-prob would be wrong by {difference:.2g} nats"


def _agree(reason: str | None) -> str | None:
    """The same answer on all ranks: the first reason that any has."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return reason
    reasons: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(reasons, reason)
    return next((found for found in reasons if found is not None), None)
