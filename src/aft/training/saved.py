"""Compares what a training saved with what it trained: both score a few of the training's sequences."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import AftError
from ..progress import say
from ..scoring.packing import PADDED, Batch, Item, pack
from ..scoring.precise import why_not_in_float32
from ..scoring.responses import response_logps, to_device
from .trainer import AftTrainer

_SEQUENCES, _LOOKED_AT = 4, 64
# Nats by which the mean token may differ in float32, and how often the noise of sixteen bits may be added to that.
_EXACT, _TIMES = 0.01, 3
# Noise in nats of a model that cannot be computed in float32, and so cannot say its own.
_UNKNOWN = 0.03


@dataclasses.dataclass(frozen=True)
class TrainedScores:
    """Log-probs (R,) float32, nats, on the CPU, of the response tokens of `batch` under the trained model.

    `without_adapter`: those of the base model under it; None: there is no adapter. `precise`: computed in float32,
    whatever precision the weights have. `autocast`: the type of mixed precision; None: that of the weights.
    """

    batch: Batch
    logps: Tensor
    without_adapter: Tensor | None
    precise: bool
    autocast: torch.dtype | None


def trained_scores(trainer: AftTrainer) -> TrainedScores:
    """Score a few sequences with the model of a trainer that has finished. All ranks call this together."""
    batch = pack(_some(trainer), trainer.packer.pad_id, PADDED)
    model = trainer.model_wrapped
    whole = why_not_in_float32(model) is None
    logps, precise = _score(model, trainer._prepare_inputs(batch), precise=whole)
    without = None
    if disable := getattr(trainer.accelerator.unwrap_model(model), "disable_adapter", None):
        with disable():
            without, _ = _score(model, trainer._prepare_inputs(batch), precise=precise)
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    return TrainedScores(batch, logps, without, precise, mixed)


def check_tokenizer(
    trained: TrainedScores, saved: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Raise `AftError` if the saved tokenizer reads or writes the sequences otherwise than that of the training."""
    rows = trained.batch["input_ids"].tolist()
    texts = tokenizer.batch_decode(rows)
    if saved.batch_decode(rows) != texts:
        raise AftError(f"{folder}: the saved tokenizer reads ids as other text than in training. {_kept(folder)}")
    if saved(texts)["input_ids"] != tokenizer(texts)["input_ids"]:
        raise AftError(f"{folder}: the saved tokenizer encodes text to other ids than in training. {_kept(folder)}")


def check_saved(
    trained: TrainedScores, load: Callable[[], torch.nn.Module], device: torch.device, folder: Path
) -> dict[str, float | None] | None:
    """Raise `AftError` if the model that `load` loads scores the sequences otherwise than the trained model did.

    Where sixteen bits are involved, the loaded model says how much they may change: it is scored with and without them.
    Prints a line if they lost most of what an adapter learnt, or if there is no memory for a second model. Returns the
    mean difference, the largest that is allowed, and how far an adapter moved its base model, in nats per token. `load`
    returns a model that has been through `enable_scoring`. Only the process that saved calls this.
    """
    try:
        model = _placed(load().eval(), device)
        place = next(model.parameters()).device
        batch = to_device(trained.batch, place)
        exact, precise = _score(model, batch, precise=True)
        sixteen = any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in model.parameters())
        rough = not (precise and trained.precise) or (sixteen and trained.without_adapter is not None)
        rounded = exact
        if rough and precise:
            with torch.autocast(place.type, trained.autocast, enabled=trained.autocast is not None):
                rounded, _ = _score(model, batch, precise=False)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        say(f"{folder}: not loaded and compared with the trained model: there is no memory for it beside that one")
        return None
    found = exact if trained.precise else rounded
    noise = _distance(rounded, exact) if precise else _UNKNOWN
    difference, allowed = _distance(found, trained.logps), _EXACT + _TIMES * noise
    wrong = not difference <= allowed
    told = ""
    learnt = None if trained.without_adapter is None else _distance(trained.without_adapter, trained.logps)
    if trained.without_adapter is not None and learnt is not None and difference > _EXACT / 10:
        is_base = _distance(found, trained.without_adapter) < learnt / 10
        lost = difference > learnt / 2
        # both sides are rounded if the trained one is
        is_noise = learnt <= (1 if trained.precise else 2) * noise
        wrong |= is_base or (lost and not rough) or (difference >= 0.9 * learnt and not is_noise)
        if sixteen and lost:
            told = (
                f"merged into weights of sixteen bits, the adapter is {difference:.2g} nats per token from the trained"
                f" one, which moved the base model by {learnt:.2g}; set model.dtype to float32"
            )
        elif lost:
            told = f"the adapter moved the base model by {learnt:.2g}, and the merged model has lost that"
    if wrong:
        raise AftError(
            f"{folder}: what was saved is not what was trained: loaded anew, it gives a token another log-prob, by"
            f" {difference:.2g} nats in the mean over {trained.logps.numel()} tokens; at most {allowed:.2g} is rounding"
            f"{'; ' if told else ''}{told}. {_kept(folder)}"
        )
    if told:
        say(f"{folder}: {told}")
    return {"difference": difference, "allowed": allowed, "adapter_moved": learnt}


def _kept(folder: Path) -> str:
    adapter = f", and the adapter alone in {folder / 'adapter'}" if (folder / "adapter").is_dir() else ""
    return (
        f"The stage is not done. The weights are kept in {folder}{adapter}. To go on with them as they are, copy the"
        " folder and set model.name_or_path to the copy. The same command continues from the folder's last checkpoint;"
        " without one it trains again"
    )


def _placed(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model on the device, or on the CPU if it does not fit."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError:
        return model.to("cpu")


def _is_out_of_memory(error: Exception) -> bool:
    # torch has no class of its own for an allocation on the CPU that failed
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)


def forget_optimizer(trainer: AftTrainer) -> None:
    """Free the optimizer's state of a trainer that has finished, so that a second model fits in its place."""
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
    trainer.accelerator.free_memory()


def _some(trainer: AftTrainer) -> list[Item]:
    """The first response of each of the questions that are shortest among the first."""
    items = [
        dataclasses.replace(
            item, responses=item.responses[:1], supervised=[True], ratings=[None], initial_scores=None, masks=None
        )
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
            except RuntimeError:  # no memory, a kernel for sixteen bits alone, or a write that would be lost
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
