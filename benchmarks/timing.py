"""Measuring: the same inputs through all variants in turn, medians with their ranges, memory above what was held."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

MB = 1e6
Result = TypeVar("Result")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where and how long to measure. `threads` of the CPU; `repeats` of each measurement, or batches of each size.

    `smoke`: the GPU's parts on the smallest shapes, to see that they run.
    """

    device: str = "cpu"
    threads: int = 1
    repeats: int = 3
    smoke: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


def seconds(run: Callable[[], Result], device: str = "cpu") -> tuple[float, Result]:
    """Wall-clock seconds of one call with all the work that it has queued on a GPU, and its result."""
    _wait(device)
    begun = time.perf_counter()
    result = run()
    _wait(device)
    return time.perf_counter() - begun, result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """The names, beginning elsewhere each turn, so that none is always the one behind the slowest."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    def text(self, pattern: str = "{:.2f}", unit: str = "") -> str:
        """Median with its unit, and the range where there is one."""
        median, low, high = (pattern.format(value) for value in (self.median, self.low, self.high))
        return f"{median}{unit}" if self.low == self.high else f"{median}{unit} ({low}–{high})"


def summary(values: Sequence[float]) -> Summary:
    """Median and range of at least one value."""
    return Summary(statistics.median(values), min(values), max(values))


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Summary:
    """How many times faster, measurement by measurement on the same inputs."""
    return summary([one / other for one, other in zip(slow, fast, strict=True)])


def matrix_rate(device: str, dtype: torch.dtype, repeats: int = 5) -> float:
    """Operations a second of a large matrix product: the best of some, as what a step could reach at most."""
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    taken = [seconds(lambda: left @ right, device)[0] for _ in range(repeats + 1)]
    return 2 * size**3 / min(taken[1:])


# ---- memory ----


def in_own_process(script: str, request: Mapping[str, Any], settings: Settings) -> Any:
    """What `script --child` prints, as JSON, for the request on its standard input."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.threads)}
    # glibc keeps what is freed below a threshold that grows by itself; fixed, every tensor goes back when it is freed,
    # so that resident memory is what is alive and not what the heap has kept
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    found = subprocess.run(
        [sys.executable, script, "--child"],
        input=json.dumps(request),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def without_huge_pages() -> None:
    """Keep Linux from rounding this process's memory up to pages of 2 MB."""
    if sys.platform == "linux":
        PR_SET_THP_DISABLE = 41
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def added_memory(run: Callable[[], Any], device: str) -> float:
    """The most bytes that one call held at any moment, beyond what was held before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - held)
    before = _reset_peak()
    run()
    return _peak() - before


def _reset_peak() -> float:
    """Resident bytes now, made the process's high-water mark where the system allows that."""
    if not _CLEAR.exists():
        return _peak()
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _status(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024.0 * int(line.split()[1])
