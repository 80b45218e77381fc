"""Keeps what a unit changes in its process from the next unit."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

# TrainingArguments that set up kernels or compilers of the whole process, and the value that does not.
_OF_THE_PROCESS = {
    "full_determinism": False,
    "tf32": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
}
# Every other tracker of transformers holds one run for the whole process.
_TRACKERS_OF_A_UNIT = ("none", "tensorboard")


def needs_own_process(training: Mapping[str, Any]) -> bool:
    """Whether a training with these TrainingArguments leaves behind in its process what cannot be undone."""
    report_to = training.get("report_to") or "none"
    trackers = [report_to] if isinstance(report_to, str) else report_to
    return any(tracker not in _TRACKERS_OF_A_UNIT for tracker in trackers) or any(
        training.get(key, usual) != usual for key, usual in _OF_THE_PROCESS.items()
    )


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Inside, random numbers begin anew. Afterwards environment, warnings, default dtype and logging are as before."""
    import torch
    from accelerate.utils import set_seed

    environment, dtype = dict(os.environ), torch.get_default_dtype()
    logger = logging.getLogger("transformers")  # a training section may set its level
    level = logger.level
    # a unit seeds what it draws; this is for what draws without a seed
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
