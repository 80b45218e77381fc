"""Each loss without and with its constraint on the embedded task, in the shape of the paper's Table 4.

First a grid: every method at every learning rate, by greedy accuracy on validation questions of seeds of its own. Then
each at its best rate on the test questions of other seeds, and beside it all at one rate. Both runs go on where they
were cut, and are up to date the second time. Writes table4.md and table4.json into the output folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aft.config import load_config
from aft.json_files import read_json, write_json, write_text
from aft.paper.commands import assign
from aft.paper.grid import at_rate, at_rates, best_rates
from aft.paper.page import make_page
from aft.paper.rates import grid_page
from aft.paper.render import as_json, as_markdown
from aft.paper.run_results import at_suffix, read_run
from aft.paper.runner import train
from aft.paper.specs import SPECS
from aft.run.environment import environment
from aft.run.folder import RunFolder

CONFIG = "configs/arithmetic/losses-demo.yaml"
RATES = [3e-5, 1e-4, 3e-4, 1e-3]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/losses-demo", help="folder of both runs and of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the table")
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[100, 101], help="of the grid")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates of the grid")
    parser.add_argument("--same-rate", type=float, default=1e-3, help="of the table in which all have the same")
    overrides = [text for text in sys.argv[1:] if "=" in text and not text.startswith("-")]
    known = parser.parse_args([text for text in sys.argv[1:] if text not in overrides])
    begun = time.monotonic()
    output, methods = Path(known.output), load_config(CONFIG).methods

    grid = ["sample.pool_questions=0", "evaluate.split=validation", "evaluate.assessment=null"]
    tuned = _run(output / "grid", known.tuning_seeds, at_rates(methods, known.rates), [*grid, *overrides])
    best = best_rates(tuned, list(methods), known.rates)
    chosen = {method: at_rate(changes, best[method]) for method, changes in methods.items()}
    _run(output / "final", known.seeds, {**chosen, **at_rates(methods, [known.same_rate])}, overrides)

    final = read_run(output / "final")
    at_best = make_page(SPECS["4"], [final])
    grid_text, grid_results = grid_page(output / "grid", list(methods), known.rates) or ("", {})
    at_same = make_page(SPECS["4"], [at_suffix(final, f"-lr{known.same_rate:g}")])
    text = "\n\n".join(
        [
            "Each method at its own best learning rate:",
            as_markdown(at_best),
            f"All at {known.same_rate:g}:",
            as_markdown(at_same),
            grid_text,
        ]
    )
    write_text(output / "table4.md", text + "\n")
    results = {
        "at_best_rates": as_json(at_best),
        "at_same_rate": as_json(at_same),
        "grid": grid_results,
        "environment": environment(),
    }
    write_json(output / "table4.json", results)
    minutes = (time.monotonic() - begun) / 60
    print(f"{text}\n\nwrote {output / 'table4.md'}, {output / 'table4.json'} in {minutes:.1f} minutes")


def _run(folder: Path, seeds: Sequence[int], methods: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The report of `CONFIG` with these methods."""
    keys = {"output_dir": str(folder), "seeds": list(seeds), "methods": dict(methods)}
    train(["--config", CONFIG, *assign(keys), *overrides])
    return read_json(RunFolder(folder).report("json")) or {}


if __name__ == "__main__":
    main()
