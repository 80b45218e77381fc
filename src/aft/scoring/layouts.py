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
# Nats by which a layout may change a token's log-prob in float32.
TOLERANCE = 1e-3
# In sixteen bits the error of a layout is compared with the error of each sequence alone, both against float32: the
# root mean square over all tokens may be this many times as large. A right layout gives about 1.
NOISE_FACTOR = 2.0
# Nats that sixteen bits may always cost: bfloat16's step at 1.
FLOOR = 2.0**-7

_WORDS = {
    SHARED: "questions are computed once for all their responses",
    PACKED: "questions are computed again for each of their responses, without padding",
    PADDED: "questions are computed again for each of their responses, padded to the longest",
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """What the trial of layouts found.

    `layout` is the one to use, `reasons` says of each refused one why. Differences from each sequence alone are in nats
    of a token's log-prob, those of `layout`: `float32` is the largest one where everything computes in float32, `own`
    the root mean square in the model's own precision against float32, `noise` the same of each sequence alone. None
    where it was not measured.
    """

    layout: str
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    float32: float | None = None
    own: float | None = None
    noise: float | None = None

    def figures(self) -> dict[str, float | None]:
        """The differences by name."""
        return {"float32": self.float32, "own": self.own, "noise": self.noise}

    def line(self, model: torch.nn.Module) -> str | None:
        """A line to print if a better layout was refused."""
        if not self.reasons:
            return None
        return f"{_name(model)}: {_WORDS[self.layout]}, because {next(iter(self.reasons.values()))}"


def choose_layout(
    model: torch.nn.Module,
    entries: Sequence[Entry],
    pad_id: int,
    *,
    wanted: str = "auto",
    rough: bool = False,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> tuple[str, str | None]:
    """The layout of `try_layouts`, and a line to print if a better one was refused."""
    trial = try_layouts(model, entries, pad_id, wanted=wanted, rough=rough, prepare=prepare)
    return trial.layout, trial.line(model)


def try_layouts(
    model: torch.nn.Module,
    entries: Sequence[Entry],
    pad_id: int,
    *,
    wanted: str = "auto",
    rough: bool = False,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
) -> Trial:
    """The best layout in which the model scores a few of the entries as it does each sequence alone.

    A layout is tried in float32, where its errors are its own, and in the model's precision (`rough`: that is not
    float32), where its error may be no larger than what the precision explains. `model` has been through
    `forward.enable_scoring` and may be wrapped (DDP, FSDP); all ranks call this together, with the same entries.
    `wanted`: a layout, or auto. `prepare` moves a batch to its device. Raises `ConfigError` where the wanted layout, or
    every layout, gives wrong log-probs.
    """
    if not entries:
        return Trial(PADDED if wanted == PADDED else SHARED)
    items = _some(entries)
    judge = _Judge(model, items, pad_id, rough, prepare)
    known = _what_is_known(model)
    reasons: dict[str, str] = {}
    for layout in LAYOUTS if wanted == "auto" else (wanted,):
        if known is not None and layout != PADDED:
            reasons[layout] = known
            continue
        found = judge.try_layout(layout)
        if isinstance(found, Trial):
            return dataclasses.replace(found, reasons=reasons)
        reasons[layout] = found
    first = next(iter(reasons.values()))
    if wanted != "auto":
        allowed = "auto" if wanted == PADDED else f"auto, {PADDED}"
        raise ConfigError(f"model.layout: {_name(model)} cannot be given '{wanted}' rows: {first}; allowed: {allowed}")
    raise ConfigError(
        f"model: {_name(model)} gives a response other log-probs in a batch than alone, even padded: {reasons[PADDED]}"
    )


class _Judge:
    """Each sequence alone: no company, no padding, and no more memory than a single one takes."""

    def __init__(
        self,
        model: torch.nn.Module,
        items: Sequence[Item],
        pad_id: int,
        rough: bool,
        prepare: Callable[[Batch], Batch],
    ) -> None:
        self.model, self.items, self.pad_id, self.rough, self.prepare = model, items, pad_id, rough, prepare
        self.singles = [
            pack([_only(item, index)], pad_id, PADDED) for item in items for index in range(len(item.responses))
        ]
        self.own = torch.cat([self._logps(single, precise=False) for single in self.singles])
        self.float32 = self._in_float32() if rough else self.own

    def _in_float32(self) -> Tensor | None:
        """The judge in float32, or None on all ranks if one of them cannot compute it."""
        try:
            found, reason = torch.cat([self._logps(single, precise=True) for single in self.singles]), None
        except (torch.OutOfMemoryError, RuntimeError) as error:  # no room, or a kernel for sixteen bits alone
            found, reason = None, str(error)
        return found if _agree(reason) is None else None

    def try_layout(self, layout: str) -> Trial | str:
        """The trial of a layout that passes, or why it does not."""
        batch = pack(self.items, self.pad_id, layout)
        if not self.rough:
            return self._compare(layout, self._run(batch, precise=False), None)
        exact = self._run(batch, precise=True) if self.float32 is not None else None
        return self._compare(layout, exact, self._run(batch, precise=False))

    def _compare(self, layout: str, exact: Tensor | str | None, own: Tensor | str | None) -> Trial | str:
        """`exact`, `own`: a layout's log-probs in float32 and in the model's precision, or why there are none."""
        trial, reason = Trial(layout), None
        if isinstance(own, str) or (isinstance(exact, str) and not self.rough):
            reason = own if isinstance(own, str) else str(exact)
        if reason is None and isinstance(exact, Tensor) and self.float32 is not None:
            trial = dataclasses.replace(trial, float32=_differences(exact, self.float32).abs().max().item())
        if reason is None and isinstance(own, Tensor):
            noise, error = self._noise(), _rms(own, self.own if self.float32 is None else self.float32)
            trial = dataclasses.replace(trial, own=error, noise=noise)
        return _agree(reason or _why_refused(trial)) or trial

    def _noise(self) -> float:
        """How far the model's precision alone takes a token's log-prob: from float32, else from padded to alone."""
        if self.float32 is not None:
            return _rms(self.own, self.float32)
        padded = self._run(pack(self.items, self.pad_id, PADDED), precise=False)
        return _rms(padded, self.own) if isinstance(padded, Tensor) else 0.0

    def _run(self, batch: Batch, *, precise: bool) -> Tensor | str:
        """Log-probs of a batch, or why the model cannot compute them."""
        try:
            return self._logps(batch, precise=precise)
        except (torch.OutOfMemoryError, ConfigError):
            if precise:
                return "no room for float32"
            raise
        except CannotShare as error:
            return str(error)
        except Exception as error:  # whatever a model does with a row that it was not written for
            return f"it fails: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"

    @torch.no_grad()
    def _logps(self, batch: Batch, *, precise: bool) -> Tensor:
        was_training = self.model.training
        self.model.eval()
        try:
            return response_logps(self.model, self.prepare(batch), precise=precise)
        finally:
            self.model.train(was_training)
            # under autocast, weights that were cast here are remembered without a gradient
            torch.clear_autocast_cache()


def _why_refused(trial: Trial) -> str | None:
    """Why a layout with these differences is refused; None: it passes. Not a number is refused too."""
    if trial.float32 is not None and not trial.float32 <= TOLERANCE:
        own = "" if trial.own is None else f" ({trial.own:.2g} in its own precision, which explains {trial.noise:.2g})"
        return f"a token's log-prob would be wrong by {trial.float32:.2g} nats in float32{own}"
    if trial.own is not None and trial.noise is not None and not trial.own <= NOISE_FACTOR * trial.noise + FLOOR:
        exact = "" if trial.float32 is None else f", and by {trial.float32:.2g} in float32"
        return (
            f"a token's log-prob would be wrong by {trial.own:.2g} nats in the model's precision, which explains"
            f" {trial.noise:.2g}{exact}"
        )
    return None


def _rms(found: Tensor, expected: Tensor) -> float:
    return _differences(found, expected).square().mean().sqrt().item()


def _differences(found: Tensor, expected: Tensor) -> Tensor:
    """Differences (R,) of log-probs in float32; 0 where neither is finite, which is a fault of the model's weights."""
    differences = found.float() - expected.float()
    return torch.where(found.isfinite() | expected.isfinite(), differences, 0.0)


def _name(model: torch.nn.Module) -> str:
    return type(_causal(model)).__name__


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


def _agree(reason: str | None) -> str | None:
    """The same answer on all ranks: the first reason that any has."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return reason
    reasons: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(reasons, reason)
    return next((found for found in reasons if found is not None), None)
