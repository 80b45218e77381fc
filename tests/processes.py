"""Whether a process is still there."""

from __future__ import annotations


def is_alive(number: int) -> bool:
    """An ended process stays until whoever adopts it takes note. Reads /proc."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8") as handle:
            return handle.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
