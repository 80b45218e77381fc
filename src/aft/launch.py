"""The conductor: runs the stages of a plan in order, each in processes of its own."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from . import run
from .config import Config, to_yaml
from .config.launch_file import find_launch_file, read_launch_file
from .errors import AftError, ConfigError
from .pipeline import DONE, RESUME, TRAINING_STAGES, Plan, Status, Unit
from .progress import ENVIRONMENT_KEY, MARK, SECONDS_IN_A_LOG, TOLD, describe, say
from .records import write_json, write_text

_KEPT_LINES = 40


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
        write_text(plan.folder / "config.yaml", to_yaml(plan.config))
        write_json(plan.folder / "environment.json", run.environment())
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
    write_json(plan.folder / "data.json", found)
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
    logs = plan.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    crew: list[_Worker] = []
    try:
        for number, share in shares.items():
            command = _command(plan, stage, share, _num_threads(len(shares)))
            crew.append(_Worker(command, logs / f"{stage}-{number}.log", _num_threads(len(shares))))
        _watch(crew, stage)
        # now, before the others are stopped: they would look as if they had failed
        failed = next((worker for worker in crew if worker.process.poll()), None)
    finally:
        for worker in crew:
            worker.stop()
    if failed is not None:
        raise StageFailed(stage, failed.exit_code, failed.message(), failed.log)


def _num_threads(workers: int) -> str:
    """Threads for each worker: as the user's environment says, else an equal share of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))


class StageFailed(AftError):
    """A stage's process ended with an error; `exit_code` is that process's own."""

    def __init__(self, stage: str, exit_code: int, message: str, log: Path) -> None:
        self.exit_code = exit_code if exit_code in (1, 2, 3) else 1
        super().__init__(f"stage {stage} failed (exit code {exit_code}); its whole output is in {log}\n{message}")


class _Worker:
    """One process of a stage, its log file, and what it reports: progress, and the error that ended it."""

    def __init__(self, command: Sequence[str], log: Path, num_threads: str) -> None:
        self.log = log
        self.progress: dict[str, Any] = {}
        self.failure: dict[str, Any] = {}
        self.kept: list[str] = []
        environment = {**os.environ, ENVIRONMENT_KEY: "lines", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": num_threads}
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        # a session of its own: the launcher's children can be stopped together with it
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.thread = threading.Thread(target=self._read, args=(self.process.stdout, " ".join(command)), daemon=True)
        self.thread.start()

    def _read(self, stream: IO[str], command: str) -> None:
        with stream, self.log.open("w", encoding="utf-8") as log:
            log.write(f"$ {command}\n")
            for line in stream:
                if self._take_message(line):
                    continue
                log.write(line)
                log.flush()
                self.kept = [*self.kept[-_KEPT_LINES:], line.rstrip()]
                if line.startswith(TOLD):
                    tqdm.write(line.removeprefix(TOLD).rstrip(), file=sys.stderr)

    def _take_message(self, line: str) -> bool:
        """Whether a line is a message to this process, which is then kept; one that others wrote into is plain text."""
        if not line.startswith(MARK):
            return False
        try:
            message = json.loads(line.removeprefix(MARK))
        except ValueError:
            return False
        if "exit_code" in message:
            self.failure = message
        else:
            self.progress = message
        return True

    @property
    def exit_code(self) -> int:
        """The code of the stage's own process where it told one: launchers end with 1 whatever it was."""
        return int(self.failure.get("exit_code") or self.process.returncode)

    def message(self) -> str:
        """The error that the process told, else the end of its output."""
        self.thread.join()
        return str(self.failure.get("error") or "\n".join(self.kept[-15:]))

    def stop(self) -> None:
        """End the process, if it still runs, with all that it started, and wait for the rest of its output."""
        if self.process.poll() is not None:
            self.thread.join(timeout=5)
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            if not self.thread.is_alive():
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.thread.join(timeout=seconds)
        self.process.wait()


def _watch(crew: Sequence[_Worker], stage: str) -> None:
    """Show one line of progress for all workers until they end; the first failure stops the others."""
    terminal = sys.stderr.isatty()
    with tqdm(total=None, bar_format="{desc}", dynamic_ncols=True, leave=False, disable=not terminal) as bar:
        show = bar.set_description_str if terminal else say
        pause, shown = (0.2 if terminal else SECONDS_IN_A_LOG), 0.0
        started = time.monotonic()
        while any(worker.process.poll() is None for worker in crew):
            if any(worker.process.poll() for worker in crew):
                return
            parts = [describe(worker.progress) for worker in crew if worker.progress and worker.process.poll() is None]
            seconds = time.monotonic() - started
            if seconds - shown >= pause and parts:
                show(f"{stage} {seconds:4.0f} s | " + " | ".join(parts))
                shown = seconds
            time.sleep(0.2)


def _command(plan: Plan, stage: str, units: Sequence[int], num_threads: str) -> list[str]:
    stage_command = ["-m", "aft.cli.train", "--config", str(plan.folder / "config.yaml"), "--stage", stage]
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
    path = plan.folder / "logs" / "one-process.yaml"
    cpu = not _use_gpu(plan.config)
    keys = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "num_machines": 1, "num_processes": 1}
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**keys, "machine_rank": 0}.items())
    write_text(path, f'{text}mixed_precision: "no"\nuse_cpu: {json.dumps(cpu)}\n')
    return path


