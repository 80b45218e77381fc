"""GPUs by name: memory and peak rates from the makers' data sheets, without sparsity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU: memory in GB (10^9 bytes), peak matrix rates in 10^12 operations a second, memory rate in GB a second.

    `half`: in bfloat16 or float16 with sums in float32. `single`: in float32 without TF32.
    """

    memory_gb: float
    half: float
    single: float
    bandwidth_gb: float


GPUS = {
    "t4": Gpu(16, 65, 8.1, 320),
    "v100": Gpu(32, 125, 15.7, 900),
    "a10": Gpu(24, 125, 31.2, 600),
    "l4": Gpu(24, 121, 30.3, 300),
    "rtx-3090": Gpu(24, 71, 35.6, 936),
    "rtx-4090": Gpu(24, 165, 82.6, 1008),
    "a6000": Gpu(48, 155, 38.7, 768),
    "l40s": Gpu(48, 362, 91.6, 864),
    "a100-40gb": Gpu(40, 312, 19.5, 1555),
    "a100": Gpu(80, 312, 19.5, 2039),
    "h100": Gpu(80, 989, 67, 3350),
    "h200": Gpu(141, 989, 67, 4800),
    "b200": Gpu(180, 2250, 75, 7700),
    # one of its two dies, which a process sees as a GPU
    "mi250x": Gpu(64, 191, 47.9, 1638),
    "mi300x": Gpu(192, 1307, 163, 5300),
}
WITHOUT_BFLOAT16 = ("t4", "v100")
