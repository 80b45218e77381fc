"""accelerate's launch configurations: found by path or by name, and what they decide about a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from .load import read_yaml

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
