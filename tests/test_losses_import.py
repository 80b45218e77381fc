"""The losses and the log-probs need torch and nothing else: a user may take them without the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from limits import HUNG_AFTER

PROGRAM = """
import sys
import torch
before = set(sys.modules)
import {module}
print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names))
"""


@pytest.mark.parametrize("module", ["aft.losses", "aft.logps"])
def test_import_brings_nothing_beyond_torch(module):
    program = PROGRAM.format(module=module)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=HUNG_AFTER
    )
    imported = ran.stdout.split()
    assert module in imported
    # torch imports some parts of its own late
    assert [name for name in imported if not name.startswith(("torch.", module)) and name != "aft"] == []
