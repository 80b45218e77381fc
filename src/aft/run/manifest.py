"""What a run folder remembers: manifests of finished work, digests of files, versions. No torch.

A unit of work (one stage, for one seed and one model) owns a folder. `started.json` holds its inputs while it runs,
`manifest.json` once it is complete: inputs, outputs with digests, versions, seconds, peak memory.
"""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

from ..errors import AftError
from ..json_files import write_json
from .digest import digest_value, digest_weights
from .environment import git_revision, peak_memory_bytes, versions

MANIFEST = "manifest.json"
STARTED = "started.json"
INITIAL_SCORES = "initial_scores.json"

# Written beside an artifact without being part of it.
_NOT_CONTENT = {MANIFEST, STARTED, INITIAL_SCORES, "README.md", "trainer_state.json", "training_args.bin"}


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is no such file; anything else raises `AftError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AftError(f"{path}: cannot be read as JSON: {error}. Delete it to run its unit again.") from None
    if not isinstance(value, dict):
        raise AftError(f"{path}: expected a JSON object. Delete it to run its unit again.")
    return value


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A unit's manifest or its `started.json`, None where there is none; one without its parts raises `AftError`."""
    value = read_json(path)
    if value is not None:
        for key in ("inputs", "outputs") if path.name == MANIFEST else ("inputs",):
            if not isinstance(value.get(key), dict):
                raise AftError(f"{path}: '{key}' is missing or no object. Delete it to run its unit again.")
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
