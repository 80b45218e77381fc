"""Digests of files and values, and the differences between two sets of inputs."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

# What a unit reads is hashed at every start. For larger files (weights of real models) the manifest in their folder
# stands in.
_HASH_UP_TO_BYTES = 64 * 2**20

# A file that was written so recently can be written again without another modification time.
_CLOCK_STEP_NS = 2 * 10**9


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file's content, for files of any size. Used for records and files that a user edits."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while part := handle.read(2**20):
            found.update(part)
    return "sha256:" + found.hexdigest()


def digest_weights(path: Path) -> str:
    """Returns the sha256 of a checkpoint's file, or only its size if it is above 64 MB."""
    return f"size:{path.stat().st_size}" if is_large(path) else digest_file(path)


class Digests:
    """Computes `digest_file` once for each file in this process. A file of another size or time is hashed again."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def of(self, path: Path) -> str:
        """Returns `digest_file(path)`."""
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._kept.get(path)
        if kept is not None and kept[0] == state:
            return kept[1]
        begun = time.time_ns()
        digest = digest_file(path)
        if found.st_mtime_ns < begun - _CLOCK_STEP_NS:
            self._kept[path] = (state, digest)
        return digest


def is_large(path: Path) -> bool:
    """True if a file is too large to be hashed at every start."""
    return path.stat().st_size > _HASH_UP_TO_BYTES


def digest_value(value: Any) -> str:
    """Returns the sha256 of a JSON value."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def changed_keys(before: Any, now: Any, path: str = "") -> list[str]:
    """Returns `key: was X, is Y` for every leaf in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            where = f"{path}.{key}" if path else str(key)
            if key not in before:
                found.append(f"{where}: new, is {_short(now[key])}")
            elif key not in now:
                found.append(f"{where}: was {_short(before[key])}, is gone")
            else:
                found.extend(changed_keys(before[key], now[key], where))
        return found
    return [] if before == now else [f"{path}: was {_short(before)}, is {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if text.startswith('"sha256:'):
        return text[8:16]
    return text if len(text) <= 60 else text[:57] + "..."


def chain_digest(text: str) -> str:
    """Returns 16 digits of the sha256 of a chain's text: by it, a kept score is known to be of this chain."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
