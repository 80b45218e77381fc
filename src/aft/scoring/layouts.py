"""Finds the best layout in which a model scores real questions as it scores each sequence alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .attention import CannotShare
from .packing import LAYOUTS, PACKED, PADDED, SHARED, Batch, Entry, Item, pack
from .precise import why_not_in_float32
from .responses import response_logps

# Kinds of layers, by the names in a configuration's `layer_types`, whose attention `attention.py` knows.
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
# Responses of a question that are tried.
_MOST_RESPONSES = 3
# Nats by which a layout may change a token's log-prob in float32.
TOLERANCE = 1e-3
# In sixteen bits the root mean square error of a layout may be this many times the error of the sequences alone, both
# against float32. A right layout gives about 1.
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

    `layout` is the one to use. `reasons` says for each refused layout why. The figures belong to `layout`, in nats of
    a token's log-prob. `float32`: the largest difference from the sequence alone if everything computes in float32.
    `own`: the root mean square error in the model's own precision, against float32. `noise`: that error of the
    sequences alone. A figure that was not measured is None. `no_float32` says why float32 could not be had. Single
    sequences in the model's own precision then stand in for it, and `noise` is how far padded batches are from them.
    """

    layout: str
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    float32: float | None = None
    own: float | None = None
    noise: float | None = None
    no_float32: str | None = None

    def figures(self) -> dict[str, float | str | None]:
        """The differences by name, and why there is none in float32."""
        found: dict[str, float | str | None] = {"float32": self.float32, "own": self.own, "noise": self.noise}
        return found if self.no_float32 is None else {**found, "no_float32": self.no_float32}

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

    A layout is tried in float32, and its log-probs must be those of the sequence alone. If the model computes in
    another precision (`rough`), the layout is also tried in that precision. Its error may then be at most
    `NOISE_FACTOR` times the error of the sequences alone. `model` has been through `forward.enable_scoring` and may be
    wrapped (DDP, FSDP). All ranks call this together, with the same entries. `wanted`: a layout, or auto. `prepare`
    moves a batch to its device. Raises `ConfigError` if the wanted layout, or every layout, gives wrong log-probs.
    """
    if not entries:
        return Trial(PADDED if wanted == PADDED else SHARED)
    items = _some(entries)
    judge = _Judge(model, items, pad_id, rough, prepare)
    known = what_is_known(model)
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
    """The log-probs of each sequence alone: a call of the model holds one sequence, without padding."""

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
        self.float32: Tensor | None = self.own
        self.no_float32: str | None = None
        self.noise: float | None = None
        if rough:
            self.float32, self.no_float32 = self._in_float32()
            self.noise = self._noise()

    def _in_float32(self) -> tuple[Tensor | None, str | None]:
        """The log-probs in float32, or None and why one of the ranks cannot compute them."""
        found, reason = None, why_not_in_float32(self.model)
        if reason is None:
            try:
                found = torch.cat([self._logps(single, precise=True) for single in self.singles])
            except torch.OutOfMemoryError:
                reason = "float32 does not fit into memory"
            except RuntimeError as error:  # a kernel for sixteen bits alone, or a write that would be lost
                reason = _first_line(error)
        reason = _agree(reason)
        return (found, None) if reason is None else (None, reason)

    def _noise(self) -> float:
        """The error that the model's precision makes: against float32, else between padded and single sequences."""
        if self.float32 is not None:
            return _rms(self.own, self.float32)
        padded = self._run(pack(self.items, self.pad_id, PADDED), precise=False)
        failed = _agree(padded if isinstance(padded, str) else None) is not None
        return 0.0 if failed or isinstance(padded, str) else _rms(padded, self.own)

    def try_layout(self, layout: str) -> Trial | str:
        """The trial of a layout that passes, or why it does not."""
        batch = pack(self.items, self.pad_id, layout)
        # all ranks make the same calls, whatever becomes of them on one: a call can be a collective operation
        exact = self._run(batch, precise=self.rough) if self.float32 is not None else None
        own = self._run(batch, precise=False) if self.rough else None
        # a layout that only float32 cannot compute is judged in the model's own precision
        reason = own if isinstance(own, str) else exact if isinstance(exact, str) and not self.rough else None
        trial = Trial(layout, noise=self.noise, no_float32=self.no_float32)
        if reason is None and isinstance(exact, Tensor) and self.float32 is not None:
            trial = dataclasses.replace(trial, float32=_differences(exact, self.float32).abs().max().item())
        if reason is None and isinstance(own, Tensor):
            expected = self.own if self.float32 is None else self.float32
            trial = dataclasses.replace(trial, own=_rms(own, expected))
        return _agree(reason or _why_refused(trial)) or trial

    def _run(self, batch: Batch, *, precise: bool) -> Tensor | str:
        """Log-probs of a batch, or why the model cannot compute them."""
        try:
            return self._logps(batch, precise=precise)
        except torch.OutOfMemoryError:
            if not precise:
                raise
            return "float32 does not fit into memory"
        except ConfigError:
            raise
        except CannotShare as error:
            return str(error)
        except Exception as error:  # a model can fail in any way on a row that it was not written for
            return f"it fails: {_first_line(error)}"

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
    """Differences (R,) of log-probs in float32, nats; relative to 100 nats where a log-prob is below -100.

    A collapsed model gives such log-probs, and float32 rounds them in steps that grow with them. The difference is 0
    where neither log-prob is finite, which is a fault of the model's weights.
    """
    differences = (found.float() - expected.float()) / (expected.float().abs() / 100).clamp(min=1)
    return torch.where(found.isfinite() | expected.isfinite(), differences, 0.0)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
    # without masks: a layout must be right for every token
    return dataclasses.replace(
        item,
        responses=[item.responses[index] for index in indices],
        supervised=[item.supervised[index] for index in indices],
        ratings=[item.ratings[index] for index in indices],
        initial_scores=None,
        masks=None,
    )


def _causal(model: torch.nn.Module) -> Any:
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def what_is_known(model: torch.nn.Module) -> str | None:
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
