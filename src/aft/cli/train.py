"""aft-train: runs the stages of a configuration, from a base model to a report."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ..ending import end_with_parent
from ..errors import ConfigError, folder_gone, nearest
from ..shown import shown
from .main import guarded, parse

if TYPE_CHECKING:
    from ..config import Config
    from ..stages.plan import Plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
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
        "--dry-run", action="store_true", help="print the plan and the resolved configuration, and stop"
    )
    parser.add_argument(
        "--plan", action="store_true", help="forecast memory, tokens, hours and cost of each stage, and stop"
    )
    parser.add_argument(
        "--sbatch", action="store_true", help="print the script with which Slurm's sbatch runs this, and stop"
    )
    add_integrity(parser)
    # Only for processes that `conduct` starts: the places of units in the stage, or `-` to read them from stdin.
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def add_integrity(parser: argparse.ArgumentParser) -> None:
    """Adds `--verify` and `--repair`, the options of every command that runs stages."""
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hash every file of finished stages, also those of unchanged size and time",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="move damaged results to replaced/ and make them again; else they stop the run",
    )


def run_config(known: argparse.Namespace, overrides: Sequence[str], only: str | None = None) -> None:
    """Loads, checks and runs a configuration. `only`: the stage of a command that runs a single stage."""
    from ..config import idle_overrides, load_config
    from ..config.launch_file import is_launched
    from ..run.integrity import Integrity
    from ..stages.plan import Plan

    end_with_parent(launched=is_launched())
    stage = only or known.stage
    if known.worker is not None:  # the process that started this worker has checked the configuration
        _work(known, overrides, stage)
        return
    launched = is_launched()
    if getattr(known, "sbatch", False):  # an option of aft-train alone, as `plan` is
        _print_script(known, overrides, stage)
        return
    forecasts = getattr(known, "plan", False)
    planning = known.dry_run or forecasts
    if launched and stage is None and not planning:
        raise ConfigError("--stage: missing; a launcher's process does one stage, aft-train itself starts them all")
    lacking: list[str] = []
    unseen: list[str] = []
    config = load_config(known.config, overrides, functools.partial(_check, stage, planning, lacking, unseen))
    integrity = Integrity(verify=known.verify, remember=not planning)
    plan = Plan(config, sees_data=not unseen, integrity=integrity, repair=known.repair)
    config = plan.config  # with what the run's folder decides
    stages = [stage] if stage else plan.stages()

    from ..launch.conductor import conduct, open_folder
    from ..launch.push import push_models, tell_lacking_token
    from ..launch.units import run_here
    from ..progress import is_first_rank, say
    from ..run.lock import hold

    problems = _lacking_judge(plan, stages)
    if problems and not planning:
        raise ConfigError([f"{known.config}: {problem}" for problem in problems])
    lacking += problems
    for line in idle_overrides(known.config, overrides, config):
        print(shown(f"aft: note: {line}"), file=sys.stderr)
    if forecasts:
        from ..forecast.page import render
        from ..forecast.run import RunForecast

        print(shown(render(RunForecast(plan), stages)))
        return
    if known.dry_run:
        _print_dry_run(plan, stages, lacking, unseen)
        return
    if launched:
        with hold(plan.run, say) if is_first_rank() else contextlib.nullcontext():
            if is_first_rank():
                open_folder(plan)
            run_here(plan, stage)
        return
    with hold(plan.run, say):
        if "evaluate" in stages:
            tell_lacking_token(plan)
        conduct(plan, stages)
        if "evaluate" in stages:
            from .report import print_report, track_report

            print_report(plan.folder)
            track_report(plan)
            push_models(plan)


def _work(known: argparse.Namespace, overrides: Sequence[str], stage: Any) -> None:
    """Runs units as a process that a conductor started. The conductor has checked the configuration.

    `stage`: None with `--worker -`, which reads the units of every stage from stdin.
    """
    from ..config import load_config
    from ..launch.units import run_here, serve
    from ..progress import tell_waiting
    from ..stages.plan import Plan

    if not os.path.lexists(known.config):  # the run wrote it
        raise folder_gone(known.config)
    plan = Plan(load_config(known.config, overrides))
    if known.worker == "-":
        serve(plan)
    else:
        run_here(plan, stage, [int(place) for place in known.worker.split(",")])
        tell_waiting()


def _print_dry_run(plan: Plan, stages: Sequence[str], lacking: Sequence[str], unseen: Sequence[str]) -> None:
    """Prints the plan, what the machine lacks, what was not looked at, and the resolved configuration."""
    from ..config import to_yaml
    from ..config.plan import PlanConfig
    from ..forecast.page import brief
    from ..launch.conductor import show_plan
    from ..launch.push import describe_pushes
    from ..run.folder import TRAINING_STAGES
    from ..run.lock import tell_holder

    if holder := tell_holder(plan.run):
        print(shown(f"aft: note: {holder}"), file=sys.stderr)
    pushes = describe_pushes(plan) if "evaluate" in stages else []
    print(shown("\n".join([show_plan(plan, stages), *pushes])))
    with contextlib.suppress(ConfigError):  # --plan says what is missing
        if {*stages} & {*TRAINING_STAGES} and plan.config.plan != PlanConfig():
            print(shown(f"\n{brief(plan)}"))
    told = [*unseen[:-1], *(f"{line}; finished stages count as made of the same data" for line in unseen[-1:])]
    absent = "".join(f"# here: {problem}\n" for problem in [*told, *lacking])
    print(shown(f"\n{absent}{to_yaml(plan.config)}"), end="")
    if not unseen:
        plan.task.fingerprint()  # reads the data, so that a broken line is told


def _print_script(known: argparse.Namespace, overrides: Sequence[str], stage: str | None) -> None:
    """Prints the script for Slurm's sbatch. The machine that prints it needs neither the GPUs nor the data."""
    from ..config import load_config
    from ..slurm import run_script

    config = load_config(known.config, overrides, functools.partial(_check, stage, True, [], []))
    options = [f"--{name}" for name in ("verify", "repair") if getattr(known, name)]
    arguments = ["--config", known.config, *overrides, *(["--stage", stage] if stage else []), *options]
    print(shown(run_script(config, arguments)))


