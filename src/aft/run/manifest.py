"""Manifests of units, and digests of checkpoints. Does not import torch.

A unit of work (one stage, for one seed and one model) has its own folder. While it runs, `started.json` has its inputs.
Once it is complete, `manifest.json` has inputs, outputs with digests, versions, seconds and peak memory.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, DiskError, writing
from ..json_files import MADE_AGAIN, read_json, write_json
from .digest import digest_file, digest_value, is_large
from .environment import git_revision, peak_memory_bytes, versions
from .folder import INITIAL_SCORES, LIVE_LOG, MANIFEST, STARTED, TRAINER_STATE, RunFolder

# Keys of a manifest: the digest of all its other keys, and the size and modification time of each output.
DIGEST, FILES = "digest", "files"
_STATE = ("bytes", "modified_ns")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|size:\d{1,18}")

# Files in a checkpoint's folder that no stage and no report reads.
_UNREAD = {MANIFEST, STARTED, LIVE_LOG, "README.md", "training_args.bin"}

# Files in a checkpoint's folder that do not count for its digest.
_NOT_CONTENT = {*_UNREAD, TRAINER_STATE, INITIAL_SCORES}


def digest_folder(folder: Path, digest: Callable[[Path], str] = digest_file) -> str:
    """Returns a digest of the files directly in a checkpoint folder. `digest` hashes one file.

    A file too large to hash at every start is represented by its digest in the folder's manifest. Manifests of earlier
    versions have only its size: their inputs then count too.
    """
    manifest: dict[str, Any] | None = None
    files, sized = {}, []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name in _NOT_CONTENT or path.name.startswith("."):
            continue
        if not is_large(path):
            files[path.name] = digest(path)
            continue
        manifest = manifest or read_manifest(folder / MANIFEST)
        recorded = _recorded(manifest, path.name)
        if recorded is None:
            files[path.name] = f"size:{path.stat().st_size}"
            sized.append(path)
        else:
            files[path.name] = recorded if has_kept_time(path, manifest, path.name) else digest(path)
    if sized:
        # a user's own model has no manifest; if it is retrained in place, its size is the same but its time changes
        times = [path.stat().st_mtime_ns for path in sized]
        files[MANIFEST] = digest_value(manifest["inputs"] if manifest else times)
    return digest_value(files)


def checkpoint_outputs(folder: Path) -> list[str]:
    """Returns the files of a trained checkpoint that its manifest lists: all that a stage, the report or a user reads.

    Files of `adapter/` and of further chat templates are among them, checkpoints of the training are not.
    """
    found = [path for pattern in ("*", "adapter/*", "additional_chat_templates/*") for path in folder.glob(pattern)]
    names = [path.relative_to(folder).as_posix() for path in found if path.is_file() and path.name not in _UNREAD]
    return sorted(name for name in names if not name.startswith("."))


def _recorded(manifest: Mapping[str, Any] | None, name: str) -> str | None:
    """Returns the digest of an output's content in a manifest, or None."""
    value = (manifest or {}).get("outputs", {}).get(name)
    return value if isinstance(value, str) and value.startswith("sha256:") else None


def has_kept_time(path: Path, manifest: Mapping[str, Any] | None, name: str) -> bool:
    """True if a file has the size and the modification time that the manifest recorded for the output `name`."""
    found = path.stat()
    return (manifest or {}).get(FILES, {}).get(name) == _state(found.st_size, found.st_mtime_ns)


def _state(size: int, modified: int) -> dict[str, int]:
    return dict(zip(_STATE, (size, modified), strict=True))


