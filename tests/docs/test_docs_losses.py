"""docs/losses.md has a row for every loss, with the arguments of its function."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from aft.losses import LOSSES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "losses.md"
ROW = re.compile(r"^\| `(\w+)\(([^)]*)\)` \| `(\w+)` \|", re.MULTILINE)


def test_every_loss_has_its_row():
    rows = {name: (function, taken) for function, taken, name in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    for name, function in LOSSES.items():
        taken = [key for key in inspect.signature(function).parameters if key in ("scores", "ref_scores", "ratings")]
        assert rows.pop(name, "no row") == (function.__name__, ", ".join(taken).replace("ref", "*, ref"))
    assert not rows
