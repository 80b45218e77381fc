"""Digests of files and values, and the differences between two sets of inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# Larger files (weights of real models) are identified by their size and by the manifest in their folder.
_HASH_UP_TO_BYTES = 64 * 2**20


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file's content, for files of any size. Used for records and files that a user edits."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while part := handle.read(2**20):
            found.update(part)
    return "sha256:" + found.hexdigest()


def digest_weights(path: Path) -> str:
    """Returns the sha256 of a checkpoint's file, or only its size if it is above 64 MB."""
    size = path.stat().st_size
    return f"size:{size}" if size > _HASH_UP_TO_BYTES else digest_file(path)


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