def digest_checkpoint(folder: Path, digest: Callable[[Path], str] = digest_file) -> str | None:
    """Returns the digest of a checkpoint, or None if there is none or its unit was interrupted."""
    return digest_folder(folder, digest) if (folder / "config.json").exists() and not is_cut(folder) else None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Reads a unit's manifest or `started.json`, or returns None if there is no file.

    Raises `DataError` if the file lacks inputs or outputs, or is not as it was written.
    """
    value = read_json(path)
    if value is not None:
        for key in ("inputs", "outputs") if path.name == MANIFEST else ("inputs",):
            if not isinstance(value.get(key), dict):
                raise DataError(f"{path}: '{key}' is missing or no object. {MADE_AGAIN}")
        if DIGEST in value and value[DIGEST] != _own_digest(value):
            raise DataError(f"{path}: the content differs from what was written. {MADE_AGAIN}")
        if wrong := _wrong_output(value.get("outputs", {}), value.get(FILES, {})):
            raise DataError(f"{path}: {wrong}. {MADE_AGAIN}")
    return value


def _wrong_output(outputs: dict[str, Any], files: Any) -> str | None:
    """Returns what is wrong with the outputs of a manifest, or None."""
    for name, digest in outputs.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"output '{name}' is not in the unit's folder"
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return f"output '{name}' has no digest"
    states = files.values() if isinstance(files, dict) else [files]
    if not all(isinstance(state, dict) and [type(state.get(key)) for key in _STATE] == [int, int] for state in states):
        return f"'{FILES}' must have {' and '.join(_STATE)} of each output"
    return None


def _own_digest(manifest: Mapping[str, Any]) -> str:
    return digest_value({key: value for key, value in manifest.items() if key != DIGEST})


def place_of(folder: Path) -> str:
    """Returns the folder of a unit relative to its run, for example `seed-0/vft`. Only the text of the path is read."""
    run = RunFolder.around(folder / MANIFEST)
    return run.within(folder) if run else folder.name


def is_cut(folder: Path) -> bool:
    """True if the unit of a folder was started and not completed."""
    return (folder / STARTED).exists() and not (folder / MANIFEST).exists()


class UnitLog:
    """Marks a unit as started, and as complete with its outputs, time and memory. Only for the first rank.

    `processes`: how many processes share the unit, or None if its result does not depend on it. It is saved with the
    inputs. With `resumes`, a number that was saved before stays: it decides which questions a step has. `seconds` does
    not include the time of an interrupted process before a resume.
    """

    def __init__(
        self, folder: Path, inputs: dict[str, Any], processes: int | None = None, *, resumes: bool = False
    ) -> None:
        self.folder, self.inputs = folder, inputs
        if resumes:
            processes = (read_manifest(folder / STARTED) or {}).get("processes", processes)
        self.processes = processes
        self.shared = {} if processes is None else {"processes": processes}
        self.begun = time.monotonic()
        with writing(folder, "the unit's folder"):
            folder.mkdir(parents=True, exist_ok=True)
        self.was_cut = (folder / STARTED).exists()
        write_json(folder / STARTED, {"inputs": inputs, **self.shared})

    def complete(self, outputs: list[str], **facts: Any) -> None:
        """Writes the manifest. `outputs` are file names in the folder. `facts` are more JSON values.

        The content of every output is hashed. Raises `DiskError` if the folder was deleted since the unit was started:
        what it read may be gone as well.
        """
        if not (self.folder / STARTED).exists():
            raise DiskError(
                f"{self.folder}: the folder was deleted or replaced while it was written. Run the same command again."
            )
        digests, states = {}, {}
        for name in outputs:
            found = (self.folder / name).stat()
            digests[name] = digest_file(self.folder / name)
            states[name] = _state(found.st_size, found.st_mtime_ns)
        manifest = {
            "unit": place_of(self.folder),
            "inputs": self.inputs,
            **self.shared,
            "outputs": digests,
            FILES: states,
            "versions": versions(),
            "git_revision": git_revision(),
            "seconds": round(time.monotonic() - self.begun, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **facts,
        }
        write_json(self.folder / MANIFEST, {**manifest, DIGEST: _own_digest(manifest)})
        with writing(self.folder, "the unit's folder"):
            (self.folder / STARTED).unlink(missing_ok=True)
