"""The conductor: runs a plan's stages in order, in persistent workers or in processes that a launcher starts."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from ..config import align_config, to_yaml
from ..config.launch_file import asked_processes, find_launch_file, on_cpu, read_launch_file
from ..config.ratings import FunctionRatings
from ..ending import SECONDS_TO_END, Ended, listening
from ..errors import AftError, ConfigError, DataError, folder_gone, raise_of_machine, writing
from ..json_files import read_json, remove_leftovers, write_json, write_text
from ..progress import say
from ..run.environment import environment
from ..run.folder import TRAINING_STAGES, VALIDATE, Unit
from ..run.lock import hold
from ..shown import shown_line
from ..stages.limits import stop_before_alignment
from ..stages.plan import DONE, RESUME, Plan, Status
from .fit import check_fit
from .isolation import needs_own_process
from .space import warn_of_space
from .worker import StageFailed, Worker, num_threads, stop, watch


def show_plan(plan: Plan, stages: Sequence[str]) -> str:
    """Returns a line for every unit of `stages`: whether it would run, and why."""
    lines = []
    for unit, status in plan.forecast(list(stages)):
        state = "skip" if status.state == DONE else status.state
        lines.append(f"{state:<7} {unit!s:<40}{unit.folder}")
        lines += [f"        because {reason}" for reason in status.reasons]
    return "\n".join(lines)


def open_folder(plan: Plan) -> None:
    """Writes the resolved configuration, the environment and the description of the data into the run's folder.

    Removes the temporary files that an ended run left there. Call it only for a folder that no other run uses.
    """
    removed = [
        path for folder, models in plan.run.folders() for path in remove_leftovers(folder, of_safetensors=models)
    ]
    if removed:
        files = "temporary file" if len(removed) == 1 else f"{len(removed)} temporary files"
        say(f"{plan.folder}: removed {files} of an ended process")
    try:
        write_text(plan.run.config, to_yaml(plan.config))
        write_json(plan.run.environment, environment())
        _tell_data(plan)
    except OSError as error:
        raise_of_machine(error)
        raise ConfigError(f"output_dir: {plan.folder} cannot be written: {error.strerror}") from None


def conduct(plan: Plan, stages: Sequence[str]) -> None:
    """Runs `stages` in order, and holds the lock of the run's folder. A signal (`listening`) raises `Ended`.

    However this ends, the processes of the stages have ended before.
    """
    with listening(), hold(plan.run, say):
        plan.check_rounds()
        plan.check_damage(stages)  # damage of the last stage is told before the first one takes hours
        open_folder(plan)
        if tokens := check_fit(plan, stages):
            write_json(plan.run.data, {**(read_json(plan.run.data) or {}), "tokens": tokens})
        waiting = [unit for unit, status in plan.forecast(list(stages)) if status.state != DONE]
        warn_of_space(plan, waiting, "this run")
        staying: dict[int, Worker] = {}
        try:
            for stage, number in plan.steps(stages):
                _conduct_stage(
                    plan, stage, number, staying, waits=not {*stages}.issuperset(("sample", "label", "align"))
                )
                _tell_rounds(plan, stage, number)
        except AftError as error:
            if plan.run.config.exists():
                raise
            raise folder_gone(plan.run.config) from error  # whatever failed first for want of it
        finally:
            stop(list(staying.values()))
            with contextlib.suppress(OSError):
                plan.run.progress.unlink(missing_ok=True)  # only a killed run leaves it behind


def _conduct_stage(plan: Plan, stage: str, number: int | None, staying: dict[int, Worker], *, waits: bool) -> None:
    """Runs the outdated units of a stage. Called after earlier stages have finished, because their output matters.

    `number`: only the units of this round. `waits`: the other stages of a round do not run, so that units of later
    rounds may have nothing to read yet, and are left out.
    """
    own, named = plan.units(stage, number), stage if number in (None, 1) else f"{stage}, round {number}"
    if waits and number not in (None, 1):
        there = [unit for unit in own if plan.can_begin(unit)]
        if len(there) < len(own):
            say(
                f"{named}: {len(own) - len(there)} of {len(own)} left out, as other stages have not made what they read"
            )
        own = there
    if not own:
        return
    plan.check_reads(stage, own)
    units = plan.units(stage)
    places = {unit: place for place, unit in enumerate(units)}
    states = {places[unit]: plan.status(unit) for unit in own}
    plan.refuse_damaged({units[index]: status for index, status in states.items()}, [stage])
    waiting = [index for index, status in states.items() if status.state != DONE]
    if len(waiting) < len(own):
        say(f"{named}: {len(own) - len(waiting)} of {len(own)} up to date, skipped")
    if stage == "align":
        stop_before_alignment(plan, [units[index] for index in waiting])
    for index in waiting:
        _explain(units[index], states[index])
    if waiting:
        warn_of_space(plan, [units[index] for index in waiting], stage)
        started = time.monotonic()
        for crew in _crews(plan, stage, waiting):
            _run_crew(plan, stage, crew, staying, number or 1)
        say(f"{named}: {len(waiting)} done in {time.monotonic() - started:.0f} s")


def _tell_rounds(plan: Plan, stage: str, number: int | None) -> None:
    """Writes what is known of the rounds into rounds.json, and logs which methods stop and what is chosen."""
    if plan.num_rounds == 1 or stage != (VALIDATE if plan.validates else "align"):
        return
    found = plan.describe_rounds()
    write_json(plan.run.rounds, found)
    for method, by_seed in found.items():
        for seed, entry in by_seed.items():
            saturated = entry.get("nothing_to_compare_in")
            if number is not None and saturated == number:
                say(f"{method} seed {seed}: the samples of round {number} leave nothing to compare: stops")
            elif saturated is None and entry["stopped_after"] == number:
                say(f"{method} seed {seed}: no better validation accuracy for {plan.rounds.patience} rounds: stops")
            if number in (plan.num_rounds, saturated or entry["stopped_after"]):
                say(f"{method} seed {seed}: the final model is {entry['final']}")


def _tell_data(plan: Plan) -> None:
    """Logs the number of questions and the task's notes, and writes them to data.json."""
    found = plan.describe_data()
    with contextlib.suppress(DataError):
        before = read_json(plan.run.data) or {}
        if before.get("fingerprint") == found["fingerprint"] and "tokens" in before:
            found["tokens"] = before["tokens"]  # counted only before a stage that uses a model
    write_json(plan.run.data, found)
    say("questions: " + ", ".join(f"{count:,} {split}" for split, count in found["questions"].items()))
    for note in found["notes"]:
        say(shown_line(f"data: {note}"))


