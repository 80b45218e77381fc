"""Model FLOPs utilisation (MFU): the operations that a model's step needs, over what the device could do at its peak.

Operations are 6 N D: a multiplication and an addition forward, twice that backward, for each weight and token. N are
the weights of the layers' matrices, D the tokens that a way reads, padding included. The head's weights count for
predicted positions alone, since no way here projects others into its loss. Attention is left out: at these lengths it
is a few per cent. torchtitan adds 12 · layers · hidden · length a token for it and gives 33 to 39 % for Llama 3.1 8B
on 8 or 128 H100 in bfloat16:
https://github.com/pytorch/torchtitan/blob/main/benchmarks/llama3_h100_202412_torchtitan.md
"""

from __future__ import annotations

import os

import torch

from shapes import Shape
from timing import matrix_rate

ELSEWHERE = "torchtitan: 33–39 % (Llama 3.1 8B, 8 or 128 H100, FSDP, bfloat16)"

# Dense peak of bfloat16 on the tensor cores, in 10^12 operations a second, from the makers' data sheets. The first name
# that the device's contains counts.
PEAKS = {
    "GB200": 2500,
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H800": 989,
    "A100": 312,
    "A800": 312,
    "L40S": 362,
    "L40": 181,
    "A40": 150,
    "A10G": 70,
    "A10": 125,
    "L4": 121,
    "RTX 4090": 165,
    "MI300X": 1307,
}
OVERRIDE = "AFT_PEAK_TFLOPS"


def peak_rate(device: str, dtype: torch.dtype) -> tuple[float, str]:
    """(operations a second, where that is from): the variable, the table, or a measured matrix product."""
    if given := os.environ.get(OVERRIDE):
        return float(given) * 1e12, f"{OVERRIDE}={given}"
    name = torch.cuda.get_device_name() if device.startswith("cuda") else ""
    known = next((part for part in PEAKS if part in name), None)
    if known is not None and dtype in (torch.bfloat16, torch.float16):
        return PEAKS[known] * 1e12, f"the data sheet's of {known}"
    return matrix_rate(device, dtype), f"measured by a matrix product, as no peak of this device is known ({OVERRIDE})"


def step_operations(shape: Shape, tokens: int, predicted: int) -> float:
    """6 N D of a forward and backward pass that reads `tokens` and predicts at `predicted` of them."""
    return 6.0 * (shape.body_weights * tokens + shape.head_weights * predicted)
