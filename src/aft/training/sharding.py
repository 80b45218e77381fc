"""Adjustments for distributed training (DDP, FSDP2, DeepSpeed ZeRO)."""

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
    """For all but the last backward pass of a batch: DDP exchanges no gradients, DeepSpeed takes no optimizer step."""
    state = accelerator.gradient_state
    is_last_batch = state.sync_gradients
    state._set_sync_gradients(False)
    try:
        with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
            yield
    finally:
        state._set_sync_gradients(is_last_batch)


def keep_output_precision(accelerator: Any) -> None:
    """Keep the model's float32 log-probs under FSDP2 with mixed precision.

    accelerate's policy would round the log-probs and their gradients to the compute dtype.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if plugin is not None and getattr(plugin, "fsdp_version", 1) == 2 and policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(policy, output_dtype=None)


def leave_deepspeed(accelerator: Any) -> None:
    """Free the DeepSpeed engine and load later models unsharded. Call it after the last use of a trainer's model.

    Otherwise, after ZeRO-3, transformers would shard the next model while loading it. Loading would be a collective
    operation, and a single process that merges an adapter would hang.
    """
    if getattr(accelerator.state, "deepspeed_plugin", None) is not None:
        unset_hf_deepspeed_config()
        accelerator.free_memory()