def _lacking_judge(plan: Plan, stages: Sequence[str]) -> list[str]:
    """Returns what the environment lacks for a judge, if one is needed. Finished label units need no judge."""
    from ..launch.preflight import find_lacking_judge
    from ..stages.plan import DONE

    problems = find_lacking_judge(plan.config.label.ratings) if "label" in stages else []
    asked = problems and any(
        unit.stage == "label" and status.state != DONE for unit, status in plan.forecast(list(stages))
    )
    return problems if asked else []


_OF_MODELS = ("model", "launch", "training", "pretrain", "vft", "align", "methods")


def _check(
    stage: str | None,
    planning: bool,
    lacking: list[str],
    unseen: list[str],
    config: Config,
    broken: Collection[str],
) -> list[str]:
    """Returns the problems outside the file.

    What the machine lacks is added to `lacking`, and why the data are not looked at to `unseen`. A dry run allows both.
    """
    from ..config.schema import num_rounds
    from ..launch.preflight import check_ratings, check_run, find_lacking, find_unseen
    from ..run.folder import STAGES, VALIDATE

    if planning and "data" not in broken:
        unseen += find_unseen(config.data)
    # labelling uses no model and no trainer, so their sections are not checked
    checked = {*broken, *_OF_MODELS} if stage == "label" else broken
    problems = check_run(config, checked, sees_data=not unseen)
    allowed = [*STAGES, *([VALIDATE] if "rounds" not in broken and num_rounds(config) > 1 else [])]
    if stage is not None and stage not in allowed:
        problems.append(f"--stage: got '{stage}', allowed: {', '.join(allowed)}.{nearest(stage, allowed)}")
    stages = [stage] if stage else () if "stages" in broken else config.stages
    if "label" in stages and "label" not in broken:
        problems += check_ratings(config.label.ratings, runs_code=not planning)
    if stage != "label" and not {"launch", "model"} & {*broken}:
        lacking += find_lacking(config)
    return problems if planning else problems + lacking


if __name__ == "__main__":
    main()
