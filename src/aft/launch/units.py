"""Runs units in this process: the units of one stage, or the shares of units that the conductor sends."""

from __future__ import annotations

import datetime
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..progress import say, tell_unit, tell_waiting
from ..run.environment import reset_peak_memory
from ..run.folder import TRAINING_STAGES, VALIDATE, Unit
from ..run.lock import writing
from ..run.manifest import UnitLog
from ..stages.plan import DONE, RESUME, Plan, Status


def serve(plan: Plan) -> None:
    """Reads shares of units from standard input, one JSON line each, and runs them until the input ends.

    A share has a `stage`, the `places` of its units in the stage, and the number of `threads`.
    """
    # units get an empty standard input, so that they do not read the conductor's lines
    with os.fdopen(os.dup(0), encoding="utf-8") as shares, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        for line in shares:
            share = json.loads(line)
            _use_threads(share["threads"])
            run_here(plan, share["stage"], share["places"])
            tell_waiting()


def _use_threads(number: str) -> None:
    """Sets the number of threads. A stage with fewer workers gives each worker more threads."""
    os.environ["OMP_NUM_THREADS"] = number
    if (torch := sys.modules.get("torch")) is not None and number.isdigit():
        torch.set_num_threads(int(number))


def run_here(plan: Plan, stage: str, places: Sequence[int] | None = None) -> None:
    """Runs a stage's units in this process. `places`: positions of the units in the stage; None: all units.

    Without `places`, units of later rounds are left out while what they read is not there. Raises `DataError` if what
    they read is damaged. Units at `places` that are damaged themselves are made again, because the conductor has
    ordered them.
    """
    if places is None:
        plan.check_damage([stage])
        units = plan.ready_units(stage)
    else:
        every = plan.units(stage)
        units = [every[place] for place in places]
    plan.check_reads(stage, units)
    if stage == "label":
        with writing(plan.run):
            for unit in units:
                _label_unit(plan, unit)
        return
    from accelerate import PartialState

    from ..device import forget, use_cpu
    from ..stages.context import Stage
    from .isolation import isolated

    cpu = use_cpu(plan.config.launch.device)
    # A rank that drives no replica of vLLM waits until the others have sampled. By default it would fail in minutes.
    patience = {} if stage in TRAINING_STAGES else {"timeout": datetime.timedelta(days=7)}
    state = PartialState(cpu=cpu, **patience)
    runner = _runner(stage)
    context = Stage(plan, cpu)
    # not before: the first rank of a launch must have found that nobody writes, and by now it has met the others
    with writing(plan.run):
        for unit in units:
            work = functools.partial(runner, context, unit)
            with isolated():
                _run_unit(plan, unit, work, is_main=state.is_main_process, barrier=state.wait_for_everyone)
            forget()
    # wait before the process group is destroyed: a rank that ends early can crash the others
    state.wait_for_everyone()
    state.destroy_process_group()


def _run_unit(
    plan: Plan, unit: Unit, work: Callable[[UnitLog | None], None], *, is_main: bool, barrier: Callable[[], None]
) -> None:
    """Runs one unit unless it is up to date."""
    status = plan.status(unit)
    inputs = plan.inputs(unit)
    barrier()  # all ranks must read the status before the first rank changes it
    if status.state == DONE or inputs is None:
        return
    _begin(unit)
    log = _open_unit(plan, unit, status, inputs) if is_main else None
    barrier()
    work(log)
    barrier()


def _begin(unit: Unit) -> None:
    tell_unit(str(unit))
    reset_peak_memory()


def _label_unit(plan: Plan, unit: Unit) -> None:
    """Labels one unit unless it is up to date. Previous labels stay in place until the new ones are ready."""
    from ..stages.label import run_label

    status, inputs = plan.status(unit), plan.inputs(unit)
    if status.state == DONE or inputs is None:
        return
    _begin(unit)
    begun = time.monotonic()
    # without outdated labels to move, the unit can be marked as started now
    opened = None if _is_in_the_way(unit, status) else _open_unit(plan, unit, status, inputs)

    def begin() -> UnitLog:
        log = opened or _open_unit(plan, unit, status, inputs)
        log.begun = begun
        return log

    run_label(plan, unit, begin)


def _open_unit(plan: Plan, unit: Unit, status: Status, inputs: dict[str, Any]) -> UnitLog:
    """Marks a unit as started. Outdated results are moved to `replaced/`, never overwritten or deleted."""
    if _is_in_the_way(unit, status):
        kept = plan.run.move_aside(unit.folder)
        say(f"{unit}: what was in {unit.folder} is now in {kept}; delete it when you no longer need it")
    return UnitLog(unit.folder, inputs, plan.processes(unit), resumes=status.state == RESUME)


def _is_in_the_way(unit: Unit, status: Status) -> bool:
    return status.state != RESUME and unit.folder.exists()


def _runner(stage: str) -> Callable[[Any, Unit, UnitLog | None], None]:
    """Returns the function that runs a unit of a stage with a model. Imports only the modules that the stage needs."""
    if stage in TRAINING_STAGES:
        from ..stages import train

        return {"pretrain": train.run_pretrain, "vft": train.run_vft, "align": train.run_align}[stage]
    if stage == "sample":
        from ..stages.sample import run_sample

        return run_sample
    if stage == VALIDATE:
        from ..stages.validate import run_validate

        return run_validate
    from ..stages.evaluate import run_evaluate

    return run_evaluate
