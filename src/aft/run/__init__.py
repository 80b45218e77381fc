"""A run's folder: its layout, manifests, digests and versions.

The package can be called: `aft.run("run.yaml")` is `aft.api.run("run.yaml")`, which runs a configuration.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from .digest import changed_keys, digest_file, digest_value, digest_weights
from .environment import PACKAGES, environment, git_revision, peak_memory_bytes, versions
from .folder import MANIFEST, STAGES, STARTED, RunFolder, Unit
from .manifest import UnitLog, digest_checkpoint, digest_folder, is_cut, read_manifest

__all__ = [
    "MANIFEST",
    "PACKAGES",
    "STAGES",
    "STARTED",
    "RunFolder",
    "Unit",
    "UnitLog",
    "changed_keys",
    "digest_checkpoint",
    "digest_file",
    "digest_folder",
    "digest_value",
    "digest_weights",
    "environment",
    "git_revision",
    "is_cut",
    "peak_memory_bytes",
    "read_manifest",
    "versions",
]


class _Callable(ModuleType):
    """Gives `aft.run` both of its meanings: this package, and the function that runs a configuration."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        # by name, because this package is below all that a run needs
        return importlib.import_module("aft.api").run(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
