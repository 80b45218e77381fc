"""Each loss without and with its constraint on the embedded task, in the shape of the paper's Table 4.

First a grid: every method at every learning rate, by greedy accuracy on validation questions of seeds of its own. Then
each at its best rate on the test questions of other seeds, and beside it all at one rate. Both runs go on where they
were cut, and are up to date the second time. Writes table4.md and table4.json into the output folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aft.cells import markdown, number
from aft.config import load_config
from aft.grid import accuracies, at_rate, at_rates, best_rates
from aft.paper_tables import table_4
from aft.records import write_json, write_text
from aft.run import environment

CONFIG = "configs/arithmetic/losses-demo.yaml"
RATES = [3e-5, 1e-4, 3e-4, 1e-3]
ROWS = {
    "VFT": ["vft"],
    "RRHF": ["rrhf", "rrhf-dc"],
    "PRO": ["pro", "pro-dc"],
    "DPO": ["dpo", "dpo-dc"],
    "AFT": ["aft", "aft-bc"],
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/losses-demo", help="folder of both runs and of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the table")
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[100, 101], help="of the grid")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates of the grid")
    parser.add_argument("--same-rate", type=float, default=1e-3, help="of the table in which all have the same")
    known, overrides = parser.parse_known_args()
    begun = time.monotonic()
    output, methods = Path(known.output), load_config(CONFIG).methods

    grid = ["sample.pool_questions=0", "evaluate.split=validation", "evaluate.assessment=null"]
    tuned = _run(output / "grid", known.tuning_seeds, at_rates(methods, known.rates), [*grid, *overrides])
    best = best_rates(tuned, list(methods), known.rates)
    chosen = {method: at_rate(changes, best[method]) for method, changes in methods.items()}
    same = at_rates(methods, [known.same_rate])
    final = _run(output / "final", known.seeds, {**chosen, **same}, overrides)

    names = dict(zip(methods, same, strict=True))
    page = "\n\n".join(
        [
            "Each method at its own best learning rate:",
            table_4(final, ROWS),
            f"All at {known.same_rate:g}:",
            table_4(final, {row: [names.get(name, name) for name in models] for row, models in ROWS.items()}),
            _grid_table(tuned, list(methods), known.rates, best),
        ]
    )
    write_text(output / "table4.md", page + "\n")
    results = {"learning_rates": best, "environment": environment(), "seconds": round(time.monotonic() - begun)}
    write_json(output / "table4.json", results)
    print(f"{page}\n\nwrote {output / 'table4.md'}, {output / 'table4.json'} in {results['seconds'] / 60:.1f} minutes")


def _run(folder: Path, seeds: Sequence[int], methods: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The report of `CONFIG` with these methods."""
    keys = {"output_dir": str(folder), "seeds": list(seeds), "methods": dict(methods)}
    given = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9)}"
        for key, value in keys.items()
    ]
    command = [sys.executable, "-m", "aft.cli.train", "--config", CONFIG, *given, *overrides]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def _grid_table(
    report: Mapping[str, Any], methods: Sequence[str], rates: Sequence[float], best: Mapping[str, float]
) -> str:
    """Validation accuracy over learning rates, the best of each method in bold."""
    rows = []
    for method, by_rate in accuracies(report, methods, rates).items():
        cells = [number(by_rate.get(rate), 100, 1) for rate in rates]
        rows.append(
            [method, *(f"**{c}**" if rate == best[method] else c for rate, c in zip(rates, cells, strict=True))]
        )
    return "Validation accuracy (%) by learning rate:\n\n" + markdown(
        ["method", *(f"{rate:g}" for rate in rates)], rows
    )


if __name__ == "__main__":
    main()
