"""Checkpoints of a training: a list of parts with digests, written last, and the search for one to resume from.

A checkpoint that was written by hand or by an earlier version has no list. It is judged by its parts: all must be
there and load. No part is unpickled with more than `weights_only` allows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.trainer_pt_utils import safe_globals

from ..errors import DataError, first_line, writing
from ..json_files import read_json, sync_file, sync_folder, write_json

PARTS = "parts.json"
_STATE = "trainer_state.json"
# In a checkpoint from before its first part is written until it is sealed.
_UNSEALED = "unsealed"
# A large part is digested in blocks, so that several threads share it.
_BLOCK_BYTES = 64 * 2**20
_READ_BYTES = 2**20
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")


@dataclasses.dataclass(frozen=True)
class Found:
    """The checkpoint to resume from (None: there is none), and why newer ones were passed over, by their paths."""

    path: Path | None
    damaged: dict[Path, str]


def last_checkpoint(folder: Path, *, processes: int = 1, also: Sequence[str] = (), with_best: bool = False) -> Found:
    """The newest whole `checkpoint-N` in a folder.

    `processes`: how many share the training. `also`: names of further parts that the training needs. `with_best`: the
    best checkpoint that it names must be whole too. Checkpoints of `save_only_model` cannot be resumed and are passed
    over without a word. Raises `DataError` if a whole one could resume but for its best one.
    """
    damaged: dict[Path, str] = {}
    for _, path in sorted(_numbered(folder), reverse=True):
        if _is_model_only(path):
            continue
        problem = what_is_wrong(path, processes=processes, also=also)
        if problem is None:
            if with_best:
                _check_best(path, processes, also)
            return Found(path, damaged)
        damaged[path] = problem
    return Found(None, damaged)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged `checkpoint-N`, so that nothing counts or overwrites it, and return its new path.

    One that was cut while it was saved is deleted, and None returned: nobody can have made anything else of it.
    """
    if (path / _UNSEALED).exists() and not (path / PARTS).exists():
        with writing(path, "what is left of the checkpoint"):
            shutil.rmtree(path)
        return None
    number = 1
    target = path.with_name(f"damaged-{path.name}")
    while target.exists():
        number += 1
        target = path.with_name(f"damaged-{path.name}-{number}")
    with writing(path, "the checkpoint's new name"):
        path.rename(target)
    return target


def begin(path: Path) -> None:
    """Mark a checkpoint as one that is being saved, until `seal`. Call it in one process before any writes."""
    with writing(path, "the checkpoint"):
        path.mkdir(parents=True, exist_ok=True)
        (path / _UNSEALED).touch()


def seal(path: Path, processes: int) -> None:
    """Flush a checkpoint's files to the disk, and then write the list of its parts with sizes and digests.

    Call it in one process when all have written. Reads the whole checkpoint, with several threads. Raises `DiskError`.
    """
    files = _files(path)
    with writing(path, "the checkpoint"):
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(sync_file, files.values()))
        for folder in {path, path.parent, *(file.parent for file in files.values())}:
            sync_folder(folder)
        parts = {name: {"bytes": file.stat().st_size, "digest": _digest(file)} for name, file in files.items()}
    write_json(path / PARTS, {"processes": processes, "parts": parts})
    with writing(path, "the checkpoint"):
        (path / _UNSEALED).unlink(missing_ok=True)


def delete_oldest(folder: Path, limit: int | None, keep: Sequence[Path]) -> None:
    """Delete the checkpoints with the lowest numbers until `limit` are left; None: no limit. Never deletes `keep`."""
    paths = [path for _, path in sorted(_numbered(folder))]
    kept = {path.absolute() for path in keep}
    surplus = len(paths) - limit if limit else 0
    for path in [path for path in paths if path.absolute() not in kept][: max(0, surplus)]:
        shutil.rmtree(path, ignore_errors=True)


def what_is_wrong(path: Path, *, processes: int = 1, also: Sequence[str] = ()) -> str | None:
    """Why a checkpoint cannot be resumed from; None: it is whole."""
    try:
        listed = read_json(path / PARTS)
    except DataError:
        return f"{PARTS} cannot be read"
    problem = _by_parts(path, processes, also) if listed is None else _by_list(path, listed)
    return problem or _state_problem(path)


