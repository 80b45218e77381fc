"""aft-train: run the stages of a configuration, from a base model to a report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .main import guarded, parse


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    known, overrides = parse(
        "aft-train",
        "Run the stages that a YAML file lists, in order: pretrain, vft, sample, label, align, evaluate."
        " What is up to date is skipped, what was cut is resumed.",
        arguments,
        add=_add,
    )
    run_config(known, overrides)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stage", metavar="NAME", help="run this stage only")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the plan, and stop"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def run_config(known: argparse.Namespace, overrides: Sequence[str], only: str | None = None) -> None:
    """Load, check and run a configuration; `only` is the stage of a command that has one."""
    from ..config import load_config, to_yaml
    from ..config.schema import STAGES
    from ..errors import ConfigError, nearest
    from ..pipeline import Plan

    config = load_config(known.config, overrides)
    stage = only or known.stage
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"--stage: got '{stage}', allowed: {', '.join(STAGES)}.{nearest(stage, STAGES)}")
    plan = Plan(config)
    stages = [stage] if stage else plan.stages()

    from ..launch import check_run, conduct, run_here, show_plan

    # under `accelerate launch` this process is one of the stage's own
    launched = known.worker is not None or "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and stage is not None:
        run_here(plan, stage, known.worker)
        return
    lacking = check_run(config, planning=known.dry_run)
    if known.dry_run:
        print(to_yaml(config))
        print("".join(f"# here: {problem}\n" for problem in lacking), end="")
        print(show_plan(plan, stages))
        return
    conduct(plan, stages)
    if "evaluate" in stages:
        from .report import print_report

        print_report(plan.folder)


if __name__ == "__main__":
    main()
