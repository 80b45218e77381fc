"""aft-report: tables and a picture from a run folder."""

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
        "Write report.md, report.json and report.png of a run from what it has measured.",
        arguments,
        add=_add,
    )
    from ..config import load_config

    print_report(Path(load_config(known.config, overrides).output_dir), picture=not known.no_picture)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-picture", action="store_true", help="leave report.png out")


def print_report(folder: Path, *, picture: bool = True) -> None:
    """Write the report of a run folder and print its table and where the files are."""
    import json

    from ..report import summary_table, write_report

    written = write_report(folder, picture=picture)
    print(summary_table(json.loads((folder / "report.json").read_text(encoding="utf-8"))))
    print("\n" + "\n".join(f"wrote {path}" for path in written))


if __name__ == "__main__":
    main()