def how_divided(path: Path) -> tuple[str, int | None]:
    """What divided the states of a whole checkpoint, and among how many processes; None: not known.

    "DeepSpeed", "FSDP" or "neither".
    """
    listed = read_json(path / PARTS) or {}
    if (path / "latest").exists() or any(path.glob("global_step*")):
        return "DeepSpeed", listed.get("processes") or len(list(path.glob("global_step*/*optim_states.pt"))) or None
    return "FSDP" if any(path.glob("pytorch_model_fsdp*")) else "neither", listed.get("processes")


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    numbers = ((path.name.removeprefix("checkpoint-"), path) for path in folder.glob("checkpoint-*") if path.is_dir())
    return [(int(number), path) for number, path in numbers if number.isascii() and number.isdigit()]


def _files(path: Path) -> dict[str, Path]:
    """The files of a checkpoint by their path in it, but for the list of its parts and the mark before it."""
    found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    for name in (PARTS, _UNSEALED):
        found.pop(name, None)
    return found


def _is_model_only(path: Path) -> bool:
    """True for a checkpoint of `save_only_model`: it has weights and state, and neither optimizer nor random state."""
    names = [*_files(path), *(file.name for file in path.iterdir())]
    training = ("optimizer", "scheduler", "rng_state", "global_step", "latest")
    return (path / _STATE).exists() and not any(name.startswith(training) for name in names) and not _lists_more(path)


def _lists_more(path: Path) -> bool:
    try:
        parts = (read_json(path / PARTS) or {}).get("parts")
    except DataError:
        return True
    return isinstance(parts, dict) and any(name.startswith(("optimizer", "rng_state")) for name in parts)


def _state_problem(path: Path) -> str | None:
    try:
        state = read_json(path / _STATE)
    except DataError:
        return f"{_STATE} cannot be read"
    if state is None:
        return f"{_STATE} is missing"
    step = state.get("global_step")
    return None if f"checkpoint-{step}" == path.name else f"{_STATE} is of step {step}"


def _check_best(path: Path, processes: int, also: Sequence[str]) -> None:
    """Raise `DataError` if the best checkpoint that a whole one names is missing or damaged.

    Going on without it would end in another model, and starting again would throw the whole one away.
    """
    best = (read_json(path / _STATE) or {}).get("best_model_checkpoint")
    if not isinstance(best, str) or Path(best).name == path.name:
        return
    kept = path.with_name(Path(best).name)
    problem = what_is_wrong(kept, processes=processes, also=also) if kept.is_dir() else "it is missing"
    if problem is not None:
        raise DataError(
            f"{path}: the training could go on from here, but not without the best checkpoint until then, {kept.name}:"
            f" {problem}. Put {kept.name} back. Or delete {path.parent}, or set training.load_best_model_at_end: false:"
            " either starts the training again."
        )


# ---- with a list of parts ----


def _by_list(path: Path, listed: dict[str, Any]) -> str | None:
    parts, files = listed.get("parts"), _files(path)
    if not isinstance(parts, dict) or _STATE not in parts:
        return f"{PARTS} lists no parts"
    for name in parts:
        if name not in files:
            return f"{name} is missing"
    for name, expected in parts.items():
        size = files[name].stat().st_size
        wanted = expected.get("bytes") if isinstance(expected, dict) else None
        if size != wanted:
            return f"{name} has {size:,} bytes; {wanted:,} were written" if wanted else f"{PARTS} is damaged"
    for name, expected in parts.items():
        try:
            changed = _digest(files[name]) != expected.get("digest")
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if changed:
            return f"{name} is not what was written"
    return None


def _digest(path: Path) -> str:
    """The sha256 of a file; of a file above 64 MB, the sha256 of the sha256 of its blocks."""
    starts = range(0, path.stat().st_size, _BLOCK_BYTES)
    if len(starts) < 2:
        return "sha256:" + _digest_block(path, 0).hex()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashlib computes without the interpreter's lock
        blocks = pool.map(lambda start: _digest_block(path, start), starts)
        return f"sha256 of {_BLOCK_BYTES >> 20} MB blocks:" + hashlib.sha256(b"".join(blocks)).hexdigest()


def _digest_block(path: Path, start: int) -> bytes:
    found, left = hashlib.sha256(), _BLOCK_BYTES
    with path.open("rb") as handle:
        handle.seek(start)
        while left and (part := handle.read(min(left, _READ_BYTES))):
            found.update(part)
            left -= len(part)
    return found.digest()


