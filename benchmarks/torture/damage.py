"""Ways to damage a file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path


def truncate(path: Path, chance: random.Random) -> None:
    """Cuts the file somewhere before its end."""
    size = path.stat().st_size
    os.truncate(path, chance.randrange(max(1, size // 10), max(2, size)) if size > 1 else 0)


def flip(path: Path, chance: random.Random) -> None:
    """Flips one bit."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_unseen(path: Path, chance: random.Random) -> None:
    """Flips one bit and sets the file's times back."""
    known = path.stat()
    flip(path, chance)
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))


def empty(path: Path, chance: random.Random) -> None:
    """Leaves the name, and no content."""
    os.truncate(path, 0)


def remove(path: Path, chance: random.Random) -> None:
    """Removes the file."""
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    """Puts the content of another file of the run in its place: one of the same name, else of the same kind."""
    run = next(parent for parent in path.parents if parent.name == "run")
    mine = path.read_bytes()
    others = [other for other in sorted(run.rglob(f"*{path.suffix}")) if other.is_file() and other.read_bytes() != mine]
    named = [other for other in others if other.name == path.name] or others
    path.write_bytes(chance.choice(named).read_bytes() if named else mine[::-1])


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncate,
    "a bit flipped": flip,
    "emptied": empty,
    "swapped": swap,
    "removed": remove,
}
UNSEEN = {"a bit flipped, times set back": flip_unseen}
