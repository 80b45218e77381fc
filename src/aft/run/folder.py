"""Where the files of a run are."""

from __future__ import annotations

from pathlib import Path


def move_aside(folder: Path, run_folder: Path) -> Path:
    """Move a unit's folder to `RUN/replaced/N/`, with the first N that is free: what a change outdates is not lost."""
    number = 1
    while (target := run_folder / "replaced" / str(number) / folder.relative_to(run_folder)).exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return target