# ---- without one ----


def _by_parts(path: Path, processes: int, also: Sequence[str]) -> str | None:
    names, problem = _needed(path, processes)
    if problem is not None:
        return problem
    for name in [*names, *also]:
        if not (path / name).is_file():
            return f"{name} is missing"
    optional = [name for name in ("scaler.pt", "scheduler.pt") if (path / name).is_file()]
    for name in dict.fromkeys([*names, *also, *optional]):
        if (problem := _load_problem(path / name)) is not None:
            return f"{name} cannot be read: {problem}"
    return None


def _needed(path: Path, processes: int) -> tuple[list[str], str | None]:
    """The files that a resume reads, and a problem of their list if there is one."""
    states, problem = _random_states(path, processes)
    if problem is not None:
        return [], problem
    if (path / "latest").exists() or any(path.glob("global_step*")):
        names, problem = _of_deepspeed(path, len(states))
        return [*states, *names], problem
    names = [*states, "scheduler.pt"]
    if (path / "pytorch_model_fsdp.bin").exists() or (path / "optimizer.bin").exists():
        return [*names, "pytorch_model_fsdp.bin", "optimizer.bin"], None
    if any(path.glob("pytorch_model_fsdp_*")):
        for kind in ("pytorch_model_fsdp", "optimizer"):
            shards = sorted(path.glob(f"{kind}_[0-9]*/*.distcp"))
            names += [f"{kind}_0/.metadata", *(shard.relative_to(path).as_posix() for shard in shards)]
            if not shards:
                return names, f"{kind}_0/__0_0.distcp is missing"
        return names, None
    weights, problem = _weights(path)
    return [*names, "optimizer.pt", *weights], problem


def _random_states(path: Path, processes: int) -> tuple[list[str], str | None]:
    """The files of the random states. Several processes have a file each, numbered from 0."""
    numbered = {file.name for file in path.glob("rng_state_*.pth")}
    if not numbered and (processes == 1 or (path / "rng_state.pth").is_file()):
        return ["rng_state.pth"], None
    names = [f"rng_state_{rank}.pth" for rank in range(max(2, processes, len(numbered)))]
    missing = [name for name in names if name not in numbered]
    return names, f"{missing[0]} is missing" if missing else None


def _weights(path: Path) -> tuple[list[str], str | None]:
    for name in _WEIGHTS:
        if (path / name).exists():
            return [name], None
    for name in _INDEXES:
        try:
            index = read_json(path / name)
        except DataError:
            return [], f"{name} cannot be read"
        if index is not None:
            shards = index.get("weight_map")
            if not isinstance(shards, dict) or not shards:
                return [], f"{name} lists no weights"
            return sorted(set(map(str, shards.values()))), None
    adapter = (path / "adapter_config.json").exists()
    return [], f"{'adapter_model' if adapter else 'model'}.safetensors is missing"


def _of_deepspeed(path: Path, processes: int) -> tuple[list[str], str | None]:
    """DeepSpeed's files: the weights, and an optimizer's state of every process."""
    try:
        tag = (path / "latest").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return [], "latest is missing"
    folder = path / tag
    if not tag or folder.parent != path or not folder.is_dir():
        return [], f"{tag or 'global_step'} is missing"
    weights, optimizer = sorted(folder.glob("*model_states.pt")), sorted(folder.glob("*optim_states.pt"))
    if not weights or len(optimizer) < processes:
        kind = "optim" if weights else "model"
        return [], f"{tag}/*{kind}_states.pt: {len(optimizer if weights else weights)} are there"
    return [file.relative_to(path).as_posix() for file in (*weights, *optimizer)], None


def _load_problem(path: Path) -> str | None:
    """Why a file cannot be loaded; None: it can. Large files are mapped, and not read into memory."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                return None if opened.keys() else "it has no weights"
        if path.suffix in (".pt", ".pth", ".bin"):
            with zipfile.ZipFile(path) as archive:  # torch writes a checksum for each of its records
                if (record := archive.testzip()) is not None:
                    return f"its record {record} is damaged"
            if not path.name.endswith("_states.pt"):  # DeepSpeed's hold more than `weights_only` allows
                with safe_globals():
                    torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        elif path.stat().st_size == 0:
            return "it is empty"
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        return first_line(error)
    except pickle.UnpicklingError:
        return "it holds more than tensors and plain values"
    return None
