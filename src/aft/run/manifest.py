"""Manifests of units, and digests of checkpoints. Does not import torch.

A unit of work (one stage, for one seed and one model) has its own folder. While it runs, `started.json` has its inputs.
Once it is complete, `manifest.json` has inputs, outputs with digests, versions, seconds and peak memory.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

from ..errors import DataError, DiskError, writing
from ..json_files import MADE_AGAIN, read_json, write_json
from .digest import digest_value, digest_weights
from .environment import git_revision, peak_memory_bytes, versions
from .folder import INITIAL_SCORES, MANIFEST, STARTED, TRAINER_STATE

# Files in a checkpoint's folder that do not count for its digest.
_NOT_CONTENT = {MANIFEST, STARTED, TRAINER_STATE, INITIAL_SCORES, "README.md", "training_args.bin"}


def digest_folder(folder: Path) -> str:
    """Returns a digest of the files directly in a checkpoint folder.

    Files too large to hash are represented by their size and the inputs in the folder's manifest.
    """
    files = {
        path.name: digest_weights(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _NOT_CONTENT and not path.name.startswith(".")
    }
    large = [name for name, value in files.items() if value.startswith("size:")]
    if large:
        manifest = read_manifest(folder / MANIFEST)
        # a user's own model has no manifest; if it is retrained in place, its size is the same but its time changes
        times = [(folder / name).stat().st_mtime_ns for name in large]
        files[MANIFEST] = digest_value(manifest["inputs"] if manifest else times)
    return digest_value(files)


def digest_checkpoint(folder: Path) -> str | None:
    """Returns the digest of a checkpoint, or None if there is none or its unit was interrupted."""
    return digest_folder(folder) if (folder / "config.json").exists() and not is_cut(folder) else None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Reads a unit's manifest or `started.json`, or returns None if there is no file.

    Raises `DataError` if the file lacks inputs or outputs.
    """
    value = read_json(path)
    if value is not None:
        for key in ("inputs", "outputs") if path.name == MANIFEST else ("inputs",):
            if not isinstance(value.get(key), dict):
                raise DataError(f"{path}: '{key}' is missing or no object. {MADE_AGAIN}")
    return value


def is_cut(folder: Path) -> bool:
    """True if the unit of a folder was started and not completed."""
    return (folder / STARTED).exists() and not (folder / MANIFEST).exists()


class UnitLog:
    """Marks a unit as started, and as complete with its outputs, time and memory. Only for the first rank.

    `processes`: how many processes share the unit, or None if its result does not depend on it. It is saved with the
    inputs. `seconds` does not include the time of an interrupted process before a resume.
    """

    def __init__(self, folder: Path, inputs: dict[str, Any], processes: int | None = None) -> None:
        self.folder, self.inputs = folder, inputs
        self.shared = {} if processes is None else {"processes": processes}
        self.begun = time.monotonic()
        with writing(folder, "the unit's folder"):
            folder.mkdir(parents=True, exist_ok=True)
        self.was_cut = (folder / STARTED).exists()
        write_json(folder / STARTED, {"inputs": inputs, **self.shared})

    def complete(self, outputs: list[str], **facts: Any) -> None:
        """Writes the manifest. `outputs` are file names in the folder. `facts` are more JSON values.

        Raises `DiskError` if the folder was deleted since the unit was started: what it read may be gone as well.
        """
        if not (self.folder / STARTED).exists():
            raise DiskError(
                f"{self.folder}: the folder was deleted or replaced while it was written. Run the same command again."
            )
        write_json(
            self.folder / MANIFEST,
            {
                "inputs": self.inputs,
                **self.shared,
                "outputs": {name: digest_weights(self.folder / name) for name in outputs},
                "versions": versions(),
                "git_revision": git_revision(),
                "seconds": round(time.monotonic() - self.begun, 3),
                "peak_memory_bytes": peak_memory_bytes(),
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                **facts,
            },
        )
        with writing(self.folder, "the unit's folder"):
            (self.folder / STARTED).unlink(missing_ok=True)
