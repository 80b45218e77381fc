"""What is in a run's folder, without what differs between two equal runs: times, memory, logs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# of the moment or the machine: no result
_TIMES = {
    "command",  # of report.json: in the first run aft-train's own, later that of the repair
    "git_revision",  # the page of an area, written in between, is a change of the tree
    # of counts.json: how often a judge was asked, not what it said
    *("requests", "retries", "failures", "prompt_tokens", "completion_tokens", "replies_without_usage"),
    *("seconds", "peak_memory_bytes", "date", "manifests"),
    "tokens",  # of data.json: only a command that finds a base model counts them
    *("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"),
    "train_loss",  # the mean since the process began: a line for people, no state
    *("eval_runtime", "eval_samples_per_second", "eval_steps_per_second"),
}
_NO_RESULT = {"environment.json", "report.md", "training_args.bin"}
_NO_FOLDERS = {"logs", "replaced", "judge-cache"}


def contents(folder: Path, *under: str) -> dict[str, str]:
    """Returns the digest of every result in a run's folder, by its path. `under`: only in these folders of the run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        parts = inside.parts
        if not path.is_file() or path.name in _NO_RESULT or path.name.startswith(".") or path.suffix == ".lock":
            continue
        if _NO_FOLDERS & set(parts) or any(part.startswith(("checkpoint-", "damaged-checkpoint-")) for part in parts):
            continue
        if under and not any(inside.is_relative_to(name) for name in under):
            continue
        found[inside.as_posix()] = digest(path)
    return found


def digest(path: Path) -> str:
    """The digest of one file. JSON counts without the times in it."""
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            value = json.loads(data)
            data = json.dumps(_timeless(value["inputs"] if path.name == "manifest.json" else value)).encode()
        except (ValueError, KeyError, TypeError):
            pass  # a damaged file is compared as it is
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(expected: dict[str, str], folder: Path, *under: str) -> list[str]:
    """Returns how the results in `folder` differ from the expected ones, and which temporary files are left."""
    found = contents(folder, *under)
    named = [
        f"{path}: {'other content' if path in found else 'missing'}"
        for path in expected
        if found.get(path) != expected[path]
    ]
    named += [f"{path}: not in the uncut run" for path in found if path not in expected]
    named += [
        f"left behind: {path.relative_to(folder)}" for path in folder.rglob("*.tmp") if "replaced" not in path.parts
    ]
    return [f"{len(named)} differences, {named[0]}"] if named else []
