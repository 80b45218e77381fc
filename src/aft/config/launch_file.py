"""Finds and reads accelerate's launch configurations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from ..yaml_files import Ambiguous, read_yaml
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


# Keys of an accelerate configuration that take no text.
_NUMBERS = ("num_processes", "num_machines", "machine_rank", "main_process_port")


def read_launch_file(name: str) -> dict[str, Any]:
    """Reads the keys of the accelerate configuration that `launch.config` names.

    accelerate reads YAML 1.1, so `no` is false here. Other ambiguous values raise `ConfigError`.
    """
    problems: list[str] = []
    found: dict[str, Any] = _as_accelerate(read_yaml(find_launch_file(name)), "", problems)
    if problems:
        raise ConfigError([f"launch.config: {name}: {problem}" for problem in problems])
    return found


def _as_accelerate(value: Any, key: str, problems: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_accelerate(item, f"{key}.{name}".strip("."), problems) for name, item in value.items()}
    if isinstance(value, Ambiguous):
        if not isinstance(value.old, bool):
            problems.append(f"{key}: {value.describe(may_be_text=key not in _NUMBERS)}")
        return value.old
    return value


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
    """Returns the processes of all machines: `launch.num_processes`, else one for each GPU of Slurm's nodes.

    Without either, the launch file's number, else None.
    """
    slurm = launch.slurm
    of_slurm = slurm.nodes * slurm.gpus_per_node if slurm and slurm.gpus_per_node and not on_cpu(asked) else None
    return launch.num_processes or of_slurm or int(asked.get("num_processes") or 0) or None


def asked_machines(launch: LaunchConfig, asked: dict[str, Any]) -> int:
    """Returns how many machines share a stage: Slurm's nodes, else the launch file's number."""
    return launch.slurm.nodes if launch.slurm else max(1, int(asked.get("num_machines") or 1))


def is_launched() -> bool:
    """True if `accelerate launch` or torchrun started this process, so that it runs only a single stage."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
