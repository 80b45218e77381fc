"""The environment of a run: versions, commit, processor, memory."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from .. import __version__
from ..shown import without_secrets

PACKAGES = ("torch", "transformers", "accelerate", "peft", "datasets", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of Python, of this package and of the packages that influence results."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    # reading a package's metadata takes milliseconds, and every unit of a plan asks for all of them
    return {"python": platform.python_version(), "aft": __version__, **package_versions(*PACKAGES)}


@functools.cache
def package_versions(*packages: str) -> dict[str, str]:
    """Returns the versions of installed packages, and `not installed` for others."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str | None:
    """Returns the commit of the checkout that this package runs from, or None outside a checkout.

    `-dirty` is appended if the checkout has changes.
    """
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


def command() -> list[str]:
    """Returns the command that this process was started with, without secrets.

    A command of this package that was started with `python -m` has its own name.
    """
    program = Path(sys.argv[0])
    is_ours = program.resolve().parent == Path(__file__).resolve().parents[1] / "cli"
    name = f"aft-{program.stem}" if is_ours else program.name
    return [without_secrets(argument) for argument in (name, *sys.argv[1:])]


def environment() -> dict[str, Any]:
    """Returns what a reader needs to judge a run's figures, in addition to its configuration."""
    return {
        "versions": versions(),
        "git_revision": git_revision(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "command": command(),
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


def reset_peak_memory() -> None:
    """Resets `peak_memory_bytes`, so that a process can measure each of its units. Has an effect only on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Returns the largest resident size of this process since the last reset, in bytes.

    Only Linux supports a reset. Elsewhere it is the peak since the start of the process. `peak_gpu_memory_bytes`
    measures a GPU's memory.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
