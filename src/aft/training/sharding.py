"""What the trainer must tell those that divide its work among processes: DDP, FSDP2, DeepSpeed's ZeRO."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers.integrations import unset_hf_deepspeed_config


@contextlib.contextmanager
def more_to_come(accelerator: Any, model: torch.nn.Module) -> Iterator[None]:
    """Inside, a backward pass ends no batch: DDP exchanges no gradients, DeepSpeed takes no optimizer step."""
    state = accelerator.gradient_state
    is_last_batch = state.sync_gradients
    state._set_sync_gradients(False)
    try:
        with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
            yield
    finally:
        state._set_sync_gradients(is_last_batch)


def keep_output_precision(accelerator: Any) -> None:
    """Under FSDP2 with mixed precision, leave the model's output alone: our forward returns float32 log-probs.

    accelerate's policy would round them, and the gradient of each, to the computing type.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if plugin is not None and getattr(plugin, "fsdp_version", 1) == 2 and policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(policy, output_dtype=None)


def leave_deepspeed(accelerator: Any) -> None:
    """After the last use of a trainer's model: its engine is given up, and models are built whole again.

    Otherwise, after ZeRO-3, transformers would divide the next model at once. Loading one would be a collective
    operation, for which a process that merges an adapter alone waits without end.
    """
    if getattr(accelerator.state, "deepspeed_plugin", None) is not None:
        unset_hf_deepspeed_config()
        accelerator.free_memory()
