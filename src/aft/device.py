"""Where a run computes. Apart from `arguments`, because not every stage needs what a Trainer imports."""

from __future__ import annotations

import os

import torch


def use_cpu(device: str) -> bool:
    """Whether to compute on the CPU: asked for by `launch.device` or the launcher, or because there is no GPU."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return device == "cpu" or launched_so or not torch.cuda.is_available()
