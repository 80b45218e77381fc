"""What a run folder remembers: manifests of finished work, digests of files, versions. No torch.

A unit of work (one stage, for one seed and one model) owns a folder. `started.json` holds its inputs while it runs,
`manifest.json` once it is complete: inputs, outputs with digests, versions, seconds, peak memory.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..json_files import MADE_AGAIN, read_json, write_json
from .digest import digest_value, digest_weights
from .environment import git_revision, peak_memory_bytes, versions
from .folder import INITIAL_SCORES, MANIFEST, STARTED, TRAINER_STATE

# Written beside an artifact without being part of it.
_NOT_CONTENT = {MANIFEST, STARTED, TRAINER_STATE, INITIAL_SCORES, "README.md", "training_args.bin"}


def digest_folder(folder: Path) -> str:
    """One digest for the files directly in a checkpoint folder; a manifest there stands for files too large to hash."""
    files = {
        path.name: digest_weights(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _NOT_CONTENT and not path.name.startswith(".")
    }
    large = [name for name, value in files.items() if value.startswith("size:")]
    if large:
        manifest = read_manifest(folder / MANIFEST)
        # weights of the user's own, retrained in place, keep their size but not their time
        times = [(folder / name).stat().st_mtime_ns for name in large]
        files[MANIFEST] = digest_value(manifest["inputs"] if manifest else times)
    return digest_value(files)


def digest_checkpoint(folder: Path) -> str | None:
    """The digest of a finished checkpoint; None where there is none, or where its unit was cut."""
    return digest_folder(folder) if (folder / "config.json").exists() and not is_cut(folder) else None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A unit's manifest or its `started.json`, None where there is none; one without its parts raises `DataError`."""
    value = read_json(path)
    if value is not None:
        for key in ("inputs", "outputs") if path.name == MANIFEST else ("inputs",):
            if not isinstance(value.get(key), dict):
                raise DataError(f"{path}: '{key}' is missing or no object. {MADE_AGAIN}")
    return value


def is_cut(folder: Path) -> bool:
    """Whether the unit of a folder was started and not completed."""
    return (folder / STARTED).exists() and not (folder / MANIFEST).exists()


class UnitLog:
    """Marks a unit as started, and as complete with its outputs, time and memory. Only for the first rank.

    `processes`: how many share it, if that matters to it; it is kept beside the inputs. The seconds are those of the
    process that completes it: what a cut one had spent is not in them.
    """

    def __init__(self, folder: Path, inputs: dict[str, Any], processes: int | None = None) -> None:
        self.folder, self.inputs = folder, inputs
        self.shared = {} if processes is None else {"processes": processes}
        self.begun = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self.was_cut = (folder / STARTED).exists()
        write_json(folder / STARTED, {"inputs": inputs, **self.shared})

    def complete(self, outputs: list[str], **facts: Any) -> None:
        """Write the manifest. `outputs` are file names in the folder; `facts` are further JSON values."""
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
        (self.folder / STARTED).unlink(missing_ok=True)