def _explain(unit: Unit, status: Status) -> None:
    if status.reasons and status.state == RESUME:
        say(f"{unit}: resumes, it {'; '.join(status.reasons)}")
    elif status.reasons:
        shown = "; ".join(status.reasons[:3]) + (f"; and {len(status.reasons) - 3} more" if status.reasons[3:] else "")
        say(f"{unit}: runs again, because {shown}")


def _crews(plan: Plan, stage: str, waiting: Sequence[int]) -> list[dict[int, list[int]]]:
    """Divides the `waiting` units among workers.

    Returns crews that run one after the other. The workers of a crew run in parallel. A crew maps the number of each
    worker's log file to its units.
    """
    workers = min(plan.config.launch.workers, len(waiting))
    if not _needs_fresh_processes(plan, stage):
        return [{number: list(waiting[number::workers]) for number in range(workers)}]
    alone = [(number, [place]) for number, place in enumerate(waiting)]
    return [dict(alone[first : first + workers]) for first in range(0, len(alone), workers)]


def _needs_fresh_processes(plan: Plan, stage: str) -> bool:
    """True if each unit of a stage needs a new process."""
    if stage == "label":
        # a user's function may load a model of its own and keep it
        return isinstance(plan.config.label.ratings, FunctionRatings)
    if stage not in TRAINING_STAGES:
        return False
    config, launch = plan.config, plan.config.launch.config
    # with DeepSpeed's ZeRO-3, a process never frees the memory of what it has trained
    if launch is not None and read_launch_file(launch).get("distributed_type") == "DEEPSPEED":
        return True
    if stage == "align":
        sections = [align_config(config, method).training for method in config.methods]
    else:
        sections = [getattr(config, stage).training]
    return any(needs_own_process(plan.training(section)) for section in sections)


