"""The conductor: runs the stages of a plan in order, each in processes of its own."""

from __future__ import annotations

import functools
import json
import os
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
from .errors import AftError, ConfigError, nearest
from .pipeline import DONE, RESUME, Plan, Status, Unit
from .progress import ENVIRONMENT_KEY, MARK, TOLD, say
from .records import write_json, write_text

LAUNCH_FOLDER = Path("configs") / "accelerate"
TRAINING_STAGES = ("pretrain", "vft", "align")
_KEPT_LINES = 40


def find_launch_file(name: str) -> Path:
    """The accelerate configuration that `launch.config` names: a path, or a file of configs/accelerate/."""
    for candidate in (Path(name), LAUNCH_FOLDER / name, LAUNCH_FOLDER / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(path.stem for path in LAUNCH_FOLDER.glob("*.yaml"))
    raise ConfigError(
        f"launch.config: no file '{name}' nor {LAUNCH_FOLDER / name}.yaml.{nearest(name, known)}"
        f" There: {', '.join(known) or 'none'}"
    )


def show_plan(plan: Plan, stages: Sequence[str]) -> str:
    """A line for every unit of `stages`: what would happen to it, and why."""
    lines = []
    for unit, status in plan.forecast(list(stages)):
        state = "skip" if status.state == DONE else status.state
        lines.append(f"{state:<7}{unit!s:<40}{unit.folder}")
        lines += [f"       because {reason}" for reason in status.reasons]
    return "\n".join(lines)


def conduct(plan: Plan, stages: Sequence[str]) -> None:
    """Run `stages` in order and write the report behind the last."""
    write_text(plan.folder / "config.yaml", to_yaml(plan.config))
    write_json(plan.folder / "environment.json", run.environment())
    _tell_data(plan)
    for stage in stages:
        plan.check_reads(stage)
        units = [(unit, plan.status(unit)) for unit in plan.units(stage)]
        waiting = [(unit, status) for unit, status in units if status.state != DONE]
        if len(waiting) < len(units):
            say(f"{stage}: {len(units) - len(waiting)} of {len(units)} up to date, skipped")
        for unit, status in waiting:
            _explain(unit, status)
        if waiting:
            started = time.monotonic()
            _run_stage(plan, stage, len(waiting))
            say(f"{stage}: {len(waiting)} done in {time.monotonic() - started:.0f} s")


def _tell_data(plan: Plan) -> None:
    """Say how many questions there are and what was done to them, and keep it in data.json."""
    found = plan.describe_data()
    write_json(plan.folder / "data.json", found)
    say("questions: " + ", ".join(f"{count:,} {split}" for split, count in found["questions"].items()))
    for note in found["notes"]:
        say(f"data: {note}")


def _explain(unit: Unit, status: Status) -> None:
    if status.reasons and status.state == RESUME:
        say(f"{unit}: resumes, it {'; '.join(status.reasons)}")
    elif status.reasons:
        shown = "; ".join(status.reasons[:3]) + (f"; and {len(status.reasons) - 3} more" if status.reasons[3:] else "")
        say(f"{unit}: runs again, because {shown}")


def _run_stage(plan: Plan, stage: str, waiting: int) -> None:
    workers = min(plan.config.launch.workers, waiting)
    logs = plan.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    crew = [_Worker(plan, stage, index, workers, logs / f"{stage}-{index}.log") for index in range(workers)]
    try:
        _watch(crew, stage)
    finally:
        for worker in crew:
            worker.stop()
    failed = next((worker for worker in crew if worker.process.returncode), None)
    if failed is not None:
        raise StageFailed(stage, failed.process.returncode, failed.message(), failed.log)


class StageFailed(AftError):
    """A stage's process ended with an error; `exit_code` is that process's own."""

    def __init__(self, stage: str, exit_code: int, message: str, log: Path) -> None:
        self.exit_code = exit_code if exit_code in (1, 2, 3) else 1
        super().__init__(f"stage {stage} failed (exit code {exit_code}); its whole output is in {log}\n{message}")


class _Worker:
    """One process of a stage, its log file, and the progress it reports."""

    def __init__(self, plan: Plan, stage: str, index: int, workers: int, log: Path) -> None:
        self.log = log
        self.progress: dict[str, object] = {}
        self.kept: list[str] = []
        command = _command(plan, stage, index, workers)
        environment = {**os.environ, ENVIRONMENT_KEY: "lines", "PYTHONUNBUFFERED": "1"}
        # small matrices gain nothing from threads that wait for each other
        threads = max(1, (os.cpu_count() or 1) // workers)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, errors="replace"
        )
        assert self.process.stdout is not None
        self.thread = threading.Thread(target=self._read, args=(self.process.stdout, " ".join(command)), daemon=True)
        self.thread.start()

    def _read(self, stream: IO[str], command: str) -> None:
        with self.log.open("w", encoding="utf-8") as log:
            log.write(f"$ {command}\n")
            for line in stream:
                mark, _, message = line.partition(MARK)
                if message and not mark:
                    self.progress = json.loads(message)
                    continue
                log.write(line)
                log.flush()
                self.kept = [*self.kept[-_KEPT_LINES:], line.rstrip()]
                if line.startswith(TOLD):
                    tqdm.write(line.removeprefix(TOLD).rstrip(), file=sys.stderr)

    def message(self) -> str:
        """What the process said last: its own error line where it has one, else the end of its output."""
        errors = [index for index, line in enumerate(self.kept) if line.startswith("aft: error: ")]
        kept = self.kept[errors[-1] :] if errors else self.kept[-15:]
        # the launcher adds its own traceback to the stage's
        ends = [index for index, line in enumerate(kept) if line.startswith("Traceback") and index > 0]
        return "\n".join(kept[: ends[0]] if errors and ends else kept).removeprefix("aft: error: ")

    def stop(self) -> None:
        """Ask a process that still runs to end, and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.thread.join()


def _watch(crew: Sequence[_Worker], stage: str) -> None:
    """Show one line of progress for all workers until they end; the first failure stops the others."""
    with tqdm(total=None, bar_format="{desc}", dynamic_ncols=True, leave=False) as bar:
        # in a log file every line stays, so there are few
        pause, shown = (0.2 if sys.stderr.isatty() else 15.0), 0.0
        started = time.monotonic()
        while any(worker.process.poll() is None for worker in crew):
            if any(worker.process.poll() for worker in crew):
                return
            parts = [_describe(worker.progress) for worker in crew if worker.progress and worker.process.poll() is None]
            seconds = time.monotonic() - started
            if seconds - shown >= pause and parts:
                bar.set_description_str(f"{stage} {seconds:4.0f} s | " + " | ".join(parts))
                shown = seconds
            time.sleep(0.2)


def _describe(progress: dict[str, object]) -> str:
    done, total = int(str(progress["done"])), int(str(progress["total"]))
    share = f"{100 * done // total:3d} %" if total else ""
    note = f", {progress['note']}" if progress["note"] else ""
    return f"{progress['what']} {share} ({done}/{total}{note})"


def _command(plan: Plan, stage: str, index: int, workers: int) -> list[str]:
    stage_command = ["-m", "aft.cli.train", "--config", str(plan.folder / "config.yaml"), "--stage", stage]
    stage_command += ["--worker", f"{index}/{workers}"]
    if stage == "label":
        return [sys.executable, *stage_command]  # no model, nothing to launch
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if plan.config.launch.config is not None:
        return [*launcher, "--config_file", str(find_launch_file(plan.config.launch.config)), *stage_command]
    launcher += ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--num_cpu_threads_per_process", str(max(1, (os.cpu_count() or 1) // workers))]
    if not _use_gpu(plan.config):
        launcher.append("--cpu")
    return [*launcher, *stage_command]


def _use_gpu(config: Config) -> bool:
    from .device import use_cpu

    return not use_cpu(config.launch.device)


def run_here(plan: Plan, stage: str, worker: str | None = None) -> None:
    """Run one stage's units in this process; `worker` `i/n` takes every n-th, from i. Used by a stage's processes."""
    index, workers = map(int, (worker or "0/1").split("/"))
    plan.check_reads(stage)
    units = plan.units(stage)[index::workers]
    if stage == "label":
        from .stages.label import run_label

        for unit in units:
            _run_unit(plan, unit, functools.partial(run_label, plan, unit), is_main=True)
        return
    from accelerate import PartialState

    from .device import use_cpu
    from .stages.context import Stage

    cpu = use_cpu(plan.config.launch.device)
    state = PartialState(cpu=cpu)
    runner = _runner(stage)
    context = Stage(plan, cpu)
    for unit in units:
        work = functools.partial(runner, context, unit)
        _run_unit(plan, unit, work, is_main=state.is_main_process, barrier=state.wait_for_everyone)


def _run_unit(
    plan: Plan,
    unit: Unit,
    work: Callable[[run.UnitLog | None], None],
    *,
    is_main: bool,
    barrier: Callable[[], None] = lambda: None,
) -> None:
    """Run one unit unless it is up to date. What other inputs made is moved aside, never overwritten or deleted."""
    status = plan.status(unit)
    inputs = plan.inputs(unit)
    barrier()  # all ranks look before the first writes
    if status.state == DONE or inputs is None:
        return
    log = None
    if is_main:
        if status.state != RESUME and unit.folder.exists():
            kept = run.move_aside(unit.folder)
            say(f"{unit}: what was in {unit.folder} is now in {kept.name}; delete it when you no longer need it")
        log = run.UnitLog(unit.folder, inputs)
    barrier()
    work(log)
    barrier()


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