def _use_gpu(config: Config) -> bool:
    from .device import use_cpu

    return not use_cpu(config.launch.device)


def run_here(plan: Plan, stage: str, worker: str | None = None) -> None:
    """Run a stage's units in this process. `worker`: the places of some of them, such as `0,2`; None: all."""
    plan.check_reads(stage)
    units = plan.units(stage)
    if worker is not None:
        units = [units[int(place)] for place in worker.split(",")]
    if stage == "label":
        for unit in units:
            _label_unit(plan, unit)
        return
    from accelerate import PartialState

    from .device import forget, use_cpu
    from .stages.context import Stage

    cpu = use_cpu(plan.config.launch.device)
    state = PartialState(cpu=cpu)
    runner = _runner(stage)
    context = Stage(plan, cpu)
    for unit in units:
        work = functools.partial(runner, context, unit)
        _run_unit(plan, unit, work, is_main=state.is_main_process, barrier=state.wait_for_everyone)
        forget()
    # a rank that ends while another still listens can take its process down
    state.wait_for_everyone()
    state.destroy_process_group()


def _run_unit(
    plan: Plan, unit: Unit, work: Callable[[run.UnitLog | None], None], *, is_main: bool, barrier: Callable[[], None]
) -> None:
    """Run one unit unless it is up to date."""
    status = plan.status(unit)
    inputs = plan.inputs(unit)
    barrier()  # all ranks look before the first writes
    if status.state == DONE or inputs is None:
        return
    log = _open_unit(plan, unit, status, inputs) if is_main else None
    barrier()
    work(log)
    barrier()


def _label_unit(plan: Plan, unit: Unit) -> None:
    """Label one unit unless it is up to date; earlier labels stay in their place until the new ones are ready."""
    from .stages.label import run_label

    status, inputs = plan.status(unit), plan.inputs(unit)
    if status.state == DONE or inputs is None:
        return
    begun = time.monotonic()
    # where nothing is in the way, the unit counts as begun from now on
    opened = None if _is_in_the_way(unit, status) else _open_unit(plan, unit, status, inputs)

    def begin() -> run.UnitLog:
        log = opened or _open_unit(plan, unit, status, inputs)
        log.begun = begun
        return log

    run_label(plan, unit, begin)


def _open_unit(plan: Plan, unit: Unit, status: Status, inputs: dict[str, Any]) -> run.UnitLog:
    """Begin a unit. What other inputs made is moved aside, never overwritten or deleted."""
    if _is_in_the_way(unit, status):
        kept = run.move_aside(unit.folder, plan.folder)
        say(f"{unit}: what was in {unit.folder} is now in {kept}; delete it when you no longer need it")
    return run.UnitLog(unit.folder, inputs, plan.processes(unit))


def _is_in_the_way(unit: Unit, status: Status) -> bool:
    return status.state != RESUME and unit.folder.exists()


def _runner(stage: str) -> Callable[[Any, Unit, run.UnitLog | None], None]:
    """The function of a stage that uses a model. Imported late: a stage pays for what it uses."""
    if stage in TRAINING_STAGES:
        from .stages import train

        return {"pretrain": train.run_pretrain, "vft": train.run_vft, "align": train.run_align}[stage]
    if stage == "sample":
        from .stages.sample import run_sample

        return run_sample
    from .stages.evaluate import run_evaluate

    return run_evaluate
