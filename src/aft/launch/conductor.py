"""The conductor: runs the stages of a plan in order, each in processes of its own."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..config import Config, to_yaml
from ..config.launch_file import find_launch_file, read_launch_file
from ..errors import ConfigError
from ..json_files import write_json, write_text
from ..progress import say
from ..run.environment import environment
from ..run.folder import TRAINING_STAGES, Unit
from ..stages.plan import DONE, RESUME, Plan, Status
from .worker import StageFailed, Worker, num_threads, watch


def show_plan(plan: Plan, stages: Sequence[str]) -> str:
    """A line for every unit of `stages`: what would happen to it, and why."""
    lines = []
    for unit, status in plan.forecast(list(stages)):
        state = "skip" if status.state == DONE else status.state
        lines.append(f"{state:<7}{unit!s:<40}{unit.folder}")
        lines += [f"       because {reason}" for reason in status.reasons]
    return "\n".join(lines)


def open_folder(plan: Plan) -> None:
    """Write what every run folder has: the resolved configuration, and what it runs on."""
    try:
        write_text(plan.run.config, to_yaml(plan.config))
        write_json(plan.run.environment, environment())
        _tell_data(plan)
    except OSError as error:
        raise ConfigError(f"output_dir: {plan.folder} cannot be written: {error.strerror}") from None


def conduct(plan: Plan, stages: Sequence[str]) -> None:
    """Run `stages` in order. A termination or a hang-up ends their processes too, as an interrupt does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # what `nohup` has set to be ignored stays so
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    open_folder(plan)
    for stage in stages:
        plan.check_reads(stage)
        units = plan.units(stage)
        states = {index: plan.status(unit) for index, unit in enumerate(units)}
        waiting = [index for index, status in states.items() if status.state != DONE]
        if len(waiting) < len(units):
            say(f"{stage}: {len(units) - len(waiting)} of {len(units)} up to date, skipped")
        for index in waiting:
            _explain(units[index], states[index])
        if waiting:
            started = time.monotonic()
            _run_stage(plan, stage, waiting)
            say(f"{stage}: {len(waiting)} done in {time.monotonic() - started:.0f} s")


def _tell_data(plan: Plan) -> None:
    """Say how many questions there are and what was done to them, and keep it in data.json."""
    found = plan.describe_data()
    write_json(plan.run.data, found)
    say("questions: " + ", ".join(f"{count:,} {split}" for split, count in found["questions"].items()))
    for note in found["notes"]:
        say(f"data: {note}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _explain(unit: Unit, status: Status) -> None:
    if status.reasons and status.state == RESUME:
        say(f"{unit}: resumes, it {'; '.join(status.reasons)}")
    elif status.reasons:
        shown = "; ".join(status.reasons[:3]) + (f"; and {len(status.reasons) - 3} more" if status.reasons[3:] else "")
        say(f"{unit}: runs again, because {shown}")


def _run_stage(plan: Plan, stage: str, waiting: Sequence[int]) -> None:
    """See the `waiting` units, by their place among the stage's, through: in one crew, or each in a crew of its own."""
    workers = min(plan.config.launch.workers, len(waiting))
    shares = [waiting[index::workers] for index in range(workers)]
    crews = [dict(enumerate(shares))]
    if stage in TRAINING_STAGES and _keeps_models(plan):
        crews = [{number: [place]} for number, place in enumerate(waiting)]
    for crew in crews:
        _run_crew(plan, stage, crew)


def _keeps_models(plan: Plan) -> bool:
    """Whether a process holds what it has trained in memory to its end, as it does under DeepSpeed's ZeRO-3."""
    launch = plan.config.launch.config
    return launch is not None and read_launch_file(launch).get("distributed_type") == "DEEPSPEED"


def _run_crew(plan: Plan, stage: str, shares: dict[int, Sequence[int]]) -> None:
    """A worker for each share of the units, side by side; the keys name their log files."""
    logs = plan.run.logs
    logs.mkdir(parents=True, exist_ok=True)
    crew: list[Worker] = []
    try:
        for number, share in shares.items():
            command = _command(plan, stage, share, num_threads(len(shares)))
            crew.append(Worker(command, logs / f"{stage}-{number}.log", num_threads(len(shares))))
        watch(crew, stage)
        # now, before the others are stopped: they would look as if they had failed
        failed = next((worker for worker in crew if worker.process.poll()), None)
    finally:
        for worker in crew:
            worker.stop()
    if failed is not None:
        raise StageFailed(stage, failed.exit_code, failed.message(), failed.log)


def _command(plan: Plan, stage: str, units: Sequence[int], num_threads: str) -> list[str]:
    stage_command = ["-m", "aft.cli.train", "--config", str(plan.run.config), "--stage", stage]
    stage_command += ["--worker", ",".join(map(str, units))]
    if stage == "label":
        return [sys.executable, *stage_command]  # no model, nothing to launch
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if plan.config.launch.config is not None:
        return [*launcher, "--config_file", str(find_launch_file(plan.config.launch.config)), *stage_command]
    launcher += ["--config_file", str(_one_process(plan)), "--num_cpu_threads_per_process", num_threads]
    return [*launcher, *stage_command]


def _one_process(plan: Plan) -> Path:
    """A launch file for one process. Given none, accelerate would take what the user once chose as a default."""
    path = plan.run.logs / "one-process.yaml"
    cpu = not _use_gpu(plan.config)
    keys = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "num_machines": 1, "num_processes": 1}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**keys, "machine_rank": 0}.items())
    write_text(path, f'{text}mixed_precision: "no"\nuse_cpu: {json.dumps(cpu)}\n')
    return path


def _use_gpu(config: Config) -> bool:
    from ..device import use_cpu

    return not use_cpu(config.launch.device)
