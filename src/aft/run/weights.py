"""What the header of a weights file says about its tensors, without reading them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}


def shapes(path: Path) -> list[tuple[str, Sequence[int], int]]:
    """(name, shape, bytes of an element) of each tensor in a safetensors file, from its header.

    A header that is damaged raises `ValueError`.
    """
    with path.open("rb") as handle:
        # a damaged length may be any number, and as much memory would be asked for
        header = json.loads(handle.read(min(int.from_bytes(handle.read(8), "little"), path.stat().st_size)))
    return [(name, entry["shape"], _BYTES.get(entry["dtype"], 4)) for name, entry in header.items() if "shape" in entry]
