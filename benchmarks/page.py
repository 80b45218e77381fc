"""docs/performance.json and the measured parts of docs/performance.md.

The JSON file holds one entry per part and device: figures, date, command, machine, versions. The page is prose with
marks, `<!-- measured: NAME -->` … `<!-- end -->`; what stands between them is written from the JSON file alone.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from aft.json_files import read_json, write_json, write_text
from aft.run.environment import git_revision, versions
from bars import Bar, bar_table
from timing import Settings

# in the order in which they run: the short ones first, and those that need a checkpoint, or vLLM, last
PARTS = (
    "startup",
    "trial",
    "logps",
    "step",
    "memory",
    "trl_dpo",
    "scaling",
    "sampling",
    "real",
    "engines",
    "engine_speed",
)
# those that say most first, as a check of bounded time may end before the last
GPU_PARTS = ("rivals", "step", "serving", "trl_dpo", "memory", "scaling")
WITH_BARS = ("real", "step", "trl_dpo", "memory", "sampling", "scaling", "startup")  # in the order of the summary
JSON, TEXT = "performance.json", "performance.md"
SCHEMA = 1

_MARKED = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load_part(name: str) -> ModuleType:
    """The module that measures a part and writes its table."""
    return importlib.import_module("sampling_rows" if name == "sampling" else name)


def store(folder: Path, name: str, settings: Settings, figures: Any, seconds: float) -> None:
    """Put one part's figures into the JSON file; the other parts stay as they are."""
    path = folder / JSON
    content = read_json(path) or {"schema": SCHEMA, "parts": {}}
    content["parts"][entry_name(name, settings.on_gpu)] = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/run.py --only {name}"
        + (f" --repeats {settings.repeats}" if settings.repeats != Settings().repeats else "")
        + (" --device cuda" if settings.on_gpu else ""),
        "seconds": round(seconds, 1),
        "machine": machine(settings),
        "versions": {**versions(), **_version_of("trl")},
        "revision": git_revision(),
        "figures": figures,
    }
    write_json(path, content)


def entry_name(name: str, on_gpu: bool) -> str:
    """A part's key in the JSON file and in the marks."""
    return f"{name}-gpu" if on_gpu else name


def machine(settings: Settings) -> dict[str, Any]:
    """What the figures hold for."""
    import torch

    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "system": platform.system(),
    }
    if settings.on_gpu:
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version_of(package: str) -> dict[str, str]:
    if importlib.util.find_spec(package) is None:
        return {}
    return {package: importlib.metadata.version(package)}


# ---- the page ----


def write(folder: Path) -> None:
    """Write what stands between the page's marks again; the prose around them is kept."""
    path = folder / TEXT
    write_text(path, fill(path.read_text(encoding="utf-8"), (read_json(folder / JSON) or {"parts": {}})["parts"]))


def fill(text: str, parts: dict[str, Any]) -> str:
    """`text` with every marked part written from the entries of the JSON file."""

    def written(match: re.Match[str]) -> str:
        return f"{match[1]}{section(match[2], parts)}\n{match[3]}"

    return _MARKED.sub(written, text)


def section(name: str, parts: dict[str, Any]) -> str:
    """What stands behind one mark."""
    if name == "summary":
        return bar_table(all_bars(parts))
    if name not in parts:
        return "Not measured."
    entry = parts[name]
    return f"{_origin(entry)}\n\n{load_part(name.removesuffix('-gpu')).render(entry['figures'])}"


def all_bars(parts: dict[str, Any]) -> list[Bar]:
    """Every figure that has a bar, measured or not."""

    def figures(name: str) -> Any:
        return parts[name]["figures"] if name in parts else None

    bars = [bar for name in WITH_BARS for bar in load_part(name).bars(figures(name))]
    return bars + [bar for name in ("rivals", "step") for bar in load_part(name).gpu_bars(figures(f"{name}-gpu"))]


def _origin(entry: dict[str, Any]) -> str:
    where, found = entry["machine"], entry["versions"]
    device = f"{where['gpu']}, " if "gpu" in where else ""
    trl = f", trl {found['trl']}" if "trl" in found else ""
    packages = f"torch {found['torch']}, transformers {found['transformers']}{trl}, Python {found['python']}"
    return (
        f"`{entry['command']}`, {entry['date']}, {entry['seconds']:.0f} s: {device}{where['cpu']},"
        f" {where['threads']} threads of {where['cores']} cores; {packages}."
    )
