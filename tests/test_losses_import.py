"""The losses and the log-probs need torch and nothing else: a user may take them without the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
import torch
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
heavy = {{"transformers", "datasets", "accelerate", "peft", "yaml", "tokenizers", "matplotlib"}}
print(seconds, *sorted(heavy & {{name.split(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize("module", ["aft.losses", "aft.logps"])
def test_import_is_light_and_quick(module):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, text=True, check=True
    )
    seconds, *heavy = ran.stdout.split()
    assert heavy == []
    assert float(seconds) < 0.3
