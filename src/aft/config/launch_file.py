"""accelerate's launch configurations: found by path or by name, and what they decide about a result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from ..yaml_files import read_yaml

LAUNCH_FOLDER = Path("configs") / "accelerate"
# beside the package's source, for a run that is started from another folder
_OF_THE_CHECKOUT = Path(__file__).resolve().parents[3] / LAUNCH_FOLDER


def find_launch_file(name: str) -> Path:
    """The accelerate configuration that `launch.config` names: a path, or a file of configs/accelerate/."""
    folders = [LAUNCH_FOLDER, _OF_THE_CHECKOUT]
    for candidate in (Path(name), *(folder / file for folder in folders for file in (name, f"{name}.yaml"))):
        if candidate.is_file():
            return candidate
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(
        f"launch.config: no file '{name}' nor {LAUNCH_FOLDER / name}.yaml.{nearest(name, known)}"
        f" There: {', '.join(known) or 'none'}"
    )


def read_launch_file(name: str) -> dict[str, Any]:
    """The keys of the accelerate configuration that `launch.config` names."""
    return read_yaml(find_launch_file(name))


def on_cpu(asked: dict[str, Any]) -> bool:
    """Whether an accelerate configuration keeps its processes off the GPUs."""
    return bool(asked.get("use_cpu")) or asked.get("distributed_type") == "MULTI_CPU"


def count_processes(launch_config: str | None) -> int | None:
    """How many processes share a stage, by the launcher of this one or by the launch file; None if that is silent."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if is_launched() or launch_config is None:
        return 1
    asked = read_launch_file(launch_config)
    return int(asked["num_processes"]) if asked.get("num_processes") else None


def is_launched() -> bool:
    """Whether this process was started by `accelerate launch` or torchrun, so that it is itself one of a stage's."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
