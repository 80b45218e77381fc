"""Chooses the device. Separate from `arguments` so that stages without a trainer do not import transformers."""

from __future__ import annotations

import gc
import os

import torch


def use_cpu(device: str) -> bool:
    """True if the run uses the CPU: `launch.device` or the launcher asks for it, or there is no GPU."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return device == "cpu" or launched_so or not torch.cuda.is_available()


def forget() -> None:
    """Free the memory of a finished unit. Its model is in a reference cycle through its replaced forward method."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
