"""Undoes the changes that a unit with a model makes to its process, so that they do not affect the next unit."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

# TrainingArguments that change kernels or compilers of the whole process, with the value that changes nothing.
_OF_THE_PROCESS = {
    "full_determinism": False,
    "tf32": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
}
# Trackers that can start a new run for each unit. Every other tracker of transformers has one run per process.
_TRACKERS_OF_A_UNIT = ("none", "tensorboard")


def needs_own_process(training: Mapping[str, Any]) -> bool:
    """True if a training with these TrainingArguments changes its process in a way that cannot be undone."""
    report_to = training.get("report_to") or "none"
    trackers = [report_to] if isinstance(report_to, str) else report_to
    return any(tracker not in _TRACKERS_OF_A_UNIT for tracker in trackers) or any(
        training.get(key, usual) != usual for key, usual in _OF_THE_PROCESS.items()
    )


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Seeds all random generators with 0. On exit, restores environment, warnings, default dtype and logging level."""
    import torch
    from accelerate.utils import set_seed

    environment, dtype = dict(os.environ), torch.get_default_dtype()
    logger = logging.getLogger("transformers")  # TrainingArguments can set its level
    level = logger.level
    # units seed their own random numbers; this seeds library code that draws without a seed
    set_seed(0)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logger.setLevel(level)
        torch.set_default_dtype(dtype)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
