"""Chooses the device and its precision.

Separate from `arguments` so that stages without a trainer do not import transformers.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")


def use_cpu(device: str) -> bool:
    """True if the run uses the CPU: `launch.device` or the launcher asks for it, or there is no GPU."""
    launched_so = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return device == "cpu" or launched_so or not torch.cuda.is_available()


def precision(device: str = "auto", cpu_info: Path = _CPU_INFO) -> tuple[list[str], str]:
    """Overrides of a configuration in bfloat16 for this machine, and a line that says what it computes in.

    A GPU takes bfloat16. A processor takes it if its flags in `cpu_info` name instructions for it; otherwise it
    computes faster in float32.
    """
    if not use_cpu(device):
        return [], "computes in bfloat16 on a GPU"
    if found := bfloat16_flags(cpu_info):
        return [], f"computes in bfloat16: the processor has {' and '.join(found)}"
    return (
        ["training.bf16=false", "model.inference_dtype=float32"],
        f"computes in float32: the processor has none of {', '.join(_BFLOAT16_FLAGS)}",
    )


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process sees, as CUDA_VISIBLE_DEVICES has them."""
    named, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    names = [name.strip() for name in named.split(",")] if named else [str(number) for number in range(count)]
    return names[:count]


def bfloat16_flags(cpu_info: Path = _CPU_INFO) -> list[str]:
    """The processor's instructions for bfloat16, by the flags in `cpu_info`."""
    words = set(cpu_info.read_text(encoding="utf-8").split()) if cpu_info.exists() else set()
    return [flag for flag in _BFLOAT16_FLAGS if flag in words]


def forget() -> None:
    """Free the memory of a finished unit. Its model is in a reference cycle through its replaced forward method."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
