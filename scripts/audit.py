"""Asks pip-audit for known vulnerabilities in the versions of constraints.txt. Without its database, one line says so.

The exit code is 1 only if a vulnerability was found: a check must not fail for lack of a network.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


def main() -> int:
    """Prints what was found, or why nothing was looked up."""
    if importlib.util.find_spec("pip_audit") is None:
        return _unchecked("it is not installed")
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    try:
        ran = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=120)
        packages = json.loads(ran.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return _unchecked("its database cannot be reached")
    checked = [package for package in packages if "skip_reason" not in package]
    if not checked:
        return _unchecked("its database cannot be reached")
    found = [(package, problem) for package in checked for problem in package["vulns"]]
    for package, problem in found:
        fixed = ", ".join(problem["fix_versions"]) or "no version"
        print(f"pip-audit: {package['name']} {package['version']}: {problem['id']}, fixed in {fixed}")
    print(f"pip-audit: {len(checked)} of {len(packages)} packages checked, {len(found)} vulnerabilities")
    return int(bool(found))


def _unchecked(why: str) -> int:
    print(f"pip-audit: nothing was checked, {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
