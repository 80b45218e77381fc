"""A wheel, built as pip builds it and used from an empty folder. `make wheel-check` also installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from limits import HUNG_AFTER

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_wheel_has_what_the_quickstart_needs(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=HUNG_AFTER)
    [wheel] = tmp_path.glob("aft-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    for arguments in (["--config", "quickstart"], ["--config", "gsm8k/llama2-7b-aft-bcl", "launch.config=zero3"]):
        ran = subprocess.run(
            [sys.executable, "-W", "error::FutureWarning", "-m", "aft.cli.train", *arguments, "--dry-run"],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
            timeout=HUNG_AFTER,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("run    vft seed 0 ")
    assert list((tmp_path / "empty").iterdir()) == []
