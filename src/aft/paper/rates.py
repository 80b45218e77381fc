"""The page of a grid of learning rates: every method's validation accuracy by rate, and the manifests behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..json_files import read_json
from ..markdown import markdown
from ..report.spread import number
from ..run.folder import RunFolder
from .grid import accuracies, at_rates, best_rates
from .run_results import evaluated_at


def grid_page(folder: Path, methods: Sequence[str], rates: Sequence[float]) -> tuple[str, dict[str, Any]] | None:
    """As Markdown, the best of each method in bold, and as JSON; None where no grid was run, or of a single rate."""
    run = RunFolder(folder)
    report = read_json(run.report("json"))
    if report is None or len(rates) < 2:
        return None
    best, measured, rows = best_rates(report, methods, rates), accuracies(report, methods, rates), []
    for method, by_rate in measured.items():
        cells = [number(by_rate.get(rate), 100, 1) for rate in rates]
        rows.append(
            [method, *(f"**{c}**" if rate == best[method] else c for rate, c in zip(rates, cells, strict=True))]
        )
    # reports written before they named manifests have none
    names, found = at_rates(dict.fromkeys(methods), rates), report.get("manifests", {})
    manifests = {
        (folder / path).as_posix(): digest
        for path, digest in found.items()
        if (unit := run.unit_of(folder / path)) and unit.name in names
    }
    seeds = ", ".join(map(str, report["seeds"]))
    title = f"Validation accuracy (%) by learning rate, {folder}; seeds {seeds}; {evaluated_at(manifests)}:"
    results = {
        "grid": folder.as_posix(),
        "seeds": report["seeds"],
        "accuracy": measured,
        "learning_rates": best,
        "manifests": manifests,
    }
    return f"{title}\n\n{markdown(['method', *(f'{rate:g}' for rate in rates)], rows)}", results
