"""aft-train: run the stages of a configuration, from a base model to a report."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, nearest
from .main import guarded, parse

if TYPE_CHECKING:
    from ..config import Config
    from ..stages.plan import Plan


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
    # for a process that `conduct` starts: the places of its units in the stage, or `-` to get them on standard input
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def run_config(known: argparse.Namespace, overrides: Sequence[str], only: str | None = None) -> None:
    """Load, check and run a configuration; `only` is the stage of a command that has one."""
    from ..config import idle_overrides, load_config, to_yaml
    from ..config.launch_file import is_launched
    from ..stages.plan import Plan

    stage = only or known.stage
    if known.worker is not None:  # the configuration is checked
        from ..launch.units import run_here, serve

        plan = Plan(load_config(known.config, overrides))
        if known.worker == "-":
            serve(plan)
        else:
            run_here(plan, stage, [int(place) for place in known.worker.split(",")])
        return
    launched = is_launched()
    if launched and stage is None and not known.dry_run:
        raise ConfigError("--stage: missing; a launcher's process does one stage, aft-train itself starts them all")
    lacking: list[str] = []
    config = load_config(known.config, overrides, functools.partial(_check, stage, known.dry_run, lacking))
    plan = Plan(config)
    stages = [stage] if stage else plan.stages()

    from ..launch.conductor import conduct, open_folder, show_plan
    from ..launch.units import run_here
    from ..progress import is_first_rank

    problems = _lacking_judge(plan, stages)
    if problems and not known.dry_run:
        raise ConfigError([f"{known.config}: {problem}" for problem in problems])
    lacking += problems
    for line in idle_overrides(known.config, overrides, config):
        print(f"aft: note: {line}", file=sys.stderr)
    if known.dry_run:
        print(to_yaml(config))
        print("".join(f"# here: {problem}\n" for problem in lacking), end="")
        print(show_plan(plan, stages))
        return
    if launched:
        if is_first_rank():
            open_folder(plan)
        run_here(plan, stage)
        return
    conduct(plan, stages)
    if "evaluate" in stages:
        from .report import print_report

        print_report(plan.folder)


def _lacking_judge(plan: Plan, stages: Sequence[str]) -> list[str]:
    """What the environment lacks for a judge, if it will be asked: a finished run needs none."""
    from ..launch.preflight import find_lacking_judge
    from ..stages.plan import DONE

    problems = find_lacking_judge(plan.config.label.ratings) if "label" in stages else []
    asked = problems and any(
        unit.stage == "label" and status.state != DONE for unit, status in plan.forecast(list(stages))
    )
    return problems if asked else []


_OF_MODELS = ("model", "launch", "training", "pretrain", "vft", "align", "methods")


def _check(stage: str | None, planning: bool, lacking: list[str], config: Config, broken: Collection[str]) -> list[str]:
    """Problems beyond the file itself. What the machine lacks goes to `lacking`, which is no problem for a plan."""
    from ..launch.preflight import check_ratings, check_run, find_lacking
    from ..run.folder import STAGES

    # labelling computes with neither model nor trainer, so nothing of theirs is looked at
    problems = check_run(config, {*broken, *_OF_MODELS} if stage == "label" else broken)
    if stage is not None and stage not in STAGES:
        problems.append(f"--stage: got '{stage}', allowed: {', '.join(STAGES)}.{nearest(stage, STAGES)}")
    stages = [stage] if stage else () if "stages" in broken else config.stages
    if "label" in stages and "label" not in broken:
        problems += check_ratings(config.label.ratings)
    if stage != "label" and "launch" not in broken:
        lacking += find_lacking(config)
    return problems if planning else problems + lacking


if __name__ == "__main__":
    main()
