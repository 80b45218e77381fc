"""aft: Alignment Fine-Tuning for LLM reasoning (arXiv 2309.02144).

From Python, in the order in which they are needed:

    aft.run("run.yaml", ...)      runs a configuration, as the command aft-train does, and returns its `Run`
    aft.open_run("runs/mine")     opens the folder of a run that was made before
    aft.Run                       what a run holds: .report, .table(), .scores(), .groups(), .completions(), ...
    aft.AftError                  the errors that you can mend; ConfigError and DataError are among them
    aft.losses                    the losses and their constraints, for a training loop of your own (torch alone)
    aft.logps                     log-probabilities of response tokens without whole logits (torch alone)
    aft.scoring                   scores of responses under a model, each question computed once
    aft.tasks                     data sets as questions, and what their answers mean
    aft.records                   the types in a run's files: Question, Completion, Candidate, Group
    aft.convert                   groups as other tools' preference data

The commands are aft-init, aft-train, aft-watch, aft-report, aft-verify, aft-sample, aft-label, aft-evaluate and
aft-convert; each explains itself with --help. Importing this package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import Report, Run, open_run, run
    from .errors import AftError, ConfigError, DataError

__all__ = ["AftError", "ConfigError", "DataError", "Report", "Run", "open_run", "run"]

_OF_API = ("Report", "Run", "open_run")
_OF_ERRORS = ("AftError", "ConfigError", "DataError")
_PACKAGES = ("run", "losses", "logps", "scoring", "tasks", "records", "convert")


def __getattr__(name: str) -> Any:
    """The names above, imported at their first use."""
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)  # `aft.run` can be called: see its __init__
    if name in _OF_API or name in _OF_ERRORS:
        return getattr(importlib.import_module(".api" if name in _OF_API else ".errors", __name__), name)
    raise AttributeError(f"module 'aft' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
