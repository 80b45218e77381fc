"""Finds and reads accelerate's launch configurations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from ..yaml_files import read_yaml
from .packaged import LAUNCH_FILES
from .schema import LaunchConfig

LAUNCH_FOLDER = Path("configs") / "accelerate"


def find_launch_file(name: str) -> Path:
    """Finds the accelerate configuration that `launch.config` names: a path, or the name of a file.

    A name is looked up in configs/accelerate/ of the working folder, then among the files that come with aft.

    Raises `ConfigError` if there is none.
    """
    folders = [LAUNCH_FOLDER, LAUNCH_FILES]
    for candidate in (Path(name), *(folder / file for folder in folders for file in (name, f"{name}.yaml"))):
        if candidate.is_file():
            return candidate
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(
        f"launch.config: no file '{name}' nor {LAUNCH_FOLDER / name}.yaml.{nearest(name, known)}"
        f" There: {', '.join(known) or 'none'}"
    )


def read_launch_file(name: str) -> dict[str, Any]:
    """Reads the keys of the accelerate configuration that `launch.config` names."""
    return read_yaml(find_launch_file(name))


def on_cpu(asked: dict[str, Any]) -> bool:
    """True if an accelerate configuration uses no GPU."""
    return bool(asked.get("use_cpu")) or asked.get("distributed_type") == "MULTI_CPU"


def count_processes(launch: LaunchConfig) -> int | None:
    """Returns how many processes share a stage, or None if neither the section nor its launch file says.

    In a launched process, `WORLD_SIZE` decides.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if is_launched() or launch.config is None:
        return 1
    return asked_processes(launch, read_launch_file(launch.config))


def asked_processes(launch: LaunchConfig, asked: dict[str, Any]) -> int | None:
    """Returns the processes of all machines: `launch.num_processes`, else the launch file's number, else None."""
    return launch.num_processes or int(asked.get("num_processes") or 0) or None


def is_launched() -> bool:
    """True if `accelerate launch` or torchrun started this process, so that it runs only a single stage."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
