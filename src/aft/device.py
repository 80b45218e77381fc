"""Where a run computes. Apart from `arguments`, because not every stage needs what a Trainer imports."""

from __future__ import annotations

import gc
import os

import torch


def use_cpu(device: str) -> bool:
    """Whether to compute on the CPU: asked for by `launch.device` or the launcher, or because there is no GPU."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return device == "cpu" or launched_so or not torch.cuda.is_available()


def forget() -> None:
    """Free what a finished unit held: its model sits in a reference cycle, through the forward that we gave it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
