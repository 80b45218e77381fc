"""Compares what a unit wrote with what its manifest says about it. Does not import torch.

Size and modification time are compared first. Content is hashed where one of them differs, or if asked. It is also
hashed in files that later units read, as the digests of these are part of the inputs of those units.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..json_files import MADE_AGAIN, cut_line
from .digest import Digests, is_large
from .folder import MANIFEST, Unit
from .manifest import FILES, has_kept_time, place_of, read_manifest

_LINES = ".jsonl"


@dataclass
class Integrity:
    """How files are compared with manifests, and the digests that were computed so far.

    `verify`: hash every file, also one with the recorded size and time. `remember`: give a file with other times, such
    as a copy, its recorded time back once its content was found equal. It is then not hashed at the next start.
    """

    verify: bool = False
    remember: bool = False
    digests: Digests = field(default_factory=Digests)

    def damages(self, unit: Unit, names: Collection[str] | None = None) -> list[str]:
        """Returns what is wrong with a finished unit: for each damaged file its name and how it is damaged.

        `names`: the only outputs to look at. Empty for a unit without a manifest.
        """
        try:
            manifest = read_manifest(unit.manifest)
        except DataError as error:
            return [describe_manifest(unit.manifest, error)]
        if manifest is None:
            return []
        if (place := manifest.get("unit", place_of(unit.folder))) != place_of(unit.folder):
            return [f"{MANIFEST} is that of {place}"]
        wanted = [name for name in manifest["outputs"] if names is None or name in names]
        is_read = names is None and unit.stage != "evaluate"
        checked = ((name, self._wrong(unit.folder, name, manifest, is_read)) for name in wanted)
        return [f"{name} {wrong}" for name, wrong in checked if wrong]

    def _wrong(self, folder: Path, name: str, manifest: dict[str, Any], is_read: bool) -> str | None:
        """Returns what is wrong with an output, or None if it is as the manifest says."""
        path, digest, state = folder / name, str(manifest["outputs"][name]), manifest.get(FILES, {}).get(name, {})
        if not path.is_file():
            return "is missing" if not path.exists() else "is no file"
        size = path.stat().st_size
        recorded = state.get("bytes", int(digest[5:]) if digest.startswith("size:") else None)
        if recorded is not None and size != recorded:
            return _describe_size(path, size, recorded)
        is_hashed = self.verify or (is_read and (path.suffix == _LINES or not is_large(path)))
        if not digest.startswith("sha256:") or (not is_hashed and has_kept_time(path, manifest, name)):
            return None
        if self.digests.of(path) != digest:
            return _describe_content(path)
        if self.remember and state and not has_kept_time(path, manifest, name):
            with contextlib.suppress(OSError):  # of another owner, or on a read-only disk: hashed again next time
                os.utime(path, ns=(path.stat().st_atime_ns, state["modified_ns"]))
        return None


def unverified(manifest: dict[str, Any]) -> list[str]:
    """Returns the outputs of which a manifest of an earlier version has only the size."""
    return [name for name, digest in manifest["outputs"].items() if not str(digest).startswith("sha256:")]


def describe_manifest(path: Path, error: DataError) -> str:
    """Returns what is wrong with a manifest that cannot be read, from the error of reading it."""
    return f"{path.name}: {str(error).removeprefix(f'{path}: ').removesuffix(f' {MADE_AGAIN}').rstrip('.')}"


def _describe_size(path: Path, size: int, recorded: int) -> str:
    if size == 0:
        return f"is empty, {recorded:,} bytes were written"
    if size > recorded:
        return f"is too long: {size:,} bytes, {recorded:,} were written"
    return f"is truncated: {size:,} of {recorded:,} bytes{_describe_end(path)}"


def _describe_content(path: Path) -> str:
    if path.stat().st_size == 0:
        return "is empty"
    return f"has other content than was written{_describe_end(path)}"


def _describe_end(path: Path) -> str:
    """Tells a cut last line from lines that are missing elsewhere."""
    if path.suffix != _LINES:
        return ""
    number = cut_line(path)
    return "; every line is whole" if number is None else f"; line {number:,}, its last, is cut"
