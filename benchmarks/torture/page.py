"""docs/reliability.json and the measured part of docs/reliability.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Any

from aft.json_files import read_json, write_json, write_text
from aft.run.environment import git_revision, versions

from .verdict import LOST, SKIPPED, SURVIVED, Result

JSON, TEXT = "reliability.json", "reliability.md"
SCHEMA = 1
_MARKED = re.compile(r"(<!-- torture: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def store(folder: Path, area: str, title: str, results: dict[str, Result], seconds: float, seed: int) -> None:
    """Put one area's results into the JSON file; the other areas stay as they are."""
    content = read_json(folder / JSON) or {"schema": SCHEMA, "areas": {}}
    content["areas"][area] = {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "seconds": round(seconds),
        "seed": seed,
        "machine": {"cores": os.cpu_count(), "system": platform.system()},
        "versions": versions(),
        "revision": git_revision(),
        "tried": sum(one.verdict != SKIPPED for one in results.values()),
        SURVIVED: sum(one.verdict == SURVIVED for one in results.values()),
        LOST: {name: one.detail for name, one in results.items() if one.verdict == LOST},
        SKIPPED: dict(Counter(one.detail for one in results.values() if one.verdict == SKIPPED)),
    }
    write_json(folder / JSON, content)


def store_figures(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Put the figures of the soak or of the fuzzers into the JSON file."""
    content = read_json(folder / JSON) or {"schema": SCHEMA, "areas": {}}
    content[name] = {"date": datetime.date.today().isoformat(), "revision": git_revision(), **figures}
    write_json(folder / JSON, content)


def write(folder: Path) -> None:
    """Write what stands between the page's marks again; the prose around them is kept."""
    path = folder / TEXT
    if path.exists():
        write_text(path, fill(path.read_text(encoding="utf-8"), read_json(folder / JSON) or {}))


def fill(text: str, content: dict[str, Any]) -> str:
    """`text` with every marked part written from the JSON file."""

    def written(match: re.Match[str]) -> str:
        return f"{match[1]}{_SECTIONS[match[2]](content)}\n{match[3]}"

    return _MARKED.sub(written, text)


def _areas(content: dict[str, Any]) -> str:
    areas = content.get("areas", {})
    if not areas:
        return "Not tried."
    lines = ["| area | tried | survived | lost | not tried here | date |", "| --- | ---: | ---: | ---: | --- | --- |"]
    for area in areas.values():
        skipped = ", ".join(f"{count}: {why}" for why, count in area[SKIPPED].items()) or "–"
        counts = f"{area['tried']:,} | {area[SURVIVED]:,} | {len(area[LOST]):,}"
        lines.append(f"| {area['title']} | {counts} | {skipped} | {area['date']} |")
    tried, survived = (sum(area[key] for area in areas.values()) for key in ("tried", SURVIVED))
    lost = sum(len(area[LOST]) for area in areas.values())
    return "\n".join([*lines, f"| **all** | {tried:,} | {survived:,} | {lost:,} | | |"])


def _fuzz(content: dict[str, Any]) -> str:
    fuzzed = content.get("fuzz")
    if not fuzzed:
        return "Not run."
    lines = [
        "| surface | inputs | seconds | edges and features reached | findings |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in fuzzed["targets"].items():
        lines.append(f"| {name} | {one['inputs']:,} | {one['seconds']:,} | {one['features']:,} | {one['findings']} |")
    return "\n".join([*lines, "", f"`make fuzz`, {fuzzed['date']}, Python {fuzzed['python']}."])


def _soak(content: dict[str, Any]) -> str:
    soak = content.get("soak")
    if not soak:
        return "Not run."
    lines = ["| | first | last | growth |", "| --- | ---: | ---: | ---: |"]
    for name, one in soak["parts"].items():
        lines.append(f"| {name} | {one['first']:.1f} MiB | {one['last']:.1f} MiB | {one['growth']:+.2f} MiB |")
    return "\n".join([*lines, "", f"`python benchmarks/soak.py`, {soak['date']}, {soak['seconds']:,} s."])


_SECTIONS = {"areas": _areas, "fuzz": _fuzz, "soak": _soak}
