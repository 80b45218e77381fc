"""Other ways to train, and which key to change where a stage does not fit: the nearest first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from ..errors import ConfigError
from ..run.folder import VALIDATE
from .memory import DDP, FSDP, ONE, ZERO1, ZERO2, ZERO3, Memory, Setup
from .run import DEFAULT_LORA, RunForecast, StageForecast
from .work import Work

_MOST_GPUS = 1024
_MOST_TOKENS = 2**24
_UNIT = 128  # tokens
_LORA = f"model.lora='{{r: {DEFAULT_LORA['r']}, target_modules: all-linear}}'"


@dataclasses.dataclass(frozen=True)
class Option:
    """Another way to train: what it is, the keys that set it, and its memory."""

    setup: Setup
    keys: str
    memory: Memory
    fits: bool | None


def alternatives(run: RunForecast, unit: Work) -> Iterator[Option]:
    """The same training divided and computed otherwise, at the same budget of tokens."""
    own = run.setup(run.training_of(unit))
    many = max(run.machine.gpus, own.processes)
    full = dataclasses.replace(own, lora=None, quantised=False, processes=many)
    lora = dataclasses.replace(own, lora=own.lora or DEFAULT_LORA, quantised=False, processes=many)
    alone = {"kind": ONE, "processes": 1} if many == 1 else {"kind": DDP}
    setups = [dataclasses.replace(own, checkpointing=not own.checkpointing)]
    setups += [dataclasses.replace(full, **alone)]
    if many > 1:
        setups += [dataclasses.replace(full, kind=kind) for kind in (FSDP, ZERO1, ZERO2, ZERO3)]
    setups += [dataclasses.replace(lora, **alone)]
    setups += [dataclasses.replace(lora, kind=FSDP)] if many > 1 else []
    setups += [dataclasses.replace(lora, quantised=True, **alone)]
    for setup in dict.fromkeys(map(_Key, setups)):
        if setup.setup != own:
            yield _option(run, unit, setup.setup, "")


@dataclasses.dataclass(frozen=True)
class _Key:
    setup: Setup = dataclasses.field(compare=False)
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", repr(self.setup))


def _option(run: RunForecast, unit: Work, setup: Setup, keys: str, budget: int | None = None) -> Option:
    training = run.training_of(unit)
    limit = run.config.model.max_tokens_per_batch if budget is None else budget
    texts, again = run.texts(unit.stage, unit.name, training, limit)
    memory = run.memory(setup, texts, again=again)
    return Option(setup, keys, memory, run.fits(memory))


def fitting_budget(run: RunForecast, unit: Work, setup: Setup | None = None) -> int | None:
    """The largest `model.max_tokens_per_batch` that fits, in multiples of 128; None: not even the longest question.

    The memory is traced at two sizes and taken to be linear beyond them; the result is traced again, and lowered
    until it fits.
    """
    training = run.training_of(unit)
    setup = setup or run.setup(training)
    least, _ = run.texts(unit.stage, unit.name, {**training, "per_device_train_batch_size": 1}, None)

    def total(budget: int) -> float:
        # a batch without end, so that the budget decides
        texts, _ = run.texts(unit.stage, unit.name, {**training, "per_device_train_batch_size": 1_000_000}, budget)
        return run.memory(setup, texts, again=True).total

    memory = run.machine.memory
    if memory is None:
        return None
    low, high = max(256, least.tokens), max(2 * least.tokens, 4096)
    found = low
    for _ in range(3):
        at_low, at_high = total(low), total(high)
        slope = (at_high - at_low) / (high - low)
        reached = low + (memory - at_low) / slope if slope > 0 else math.inf
        found = int(max(0.0, min(reached, 64 * high, _MOST_TOKENS))) // _UNIT * _UNIT
        if found < least.tokens or abs(found - high) < 0.1 * high or found >= 64 * high:
            break
        low, high = high, found
    while found >= least.tokens and total(found) > memory:
        found = int(0.97 * found) // _UNIT * _UNIT
    return found if found >= least.tokens else None


def advise(run: RunForecast, found: StageForecast) -> list[str]:
    """What would make a stage fit: keys and the memory that they lead to, the nearest first."""
    if found.fits is not False:
        return []
    if found.work.stage not in ("vft", "align"):
        return list(_for_sampling(run, found))
    lines = []
    try:
        for option in _changes(run, found.work):
            if option.fits:
                lines.append(f"{option.keys}: {option.memory.total / 1e9:,.1f} GB")
    except ConfigError as error:
        return error.problems
    return lines or ["nothing here fits: take GPUs with more memory, or a smaller model"]


def _changes(run: RunForecast, unit: Work) -> Iterator[Option]:
    own = run.setup(run.training_of(unit))
    checkpointed, key = own, ""
    if not own.checkpointing:
        checkpointed, key = dataclasses.replace(own, checkpointing=True), "training.activation_checkpointing=true"
        yield _option(run, unit, checkpointed, key)
    given = run.config.model.max_tokens_per_batch
    for setup, also in dict.fromkeys([(repr(own), ""), (repr(checkpointed), key)]):
        taken = own if setup == repr(own) else checkpointed
        budget = fitting_budget(run, unit, taken)
        if budget is not None and (given is None or budget < given):
            yield _option(run, unit, taken, f"model.max_tokens_per_batch={budget}{_and(also)}", budget)
    many = run.machine.gpus
    if own.kind in (ONE, DDP) and many > 1:
        yield _option(
            run, unit, dataclasses.replace(checkpointed, kind=FSDP, processes=many), f"launch.config=fsdp2{_and(key)}"
        )
    if own.lora is None:
        yield _option(run, unit, dataclasses.replace(checkpointed, lora=DEFAULT_LORA), f"{_LORA}{_and(key)}")
    power = 2 ** (math.floor(math.log2(max(1, many))) + 1)
    while power <= _MOST_GPUS:
        more = dataclasses.replace(checkpointed, kind=own.kind if own.kind in (FSDP, ZERO3) else FSDP, processes=power)
        launch = "" if own.kind in (FSDP, ZERO3) else "launch.config=fsdp2 "
        option = _option(run, unit, more, f"{launch}launch.num_processes={power}{_and(key)}")
        if option.fits:
            yield option
            break
        power *= 2
    if not own.quantised and own.kind in (ONE, DDP):
        four = dataclasses.replace(checkpointed, lora=own.lora or DEFAULT_LORA, quantised=True)
        keys = "model.quantization={}" if own.lora else f"{_LORA} model.quantization={{}}"
        yield _option(run, unit, four, f"{keys}{_and(key)}")


def _and(key: str) -> str:
    return f" and {key}" if key else ""


def _for_sampling(run: RunForecast, found: StageForecast) -> Iterator[str]:
    stage = found.work.stage
    section = run.section_of(stage)
    key = "evaluate" if stage == VALIDATE else stage
    if section.engine == "vllm":
        yield f"{key}.vllm.tensor_parallel_size: more GPUs for one copy of the model"
        return
    rows = section.batch_size
    while rows > 1 and not run.fits(run.sampling(stage, rows)):
        rows //= 2
    if run.fits(memory := run.sampling(stage, rows)):
        yield f"{key}.batch_size={rows}: {memory.total / 1e9:,.1f} GB"
    if run.dtype(inference=True) == "float32" and not run.is_quantised(inference=True):
        yield f"model.inference_dtype=bfloat16: {found.memory.total / 2e9 if found.memory else 0:,.1f} GB"
    yield f"{key}.engine=vllm with {key}.vllm.tensor_parallel_size: the weights are divided among GPUs"
