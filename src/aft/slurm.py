"""Scripts for Slurm's sbatch: the job of a run, and the jobs of a table's runs."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .config.launch_file import asked_machines, asked_processes, on_cpu, read_launch_file
from .config.schema import Config, LaunchConfig
from .config.slurm import SlurmConfig
from .errors import ConfigError
from .run.folder import TRAINING_STAGES

_CORES_OF_A_GPU = 8


@dataclass(frozen=True)
class Machine:
    """What a job asks for: its nodes, and the GPUs and CPU cores of each."""

    nodes: int
    gpus: int
    cores: int


def machine_of(launch: LaunchConfig) -> Machine:
    """The machine that a `launch` section uses. A launch file that cannot be read counts as one without keys."""
    asked = {}
    if launch.config is not None:
        with contextlib.suppress(ConfigError):  # aft-train reports the error
            asked = read_launch_file(launch.config)
    slurm = launch.slurm or SlurmConfig()
    nodes = asked_machines(launch, asked)
    processes = -(-(asked_processes(launch, asked) or 1) // nodes)
    cpu = launch.device == "cpu" or on_cpu(asked)
    gpus = 0 if cpu else processes if slurm.gpus_per_node is None else slurm.gpus_per_node
    cores = slurm.cpus_per_task or (_CORES_OF_A_GPU * gpus if gpus else max(processes, launch.workers))
    return Machine(nodes, gpus, cores)


def run_script(config: Config, arguments: Sequence[str]) -> str:
    """The script of a run. `arguments`: those of aft-train."""
    slurm, machine = config.launch.slurm or SlurmConfig(), machine_of(config.launch)
    name = Path(config.output_dir).name
    lines: list[str] = []
    trainings = {stage: getattr(config, stage).training for stage in TRAINING_STAGES if stage in config.stages}
    unsaved = [
        stage
        for stage, training in trainings.items()
        if {**config.training, **training}.get("save_strategy", "no") == "no"
    ]
    if unsaved:
        lines.append(f"# {', '.join(unsaved)}: no training.save_strategy; a training that is cut begins again.")
    return script(name, slurm, machine, [*lines, f"run aft-train {shlex.join(arguments)}"])


def script(name: str, slurm: SlurmConfig, machine: Machine, lines: Sequence[str], *, jobs: int | None = None) -> str:
    """An sbatch script with `lines` as its work. In them, `run COMMAND` passes a signal on and queues the job again.

    `jobs`: the number of jobs of an array; None: no array.
    """
    values = {
        "job-name": "aft-" + re.sub(r"[^\w.-]+", "-", name),
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "nodes": machine.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": machine.gpus or None,
        "cpus-per-task": machine.cores,
        "mem": slurm.mem,
        "time": slurm.time,
        "array": None if jobs is None else f"0-{jobs - 1}",
        "output": slurm.log,
        "open-mode": "append",
        "signal": f"B:USR1@{slurm.seconds_to_end}",
        "requeue" if slurm.requeues else "no-requeue": True,
        **slurm.options,
    }
    given = [
        f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={value}"
        for key, value in values.items()
        if value is not None and value is not False
    ]
    again = _REQUEUE.format(requeues=slurm.requeues) if slurm.requeues else ""
    # before bash's strict mode, under which ~/.bashrc and the functions of conda and modules fail
    setup = ['cd "$SLURM_SUBMIT_DIR" || exit 1', *slurm.setup, "set -euo pipefail"]
    meeting = _RENDEZVOUS if machine.nodes > 1 else []
    return "\n".join(["#!/bin/bash", *given, *setup, _RUN.replace("@AGAIN@", again), *meeting, *lines])


_RENDEZVOUS = [
    "# aft-train starts a launcher on each node with srun. They meet at the first node.",
    'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)"',
    "MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
    'export MASTER_ADDR MASTER_PORT SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
]

_RUN = """
# Slurm sends USR1 to this shell before the time limit. The command then ends at its next safe point.
# TERM, as scancel sends it, ends the command for good, unless the limit was told before.
asked="" child=""
end() {
  [ "$asked" = USR1 ] || asked="$1"
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap 'end USR1' USR1
trap 'end TERM' TERM
run() {
  local code=143
  if [ -z "$asked" ]; then
    "$@" &
    child=$!
    # a signal ends `wait` before the command has ended
    wait "$child" || true
    while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
    code=0
    wait "$child" || code=$?
    child=""
  fi
@AGAIN@\
  [ "$code" -eq 0 ] || exit "$code"
}
"""

_REQUEUE = """\
  if [ "$asked" = USR1 ] && [ "$code" -gt 128 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
    echo "the job is queued again, to go on from here" >&2
    scontrol requeue "$SLURM_JOB_ID"
  fi
"""
