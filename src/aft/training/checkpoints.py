"""Finds the checkpoint from which a training resumes."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..json_files import read_json


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete `checkpoint-N` in a folder; None if there is none."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        # a checkpoint of save_only_model has no random state; the trainer's state is written last
        if number.isdigit() and any(path.glob("rng_state*.pth")) and _is_whole(path / "trainer_state.json"):
            found.append((int(number), path))
    return str(max(found)[1]) if found else None


def _is_whole(path: Path) -> bool:
    try:
        return read_json(path) is not None
    except DataError:
        return False
