"""Where a run computes. Apart from `arguments`, because not every stage needs what a Trainer imports."""

from __future__ import annotations

import torch

from .errors import ConfigError


def require_device(device: str) -> bool:
    """True if the run is to use the CPU. `device`: auto, cpu or cuda; cuda without a GPU raises `ConfigError`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("launch.device: cuda, but there is no GPU that torch can use; allowed here: auto, cpu")
    return device == "cpu" or not torch.cuda.is_available()
