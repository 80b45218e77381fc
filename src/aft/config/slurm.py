"""The section `launch.slurm`: the job in which Slurm runs this configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

# Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes[:seconds]
_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}")
_WORD = re.compile(r"[^\s\"'\\\\]+")
_SET_BY_KEYS = {
    "job-name": "output_dir",
    "output": "launch.slurm.log",
    "open-mode": "nothing: a log goes on after a requeue",
    "signal": "launch.slurm.seconds_to_end",
    "requeue": "launch.slurm.requeues",
    "no-requeue": "launch.slurm.requeues",
    "ntasks-per-node": "nothing: a launcher on each node starts its processes",
}


@dataclass(frozen=True)
class SlurmConfig:
    """The job in which Slurm runs this configuration. `aft-train --config FILE --sbatch` prints its script."""

    partition: str | None = None
    """Partition; null: the cluster's default."""
    account: str | None = None
    """Account that pays; null: your default."""
    qos: str | None = None
    """Quality of service; null: your default."""
    nodes: int = field(default=1, metadata={"ge": 1, "le": 10_000})
    """Machines that share each stage. More than one needs `launch.config`."""
    gpus_per_node: int | None = field(default=None, metadata={"ge": 0, "le": 64})
    """GPUs of each node, and processes on it; null: the processes of `launch`, divided by `nodes`."""
    cpus_per_task: int | None = field(default=None, metadata={"ge": 1, "le": 4096})
    """CPU cores of each node; null: 8 for each GPU, and one for each process without GPUs."""
    mem: str | None = None
    """Memory of each node, as 200G; null: the cluster's default."""
    time: str = "24:00:00"
    """Limit, as Slurm writes it: minutes, hours:minutes:seconds or days-hours. In quotes."""
    seconds_to_end: int = field(default=300, metadata={"ge": 60, "le": 65535})
    """Seconds before the limit at which the run is asked to end at its next safe point."""
    requeues: int = field(default=50, metadata={"ge": 0, "le": 10_000})
    """Times that a job which was asked to end is queued again, to go on where it was; 0: never."""
    log: str = "%x-%j.log"
    """File of the job's output. %x: name of the job; %j: its number. Its folder must exist."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the run, such as `module load cuda` and `source .venv/bin/activate`. One that fails does not
    end the job, as in a shell that you type into; `set -e` as the first one changes that."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch by their long names without dashes, such as `constraint: h100`; true: without value."""

    def problems(self) -> list[str]:
        """The values that could not stand in an #SBATCH line as they are."""
        found = []
        texts = {name: getattr(self, name) for name in ("partition", "account", "qos", "mem", "log")}
        texts = {name: value for name, value in texts.items() if value is not None}
        for name, value in {**texts, **{f"options.{name}": value for name, value in self.options.items()}}.items():
            if not isinstance(value, (str, int)) or (isinstance(value, str) and not _WORD.fullmatch(value)):
                found.append(f"{name}: expected a word without spaces, quotes and backslashes, got {value!r}")
        if not _TIME.fullmatch(self.time):
            found.append(f"time: got {self.time!r}, allowed: '30' (minutes), '24:00:00', '2-12'")
        keys = {entry.name.replace("_", "-"): f"launch.slurm.{entry.name}" for entry in fields(SlurmConfig)}
        for name in self.options:
            if not re.fullmatch(r"[a-z][a-z-]+", name):
                found.append(f"options: got {name!r}, expected a long name of sbatch without dashes before it")
            elif name in {**keys, **_SET_BY_KEYS}:
                found.append(f"options.{name}: not to be set here; set {({**keys, **_SET_BY_KEYS})[name]}")
        if any("\n" in line for line in self.setup):
            found.append("setup: an entry has several lines; give each line an entry of its own")
        return found
