"""Finds the browser that the tests of report.html and the pictures of the documents use."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chromium-headless-shell")
# a browser has no sandbox as root, and containers have little shared memory
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


def find_chromium() -> str | None:
    """The path of a Chromium: what $AFT_CHROMIUM names, else the first on the search path, else None."""
    return os.environ.get("AFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
