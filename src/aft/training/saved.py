"""Compares what a training saved with what it trained: both score a few of the training's sequences."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import AftError
from ..progress import say
from ..scoring.packing import PADDED, Batch, Item, pack
from ..scoring.precise import why_not_in_float32
from ..scoring.responses import response_logps, to_device
from .trainer import AftTrainer

_SEQUENCES, _LOOKED_AT = 4, 64
# Nats by which the mean token may differ: in float32, and where sixteen bits are involved.
_EXACT, _ROUGH = 0.01, 0.1


@dataclasses.dataclass(frozen=True)
class TrainedScores:
    """Log-probs (R,) float32, nats, on the CPU, of the response tokens of `batch` under the trained model.

    `without_adapter`: those of the base model under it; None: there is no adapter. `precise`: computed in float32,
    whatever precision the weights have. `sharded`: no process has all weights.
    """

    batch: Batch
    logps: Tensor
    without_adapter: Tensor | None
    precise: bool
    sharded: bool


def trained_scores(trainer: AftTrainer) -> TrainedScores:
    """Score a few sequences with the model of a trainer that has finished. All ranks call this together."""
    batch = pack(_some(trainer), trainer.packer.pad_id, PADDED)
    model = trainer.model_wrapped
    sharded = why_not_in_float32(model) is not None
    logps, precise = _score(model, trainer._prepare_inputs(batch), precise=not sharded)
    without = None
    if disable := getattr(trainer.accelerator.unwrap_model(model), "disable_adapter", None):
        with disable():
            without, _ = _score(model, trainer._prepare_inputs(batch), precise=precise)
    return TrainedScores(batch, logps, without, precise, sharded)


def check_saved(trained: TrainedScores, load: Callable[[], torch.nn.Module], device: torch.device, folder: Any) -> None:
    """Raise `AftError` if the model that `load` loads scores the sequences otherwise than the trained model did.

    Prints a line if sixteen bits lost most of what an adapter learnt, or if the model does not fit beside the trained
    one. `load` returns a model that has been through `enable_scoring`. Only the process that saved calls this.
    """
    try:
        model = load().eval().to(device)
        logps, precise = _score(model, to_device(trained.batch, device), precise=trained.precise)
    except torch.OutOfMemoryError:
        say(f"{folder}: not loaded and compared with the trained model: it does not fit beside it in the GPU's memory")
        return
    sixteen = any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in model.parameters())
    rough = not (precise and trained.precise) or (sixteen and trained.without_adapter is not None)
    difference = _distance(logps, trained.logps)
    allowed = _ROUGH if rough else _EXACT
    learnt = None if trained.without_adapter is None else _distance(trained.without_adapter, trained.logps)
    lost = learnt is not None and difference > max(learnt / 2, _EXACT / 10)
    if not difference <= allowed or (lost and not rough):
        raise AftError(
            f"{folder}: what was saved is not what was trained: loaded anew, it gives a token another log-prob, by"
            f" {difference:.2g} nats in the mean over {trained.logps.numel()} tokens; at most {allowed:g} is rounding."
            " The stage is not done"
        )
    if lost:
        say(
            f"{folder}: merged into weights of sixteen bits, the adapter is {difference:.2g} nats per token from"
            f" the trained one, which moved the base model by {learnt:.2g}; set model.dtype to float32"
        )


def forget_optimizer(trainer: AftTrainer) -> None:
    """Free the optimizer's state of a trainer that has finished, so that a second model fits in its place."""
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
    trainer.accelerator.free_memory()


def _some(trainer: AftTrainer) -> list[Item]:
    """The first response of each of the questions that are shortest among the first."""
    items = [
        dataclasses.replace(item, responses=item.responses[:1], supervised=[True], ratings=[None], initial_scores=None)
        for entry in trainer.entries[:_LOOKED_AT]
        for item in entry[:1]
    ]
    return sorted(items, key=lambda item: len(item.prompt_ids) + len(item.responses[0]))[:_SEQUENCES]


@torch.no_grad()
def _score(model: torch.nn.Module, batch: Batch, *, precise: bool) -> tuple[Tensor, bool]:
    """Log-probs (R,) of a batch, and whether they were computed in float32, as asked if the model can."""
    with _evaluating(model):
        if precise:
            try:
                return response_logps(model, batch, precise=True).float().cpu(), True
            except torch.OutOfMemoryError:
                pass
            except RuntimeError:  # a kernel for sixteen bits alone, or a write that would be lost
                pass
        return response_logps(model, batch).float().cpu(), False


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        # under autocast, weights that were cast here are remembered without a gradient
        torch.clear_autocast_cache()


def _distance(found: Tensor, expected: Tensor) -> float:
    """Mean absolute difference, nats per token; relative to 100 nats where a log-prob is below -100."""
    differences = (found - expected).abs() / (expected.abs() / 100).clamp(min=1)
    return torch.where(found.isfinite() | expected.isfinite(), differences, 0.0).mean().item()
