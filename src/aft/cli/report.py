"""aft-report: tables and pictures from a run folder; a run's task for the lm-evaluation-harness."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .main import guarded, parse


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    known, overrides = parse(
        "aft-report",
        "Write report.md, report.json, report.csv and pictures of a run from what it has measured.",
        arguments,
        add=_add,
    )
    from ..config import load_config

    config = load_config(known.config, overrides)
    if known.export_lm_eval is None:
        print_report(Path(config.output_dir), picture=not known.no_picture)
        return
    from ..export import export_lm_eval

    print("\n".join(f"wrote {path}" for path in export_lm_eval(config, Path(known.export_lm_eval))))


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-picture", action="store_true", help="leave the pictures out")
    parser.add_argument(
        "--export-lm-eval",
        metavar="DIR",
        help="write the run's questions as a task of the lm-evaluation-harness into DIR, and no report",
    )


def print_report(folder: Path, *, picture: bool = True) -> None:
    """Write the report of a run folder and print its table and where the files are."""
    import json

    from ..report import summary_table, write_report

    written = write_report(folder, picture=picture)
    print(summary_table(json.loads((folder / "report.json").read_text(encoding="utf-8"))))
    print("\n" + "\n".join(f"wrote {path}" for path in written))


if __name__ == "__main__":
    main()
