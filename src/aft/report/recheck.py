"""Whether the report of a run folder is the one that its files give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import AftError
from ..json_files import read_json
from ..run.folder import RunFolder
from ..stats.estimate import to_json
from .build import build_report
from .csv_file import csv_report
from .page import markdown_page
from .read import read_report

# What a report takes from the measurements. The rest is about the machine, the folder's name and what is absent.
_NUMBERS = ("splits", "models", "pairs", "displacement")


def recheck_report(run_folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Compares a run's report with its sources.

    Returns the figures in report.json, the figures that the run's files give, and notes: what was not compared, and
    what `aft-report` would write otherwise. Figures are empty if they were not compared. Raises `AftError` if
    report.json cannot be read.
    """
    run = RunFolder(run_folder)
    path = run.report("json")
    written = read_json(path)
    if written is None:
        return {}, {}, [f"{path.name} is absent"]
    missing = [key for key in ("seeds", "manifests", "labelled", *_NUMBERS) if key not in written]
    if missing:
        return {}, {}, [f"{path.name} lacks '{missing[0]}': an earlier version wrote it"]
    notes: list[str] = []
    for ending, make in (("md", markdown_page), ("csv", csv_report)):
        text = run.report(ending)
        if not text.is_file():
            notes.append(f"{text.name} is absent")
        elif text.read_text(encoding="utf-8") != make(read_report(path)):
            notes.append(f"{text.name} is not what {path.name} gives now; aft-report writes it again")
    try:
        computed = json.loads(json.dumps(to_json(build_report(run_folder))))
    except AftError as error:
        return {}, {}, [*notes, f"no report can be made now: {str(error).splitlines()[0]}"]
    if (written["seeds"], written["manifests"]) != (computed["seeds"], computed["manifests"]):
        notes.append(f"{path.name} is not of the run's seeds and results now; aft-report writes it again")
        return {}, {}, notes
    if written["labelled"] != computed["labelled"]:
        notes.append(f"{path.name} is not of the labels that the run has now; aft-report writes it again")
    numbers = (*_NUMBERS, *(["rounds"] if computed["rounds"] else []))
    return {key: written.get(key) for key in numbers}, {key: computed[key] for key in numbers}, notes
