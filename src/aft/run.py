"""What a run folder remembers: manifests of finished work, digests of files, versions. No torch.

A unit of work (one stage, for one seed and one model) owns a folder. `started.json` holds its inputs while it runs,
`manifest.json` once it is complete: inputs, outputs with digests, versions, seconds, peak memory.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import __version__
from .errors import AftError
from .records import write_json

MANIFEST = "manifest.json"
STARTED = "started.json"
PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "numpy")

# Larger files, the weights of real models, are told apart by their size and the manifest beside them.
_HASH_UP_TO_BYTES = 64 * 2**20
# Written beside an artifact without being part of it.
_NOT_CONTENT = {MANIFEST, STARTED, "README.md", "trainer_state.json", "training_args.bin"}


def digest_file(path: Path) -> str:
    """sha256 of a file's content, whatever its size: of records and of what a user edits."""
    found = hashlib.sha256()
    with path.open("rb") as handle:
        while part := handle.read(2**20):
            found.update(part)
    return "sha256:" + found.hexdigest()


def digest_weights(path: Path) -> str:
    """sha256 of a checkpoint's file; above 64 MB its size alone."""
    size = path.stat().st_size
    return f"size:{size}" if size > _HASH_UP_TO_BYTES else digest_file(path)


def digest_value(value: Any) -> str:
    """sha256 of a JSON value."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that decide a result."""
    found = {"python": platform.python_version(), "aft": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str | None:
    """Commit of the checkout this package runs from, `-dirty` if it has changes; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def environment() -> dict[str, Any]:
    """What a reader needs to judge a run's figures, beside its config."""
    return {
        "versions": versions(),
        "git_revision": git_revision(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """`key: was X, is Y` for every leaf in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            where = f"{path}.{key}" if path else str(key)
            if key not in before:
                found.append(f"{where}: new, is {_short(now[key])}")
            elif key not in now:
                found.append(f"{where}: was {_short(before[key])}, is gone")
            else:
                found.extend(differences(before[key], now[key], where))
        return found
    return [] if before == now else [f"{path}: was {_short(before)}, is {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if text.startswith('"sha256:'):
        return text[8:16]
    return text if len(text) <= 60 else text[:57] + "..."


def move_aside(folder: Path, run_folder: Path) -> Path:
    """Move a unit's folder to `RUN/replaced/N/`, with the first N that is free: what a change outdates is not lost."""
    number = 1
    while (target := run_folder / "replaced" / str(number) / folder.relative_to(run_folder)).exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return target


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


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far; with a GPU in use, `peak_gpu_memory_bytes` says more."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
