"""aft-sample: samples the completions of a run's training questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .main import guarded, parse
from .train import add_integrity, run_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    known, overrides = parse("aft-sample", "Sample the completions of a run's training questions.", arguments, add=_add)
    known.worker = None
    run_config(known, overrides, only="sample")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the resolved configuration, and stop"
    )
    add_integrity(parser)


if __name__ == "__main__":
    main()
