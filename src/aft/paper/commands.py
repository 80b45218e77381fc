"""A run as a command line, and command lines as a script for a person or for Slurm."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, load_config
from ..config.ratings import JudgeRatings
from ..config.slurm import SlurmConfig
from ..endpoint import API_KEY, BASE_URL, DEFAULT_URL, MODEL
from ..errors import ConfigError
from ..run.folder import BASE, EVERY_SEED, STAGES, RunFolder
from ..slurm import Machine, machine_of, script
from ..yaml_files import yaml_line
from .runs import Run

CONFIGS = "configs/tables"


@dataclass(frozen=True)
class Command:
    """One call of aft-train: its arguments `config` and `overrides`, the run's `folder`, that of its base model."""

    config: str
    overrides: tuple[str, ...]
    folder: Path
    base: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """The arguments of aft-train."""
        return ["--config", self.config, *self.overrides]

    def load(self) -> Config:
        """The configuration that aft-train would run."""
        return load_config(self.config, self.overrides)


@dataclass(frozen=True)
class Copy:
    """Units of one run folder that another takes over: `seed-*/vft` and so on, those that are there."""

    source: Path
    target: Path
    units: tuple[str, ...]


def command(run: Run, folder: Path, seeds: Sequence[int], methods: Mapping[str, Any], given: Sequence[str]) -> Command:
    """The call that makes a run in `folder`. The overrides in `given` come last, so that they take precedence."""
    values: dict[str, Any] = {"output_dir": str(folder)}
    base = None if run.base is None else folder.parent / run.base.name
    if base is not None:
        values["model.name_or_path"] = str(RunFolder(base).checkpoint(BASE))
    if not run.config.endswith("-base.yaml"):
        values |= {"seeds": list(seeds), "methods": dict(methods)}
    return Command(f"{CONFIGS}/{run.config}", (*assign(values), *run.overrides, *given), folder, base)


def assign(values: Mapping[str, Any]) -> list[str]:
    """`key=value` overrides, the values in YAML on one line."""
    return [f"{key}={yaml_line(value)}" for key, value in values.items()]


def as_shell(step: Command | Copy, *, by_stage: bool = False) -> list[str]:
    """Lines of shell. `by_stage`: a call of accelerate's launcher for each stage, as for several machines."""
    if isinstance(step, Copy):
        return [
            f"for seed in {shlex.quote(str(step.source))}/{EVERY_SEED}; do for unit in {' '.join(step.units)}; do"
            f' mkdir -p {shlex.quote(str(step.target))}/"${{seed##*/}}";'
            f' cp -rn "$seed/$unit" {shlex.quote(str(step.target))}/"${{seed##*/}}"/ 2>/dev/null || true; done; done'
        ]
    words = shlex.join(step.arguments)
    if not by_stage:
        return [f"aft-train {words}"]
    config = step.load()
    launcher = "accelerate launch"
    if config.launch.config is not None:
        launcher += f" --config_file {_launch_path(config.launch.config)}"
        launcher += f" --num_processes {config.launch.num_processes}" if config.launch.num_processes else ""
    return [
        f"aft-label {words}" if stage == "label" else f"{launcher} -m aft.cli.train {words} --stage {stage}"
        for stage in STAGES
        if stage in config.stages
    ]


def _launch_path(name: str) -> str:
    return name if name.endswith(".yaml") else f"configs/accelerate/{name}.yaml"


def judge_note(steps: Sequence[Command | Copy]) -> list[str]:
    """A comment that names what a judge needs in the environment, where one rates."""
    asked = [step.load() for step in steps if isinstance(step, Command)]
    judges = [c.label.ratings for c in asked if "label" in c.stages and isinstance(c.label.ratings, JudgeRatings)]
    if not judges:
        return []
    model = "" if all(judge.model for judge in judges) else f", {MODEL} (or label.ratings.model=NAME)"
    return [f"# a judge rates: set {BASE_URL} (without it {DEFAULT_URL}), {API_KEY} where it needs a key{model}"]


def as_slurm(
    name: str, steps: Sequence[Command | Copy], lines: Sequence[Sequence[str]], last: Sequence[str] = ()
) -> str:
    """An sbatch script: an array of jobs where the runs are independent of each other, else one job, in order.

    `last`: lines for when every run is done; behind an array they are comments, for no job of it knows when that is.
    """
    commands = [step for step in steps if isinstance(step, Command)]
    launches = [step.load().launch for step in commands]
    machines = [machine_of(launch) for launch in launches]
    machine = Machine(*(max(getattr(found, key) for found in machines) for key in ("nodes", "gpus", "cores")))
    if machine.nodes > 1 and any("accelerate launch" in line for block in lines for line in block):
        raise ConfigError(
            "--accelerate: not with --slurm on several nodes, where aft-train starts the launchers itself"
        )
    slurm = next((launch.slurm for launch in launches if launch.slurm), SlurmConfig())
    independent = len(steps) > 1 and not any(isinstance(step, Copy) for step in steps)
    independent = independent and len({step.folder for step in commands}) == len(steps)
    independent = independent and not {step.base for step in commands} & {step.folder for step in commands}
    blocks = [
        [f"run {line}" if isinstance(step, Command) else line for line in block]
        for step, block in zip(steps, lines, strict=True)
    ]
    note = judge_note(steps)
    if not independent:
        return script(name, slurm, machine, [*note, *(line for block in blocks for line in block), *last])
    cases = [f"{number})\n  " + "\n  ".join([*block, ";;"]) for number, block in enumerate(blocks)]
    closing = ["# when every job is done:", *(f"# {line}" for line in last)] if last else []
    body = [*note, 'case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac", *closing]
    return script(name, slurm, machine, body, jobs=len(steps))
