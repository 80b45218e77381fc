"""What a user waits for beside the work: the command's help, the losses' import, and all of a small run but its units.

The small run is that of the tests, every stage in seconds. Its work is the sum of the seconds in its manifests. The
rest is start-up: imports, processes, the plan, the report. It is compared with one import of the training stage, which
takes longer on a slow or busy machine too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bars import Bar, table
from timing import Settings, Summary, summary

TITLE = "Start-up"

# as the installed command does, which need not be installed to be measured
_HELP = "import sys; from aft.cli.train import main; sys.argv = ['aft-train', '--help']; sys.exit(main())"
_IMPORT = """
import time
begun = time.perf_counter()
import torch
middle = time.perf_counter()
import aft.losses
print(middle - begun, time.perf_counter() - middle)
"""
_TRAINING = "import aft.stages.train"
_SMALL_RUN = Path(__file__).resolve().parents[1] / "tests" / "data" / "tiny.yaml"
_HEAVY = ("torch", "transformers", "datasets", "accelerate", "peft", "numpy", "pandas", "matplotlib")
_MODULES = f"import sys, aft.cli.train; print(*[name for name in {_HEAVY} if name in sys.modules])"


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds, each time in a fresh process; the first of each, which fills the file cache, is left out."""
    helps, torches, losses = [], [], []
    for _ in range(settings.repeats + 3):
        helps.append(_seconds("-c", _HELP))
        torch_seconds, losses_seconds = _python("-c", _IMPORT).split()
        torches.append(float(torch_seconds))
        losses.append(float(losses_seconds))
    return {
        "help_seconds": helps[1:],
        "torch_seconds": torches[1:],
        "losses_seconds": losses[1:],
        "help_imports": _python("-c", _MODULES).split(),
        **_small_runs(settings),
    }


def _small_runs(settings: Settings) -> dict[str, Any]:
    """Seconds of whole runs, of the work in them, and of imports right before and after each."""
    _seconds("-c", _TRAINING)  # fills the file cache
    wholes, works, imports = [], [], []
    for _ in range(settings.repeats):
        with tempfile.TemporaryDirectory() as folder:
            before = _seconds("-c", _TRAINING)
            wholes.append(_seconds("-m", "aft.cli.train", "--config", str(_SMALL_RUN), f"output_dir={folder}/run"))
            imports.append((before + _seconds("-c", _TRAINING)) / 2)
            manifests = Path(folder).rglob("manifest.json")
            works.append(sum(json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in manifests))
    return {"run_seconds": wholes, "work_seconds": works, "training_seconds": imports}


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    _python(*arguments)
    return time.perf_counter() - begun


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary."""
    return [
        Bar("`aft-train --help`", "≤", 1, _found(figures, "help_seconds"), unit=" s"),
        Bar("`import aft.losses` beyond `import torch`", "≤", 0.3, _found(figures, "losses_seconds"), unit=" s"),
        Bar("a run of every stage, beside its work", "≤", 4, _imports(figures), unit=" imports of training"),
    ]


def _imports(figures: dict[str, Any] | None) -> Summary | None:
    """What a small run takes beside its work, in imports of the training stage."""
    if not figures or "run_seconds" not in figures:
        return None
    columns = (figures[key] for key in ("run_seconds", "work_seconds", "training_seconds"))
    return summary([(whole - work) / one for whole, work, one in zip(*columns, strict=True)])


def _found(figures: dict[str, Any] | None, key: str) -> Summary | None:
    return summary(figures[key]) if figures else None


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = [
        [label, summary(figures[key]).text("{:.3f}", " s")]
        for label, key in (
            ("`aft-train --help`, the whole process", "help_seconds"),
            ("`import torch`", "torch_seconds"),
            ("`import aft.losses` after it", "losses_seconds"),
            ("`import aft.stages.train`, the whole process", "training_seconds"),
            ("a run of every stage (`tests/data/tiny.yaml`), the whole command", "run_seconds"),
            ("the work in it: the seconds of its units", "work_seconds"),
        )
        if key in figures
    ]
    beside = _imports(figures)
    if beside is not None:
        rows.append(["the rest of it, in imports of the training stage", beside.text("{:.1f}", "×")])
    heavy = ", ".join(figures["help_imports"]) or "none"
    text = f"Median (range) of {len(figures['help_seconds'])} fresh processes. Heavy modules behind the help: {heavy}."
    return text + "\n\n" + table(["", "time"], rows)
