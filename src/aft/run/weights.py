"""What the header of a weights file says about its tensors, without reading them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}


def shapes(path: Path) -> list[tuple[str, Sequence[int], int]]:
    """(name, shape, bytes of an element) of each tensor in a safetensors file, from its header.

    A header that is damaged, in whatever way, raises `ValueError`.
    """
    with path.open("rb") as handle:
        # a damaged length may be any number, and as much memory would be asked for
        text = handle.read(min(int.from_bytes(handle.read(8), "little"), path.stat().st_size))
    try:
        header = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path}: the header is nested too deep") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header is not an object")
    found: list[tuple[str, Sequence[int], int]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: the header's entry {name} is not an object")
        shape, kind = entry.get("shape"), entry.get("dtype")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{path}: the header's entry {name} has no shape")
        if not isinstance(kind, str):
            raise ValueError(f"{path}: the header's entry {name} has no dtype")
        found.append((name, shape, _BYTES.get(kind, 4)))
    return found
