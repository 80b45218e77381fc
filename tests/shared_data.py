"""Where the public data sets lie that some tests read: `AFT_SHARED`, else the folder `shared` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_path(*parts: str) -> Path:
    """A file or folder below the shared folder; skips the test, with the reason, where it is absent."""
    root = Path(os.environ.get("AFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent (AFT_SHARED names the folder with the public data sets)")
    return path
