"""What a user waits for before anything happens: the command's help, and the losses' import."""

from __future__ import annotations

import subprocess
import sys
import time
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
_HEAVY = ("torch", "transformers", "datasets", "accelerate", "peft", "numpy", "pandas", "matplotlib")
_MODULES = f"import sys, aft.cli.train; print(*[name for name in {_HEAVY} if name in sys.modules])"


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds, each time in a fresh process; the first of each, which fills the file cache, is left out."""
    helps, torches, losses = [], [], []
    for _ in range(settings.repeats + 3):
        begun = time.perf_counter()
        _python(_HELP)
        helps.append(time.perf_counter() - begun)
        torch_seconds, losses_seconds = _python(_IMPORT).split()
        torches.append(float(torch_seconds))
        losses.append(float(losses_seconds))
    return {
        "help_seconds": helps[1:],
        "torch_seconds": torches[1:],
        "losses_seconds": losses[1:],
        "help_imports": _python(_MODULES).split(),
    }


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary."""
    return [
        Bar("`aft-train --help`", "≤", 1, _found(figures, "help_seconds"), unit=" s"),
        Bar("`import aft.losses` beyond `import torch`", "≤", 0.3, _found(figures, "losses_seconds"), unit=" s"),
    ]


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
        )
    ]
    heavy = ", ".join(figures["help_imports"]) or "none"
    text = f"Median (range) of {len(figures['help_seconds'])} fresh processes. Heavy modules behind the help: {heavy}."
    return text + "\n\n" + table(["", "time"], rows)
