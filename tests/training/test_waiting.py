"""A step of training reads from the device once. Counted on a CPU, by the operations that wait for a GPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from aft.config.losses import DpoLoss
from aft.stages.loss_section import make_objective
from tiny_models import random_items
from tiny_trainers import OBJECTIVES, make_trainer

# Operations whose result, or the shape of whose result, is read on the host.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_consecutive", "_unique2"}
KINDS = [[None, 1.0, 0.0], [None, 0.0, 1.0, 0.0], [None], [None, 1.0, 1.0, 0.0, 0.0]]


class Reads(TorchDispatchMode):
    """Counts the waiting operations inside. A mask as an index is one: its true values are counted on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        if name in WAITING or by_mask:
            self.counts[f"{name} by mask" if by_mask else name] += 1
        return func(*args, **(kwargs or {}))


class CountSteps(TrainerCallback):
    """The waiting operations and copies of each step, from its first forward pass to its update."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[dict[str, int]] = []
        self.monkeypatch = monkeypatch

    def on_step_begin(self, args, state, control, **_):
        self.reads = Reads()
        self.undo = self.monkeypatch.context()
        patch = self.undo.__enter__()
        # on a CPU these are no operations of torch's, and a tensor made of numbers is no copy
        for owner, name in [
            (torch.Tensor, "tolist"),
            (torch.Tensor, "cpu"),
            (torch.Tensor, "numpy"),
            (torch, "tensor"),
        ]:
            patch.setattr(owner, name, self.counted(name, getattr(owner, name)))
        self.reads.__enter__()

    def counted(self, name, function):
        def call(*args, **kwargs):
            self.reads.counts[name] += 1
            return function(*args, **kwargs)

        return call

    def on_step_end(self, args, state, control, **_):
        self.reads.__exit__(None, None, None)
        self.undo.__exit__(None, None, None)
        self.steps.append(dict(self.reads.counts))


def reads_of_steps(monkeypatch, folder, name, *, batch_size, accumulation, job, **training):
    items = random_items(5, KINDS * 3)
    with_scores = name != "vft"
    objective = make_objective(DpoLoss(name="dpo"), "token_mean") if name == "dpo" else OBJECTIVES[name][0]
    trainer = make_trainer(
        folder,
        items=items,
        job={
            "objective": objective,
            "initial_scores": (lambda t: t.score_candidates()) if with_scores else None,
            **job,
        },
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=2,
        logging_steps=100,
        **training,
    )
    counted = CountSteps(monkeypatch)
    trainer.add_callback(counted)
    trainer.train()
    if with_scores:
        assert "scores/positive_drift" in trainer.state.log_history[-2]
    return counted.steps


@pytest.mark.parametrize("name", ["vft", "bcl", "dpo"])
def test_a_step_reads_from_the_device_once_whatever_it_holds(tmp_path, monkeypatch, name):
    """Whether one question or six, one call of the model or several."""
    for batch_size, accumulation, max_tokens, max_grad_norm in [(1, 1, None, 0.0), (4, 1, None, 1.0), (3, 2, 40, 1.0)]:
        steps = reads_of_steps(
            monkeypatch,
            tmp_path,
            name,
            batch_size=batch_size,
            accumulation=accumulation,
            job={"max_tokens": max_tokens},
            max_grad_norm=max_grad_norm,
        )
        assert steps == [{"_local_scalar_dense": 1}] * 2, (batch_size, accumulation, max_tokens)


def test_the_count_sees_what_it_should(monkeypatch):
    values = torch.arange(4.0)
    with Reads() as reads:
        values[values > 1]
        values.sum().item()
        bool(values.sum() > 1)
        float(values[0])
        (values > 1).nonzero()
    assert reads.counts == {"index by mask": 1, "_local_scalar_dense": 3, "nonzero": 1}