def _run_crew(
    plan: Plan, stage: str, shares: dict[int, list[int]], staying: dict[int, Worker], in_round: int = 1
) -> None:
    """Runs each share of the units in its own worker, in parallel. The keys of `shares` number the log files."""
    logged = stage if in_round == 1 else f"{stage}-round{in_round}"
    with writing(plan.run.logs, "the logs"):
        plan.run.logs.mkdir(parents=True, exist_ok=True)
    fresh = _needs_fresh_processes(plan, stage) or (plan.config.launch.config is not None and stage != "label")
    if fresh:
        stop(list(staying.values()))  # an idle worker still holds memory, also on a GPU
    crew: list[Worker] = []
    try:
        for number, places in shares.items():
            threads = num_threads(len(shares))
            log, command = plan.run.logs / f"{logged}-{number}.log", _command(plan, stage, places)
            if fresh:
                crew.append(Worker(command, log, threads, _environment(plan), by_srun=command[0] == "srun"))
                continue
            if number in staying and staying[number].is_idle:
                staying[number].open_log(log, " ".join(command))
            else:
                serve = [*_base_command(plan), "--worker", "-"]
                staying[number] = Worker(serve, log, threads, _environment(plan), heading=" ".join(command), stays=True)
            crew.append(staying[number])
            staying[number].order({"stage": stage, "places": places, "threads": threads})
        watch(crew, stage, plan.run.progress)
        # find the failed worker before the others are stopped: a stopped worker also looks failed
        failed = next((worker for worker in crew if worker.has_failed), None)
    except Ended as ended:
        say(
            f"{ended.name}: {stage} ends at its next safe point, in {SECONDS_TO_END:g} s at most unless it saves; once"
            " more ends it now"
        )
        raise
    finally:
        stop([worker for worker in crew if not worker.is_idle])
    if failed is not None:
        raise StageFailed(failed.unit or f"stage {stage}", failed.exit_code, failed.message(), failed.log)


def _base_command(plan: Plan) -> list[str]:
    return [sys.executable, "-m", "aft.cli.train", "--config", str(plan.run.config)]


def _command(plan: Plan, stage: str, places: Sequence[int]) -> list[str]:
    """Returns the command that runs only these units of a stage."""
    command = [*_base_command(plan), "--stage", stage, "--worker", ",".join(map(str, places))]
    launch = plan.config.launch.config
    if launch is None or stage == "label":
        return command
    asked, path = read_launch_file(launch), find_launch_file(launch)
    launcher = ["-m", "aft.launch.launcher", "--config_file", str(path)]
    processes, nodes = asked_processes(plan.config.launch, asked), _nodes(plan)
    if processes is not None and processes != asked.get("num_processes"):
        launcher += ["--num_processes", str(processes)]
    if on_cpu(asked) and (processes or 1) > 1 and asked.get("distributed_type") in (None, "NO", "MULTI_CPU"):
        launcher.append("--multi_gpu")  # on a CPU, accelerate starts several processes of this kind alone
    if nodes == 1:
        return [command[0], *launcher, *command[1:]]
    # a launcher on each node, which finds its rank itself; when one fails, the others are ended
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    launcher += ["--num_machines", str(nodes), "--machine_rank", "SLURM_PROCID"]
    launcher += ["--main_process_ip", os.environ["MASTER_ADDR"], "--main_process_port", os.environ["MASTER_PORT"]]
    return [*srun, command[0], *launcher, *command[1:]]


def _nodes(plan: Plan) -> int:
    """Returns the nodes of Slurm's job that share a stage."""
    return plan.config.launch.slurm.nodes if plan.config.launch.slurm else 1


def _environment(plan: Plan) -> dict[str, str]:
    """Returns what accelerate's launcher would set for one process, but for the pinning of threads to cores.

    It overrides the user's saved defaults of accelerate. If a launcher starts the process, only what it leaves out.
    """
    if plan.config.launch.config is not None:
        return {"ACCELERATE_USE_CPU": "True"} if on_cpu(read_launch_file(plan.config.launch.config)) else {}
    return {
        "ACCELERATE_MIXED_PRECISION": "no",  # `training.bf16` and `training.fp16` set mixed precision
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        **dict.fromkeys((f"ACCELERATE_DYNAMO_USE_{name}" for name in ("FULLGRAPH", "DYNAMIC")), "False"),
        "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
        **({"ACCELERATE_USE_CPU": "True"} if plan.config.launch.device == "cpu" else {}),
    }
