"""A forecast as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import ConfigError
from ..stages.plan import Plan
from .advice import advise, alternatives, fitting_budget
from .memory import Memory, states
from .run import RunForecast, StageForecast

_COLUMNS = ("weights", "gradients", "optimizer", "activations", "buffers", "total")


def render(run: RunForecast, stages: Sequence[str]) -> str:
    """The whole forecast: the machine, each unit of a seed, other ways to train, what to change, and the sum."""
    return "\n".join(_lines(run, stages))


def brief(plan: Plan) -> str:
    """A line without activations, for a dry run: it needs no trace and no network.

    Raises `ConfigError` if no configuration of the model is here.
    """
    run = RunForecast(plan, network=False)
    training = run.plan.training(run.config.vft.training)
    setup = run.setup(training)
    held = states(run.model, setup)
    line = (
        f"memory: {_count(run.model.count)} parameters; a training ({setup.describe()}) holds {_gb(held.total)} GB"
        " in each process before activations"
    )
    if run.machine.memory is not None:
        fits = "more than" if held.total > run.machine.memory else "of"
        line += f", {fits} {_gb(run.machine.memory)} GB of the {run.machine.shown}"
    return f"{line}; --plan forecasts the rest"


def _lines(run: RunForecast, stages: Sequence[str]) -> Iterator[str]:
    machine = run.machine
    room = (
        "memory not known: set plan.hardware or plan.memory_gb"
        if machine.memory is None
        else (f"{_gb(machine.memory)} GB of each to use")
    )
    devices = "CPU" if machine.cpu else f"{machine.gpus} × {machine.shown}"
    kind = getattr(run.model.config, "model_type", "model")
    size = f"{_count(run.model.count)} parameters in {run.model.layers} layers"
    yield f"{kind}: {size}, vocabulary {run.model.vocabulary:,}"
    yield f"on {devices}: {room}"
    units = run.units(stages)
    seeds = len(run.config.seeds)
    yield ""
    yield "GB of one process at its peak"
    yield _row("", _COLUMNS)
    for group in _alike(units, lambda unit: (unit.work.stage, unit.memory, unit.shown, unit.details)):
        yield from _unit(group)
    first = next((unit for unit in units if unit.work.stage in ("align", "vft") and unit.memory), None)
    heaviest = max(
        (unit for unit in units if unit.work.stage in ("align", "vft") and unit.memory),
        key=lambda unit: unit.memory.total if unit.memory else 0.0,
        default=first,
    )
    if heaviest is not None:
        yield from _others(run, heaviest)
    for told in _distinct(units):
        if advice := advise(run, told):
            yield ""
            yield f"{told.work} does not fit. What would, nearest first:"
            yield from (f"  {line}" for line in advice)
    yield ""
    yield from _work(run, units, seeds)
    for note in (*run.lengths.notes, *run.notes):
        yield f"assumed: {note}"


def _distinct(units: Sequence[StageForecast]) -> list[StageForecast]:
    """The units that do not fit, one for each stage with the same memory."""
    found: dict[tuple[str, int], StageForecast] = {}
    for unit in units:
        if unit.fits is False and unit.memory is not None:
            found.setdefault((unit.work.stage, round(unit.memory.total)), unit)
    return list(found.values())


def _alike(units: Sequence[StageForecast], key: Callable[[StageForecast], Any]) -> list[list[StageForecast]]:
    """Units with equal figures together, in the order of the first."""
    groups: dict[str, list[StageForecast]] = {}
    for unit in units:
        groups.setdefault(repr(key(unit)), []).append(unit)
    return list(groups.values())


def _name(group: Sequence[StageForecast]) -> str:
    first = group[0].work
    return str(first) if len(group) == 1 else f"{first.stage}, {len(group)} models"


def _unit(group: Sequence[StageForecast]) -> Iterator[str]:
    unit, name = group[0], _name(group)
    fits = {True: "fits", False: "does not fit", None: ""}[unit.fits]
    if unit.memory is None:
        yield f"{name}  ({unit.shown})"
    else:
        yield f"{_row(name, _values(unit.memory))}  {fits}".rstrip()
        yield f"    {unit.shown}"
        if len(group) > 1:
            yield f"    {', '.join(one.work.name or '' for one in group)}"
    yield from (f"    {line}" for line in unit.details)


def _others(run: RunForecast, unit: StageForecast) -> Iterator[str]:
    yield ""
    yield f"other ways for {unit.work}, at the same tokens a call"
    try:
        for option in alternatives(run, unit.work):
            fits = {True: "fits", False: "does not fit", None: ""}[option.fits]
            yield f"{_row(option.setup.describe(), _values(option.memory))}  {fits}".rstrip()
        if run.machine.memory is not None:
            budget = fitting_budget(run, unit.work)
            told = "not even the longest question fits" if budget is None else f"{budget:,}"
            yield f"largest model.max_tokens_per_batch that fits {unit.work}: {told}"
    except ConfigError as error:
        yield from error.problems


def _work(run: RunForecast, units: Sequence[StageForecast], seeds: int) -> Iterator[str]:
    lengths = run.lengths
    if lengths.questions is None:
        return
    yield (
        f"work of one seed: {lengths.questions:,} questions, prompts of {lengths.prompt:.0f} tokens, references of"
        f" {lengths.response:.0f}, samples of {lengths.sampled:.0f}"
    )
    for group in _alike(units, lambda unit: (dataclasses.replace(unit.work, name=None), unit.operations, unit.seconds)):
        work, seconds = group[0].work, group[0].seconds
        parts = [(work.trained, "trained"), (work.scored, "scored"), (work.sampled, "sampled")]
        line = f"  {_name(group)}: " + ", ".join(f"{_count(count)} tokens {what}" for count, what in parts if count)
        if work.repeated > work.trained + work.scored > 0:
            line += f", {1 - (work.trained + work.scored) / work.repeated:.0%} saved by the shared question"
        if group[0].operations is not None:
            line += f", {group[0].operations:.2g} operations"
        line += "" if seconds is None else f", {_hours(seconds)}"
        yield line + (" each" if len(group) > 1 else "")
    taken = [unit.seconds for unit in units]
    total = None if None in taken else sum(second for second in taken if second is not None)
    if total is None:
        yield "hours: set plan.hardware, or plan.tflops and plan.bandwidth_gb, or measured rates"
        return
    line = f"in all: {_hours(total * seeds)} for {seeds} seed{'s' if seeds > 1 else ''}"
    price = run.machine.price
    if price is not None:
        line += f", cost {total * seeds / 3600 * run.machine.gpus * price:,.2f} at {price:g} a GPU hour"
    yield line


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _values(memory: Memory) -> list[str]:
    found = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.buffers, memory.total)
    return [_gb(value) for value in found]


def _row(name: str, values: Sequence[str]) -> str:
    return f"{name:<44}" + "".join(f"{value:>12}" for value in values)


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f}" if count >= 1e9 else f"{count / 1e9:.3f}"


def _count(count: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
