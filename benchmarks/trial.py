"""The trial of layouts: which planted mistakes it refuses, for each family of models and each precision.

The models are tiny and random, those of the tests; the mistakes are in tests/planted.py. Nothing is timed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bars import table
from timing import Settings

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

TITLE = "The trial before trust"
KERNELS = "bfloat16 kernels alone"


def measure(settings: Settings) -> list[dict[str, Any]]:
    """For each family and precision: the differences of the right layout, and the mistakes made and refused."""
    from planted import FAMILIES, PRECISIONS

    found = [_try_family(family, precision) for family in FAMILIES for precision in PRECISIONS]
    return found + [_try_family(family, PRECISIONS[1], low_only=True) for family in FAMILIES]


def _try_family(family: str, precision: str, *, low_only: bool = False) -> dict[str, Any]:
    from aft.scoring.layouts import try_layouts
    from aft.scoring.packing import SHARED
    from planted import ENTRIES, MISTAKES, make_model, planted

    right = make_model(family, precision)
    trial = try_layouts(right.model, ENTRIES, 0, rough=right.rough)
    refused = {}
    for mistake, families in MISTAKES.items():
        # positions are made before any precision is chosen
        if family not in families or (low_only and mistake == "positions off by one"):
            continue
        with planted(mistake, low_precision_only=low_only) as prepare:
            made = make_model(family, precision)
            refused[mistake] = try_layouts(made.model, ENTRIES, 0, rough=made.rough, prepare=prepare).layout != SHARED
    return {
        "family": family,
        "precision": KERNELS if low_only else precision,
        "right": {"layout": trial.layout, **trial.figures()},
        "refused": refused,
    }


def render(figures: list[dict[str, Any]]) -> str:
    """A row for each family and precision."""
    rows = []
    for entry in figures:
        right, refused = entry["right"], entry["refused"]
        own = "" if right["own"] is None else f"{right['own']:.3f} / {right['noise']:.3f}"
        missed = [mistake for mistake, is_refused in refused.items() if not is_refused]
        rows.append(
            (
                entry["family"],
                entry["precision"],
                right["layout"],
                f"{right['float32']:.1e}",
                own,
                f"{len(refused) - len(missed)} of {len(refused)}" + (f" (not: {', '.join(missed)})" if missed else ""),
            )
        )
    headings = ("family", "precision", "right layout taken", "float32", "own precision / explained", "mistakes refused")
    return table(headings, rows)
