"""How long a run will take, from the tokens that each unit trains on or samples and how many a second a machine does.

Rates are those of two CPU cores with the model of --scale small. What finished units took corrects them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, align_config
from ..config.schema import DEFAULT_POOL
from ..run.folder import RunFolder
from ..run.manifest import read_manifest

FORWARD = 1 / 3  # of the cost of a training token: no backward pass


@dataclass(frozen=True)
class Rates:
    """Tokens a second: unique ones in training, sampled ones."""

    train: float
    sample: float


@dataclass(frozen=True)
class Lengths:
    """Tokens on average: a question with its template, a reference with its end."""

    question: float
    response: float


# SmolLM2-135M in float32 on two cores, by the manifests of finished units of the ecqa run; start-up is in them. A
# processor with bfloat16 instructions was not measured, and should be no slower.
RATES = Rates(200, 300)
# counted with SmolLM2's tokenizer on the training questions of configs/tables/small-*.yaml
LENGTHS = {"ecqa": Lengths(48, 34), "gsm8k": Lengths(61, 98), "arithmetic": Lengths(39, 43)}


@dataclass(frozen=True)
class Work:
    """One unit of one seed: tokens that it trains on (a scored token counts as a third) and samples."""

    stage: str
    name: str | None
    trained: float
    sampled: float

    def seconds(self, rates: Rates) -> float:
        """How long the unit takes at these rates."""
        return self.trained / rates.train + self.sampled / rates.sample

    def __str__(self) -> str:
        return f"{self.stage} {self.name}" if self.name else self.stage


def work(config: Config, lengths: Lengths) -> list[Work]:
    """The units of one seed of a run. Its numbers of questions, steps and samples must be set."""
    q, r, k = lengths.question, lengths.response, config.sample.num_samples
    data: Any = config.data
    labelled = data.num_train + data.num_answer_only
    pool = config.sample.pool_questions
    if pool is None:
        pool = min(DEFAULT_POOL, data.num_validation)
    units = []
    if "vft" in config.stages:
        epochs, held_out = config.vft.training.get("num_train_epochs", 3), config.vft.validation
        decoded = held_out.num_questions if held_out else 0
        scored = 0 if config.data.name == "ecqa" else FORWARD * data.num_validation  # ECQA's have no chain
        units.append(Work("vft", None, epochs * (data.num_train + scored) * (q + r), epochs * decoded * r))
    if "sample" in config.stages:
        units.append(Work("sample", None, 0, (labelled + pool) * k * r))
    if "align" in config.stages:
        units += [Work("align", name, _aligned(config, name, lengths, labelled), 0) for name in config.methods]
    if "evaluate" in config.stages:
        section = config.evaluate
        greedy = section.num_questions or data.num_test
        own, paths = section.assessment, section.self_consistency
        sampled = greedy + (own.num_questions * own.max_samples if own and own.num_questions else 0)
        sampled += (paths.num_questions or greedy) * paths.num_paths if paths else 0
        scored = FORWARD * pool * (q + k * r)
        units += [Work("evaluate", name, scored, sampled * r) for name in section.models or ()]
    return units


def _aligned(config: Config, name: str, lengths: Lengths, labelled: int) -> float:
    """Training tokens of a method: every group's question once, with the reference and the candidates it uses."""
    align, k = align_config(config, name), config.sample.num_samples
    groups = align.training["max_steps"] * align.training["per_device_train_batch_size"]
    # without a loss term only the right samples are used: half of them is more than so small a model has
    used = k if align.loss else k / 2 if align.supervise != "reference" else 0
    drifts = align.loss and align.drift  # the scores before training
    scored = FORWARD * labelled * (lengths.question + k * lengths.response) if drifts else 0
    return groups * (lengths.question + (1 + used) * lengths.response) + scored


@dataclass(frozen=True)
class Forecast:
    """A run's units, their seconds, and which of its (unit, seed) are finished with what they took."""

    name: str
    precision: str
    units: Mapping[Work, float]
    seeds: tuple[int, ...]
    taken: Mapping[tuple[Work, int], float]

    @property
    def left(self) -> float:
        """Seconds of what is not finished."""
        return sum(s for unit, s in self.units.items() for seed in self.seeds if (unit, seed) not in self.taken)

    @property
    def of_taken(self) -> float:
        """Seconds that were forecast for what is finished."""
        return sum(self.units[unit] for unit, _ in self.taken)


def forecast(name: str, config: Config, folder: Path) -> Forecast:
    """The forecast of a run, whose finished units are looked for in `folder`."""
    precision = "bfloat16" if config.training.get("bf16") else "float32"
    units = {unit: unit.seconds(RATES) for unit in work(config, LENGTHS[name])}
    taken = {}
    for unit in units:
        for seed in config.seeds:
            manifest = read_manifest(RunFolder(folder).unit(unit.stage, seed, unit.name).manifest)
            if manifest is not None:
                taken[unit, seed] = float(manifest["seconds"])
    return Forecast(name, precision, units, tuple(config.seeds), taken)


def forecast_lines(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """The forecast as text: a line a run with its units, then the whole, corrected by what finished units took."""
    precision = forecasts[0].precision
    yield (
        f"forecast in {precision}, from rates of float32 on two cores: {RATES.train:g} unique tokens a second in"
        f" training, {RATES.sample:g} in sampling"
    )
    for found in forecasts:
        units = ", ".join(f"{unit} {minutes(seconds)}" for unit, seconds in found.units.items())
        total = minutes(sum(found.units.values()))
        yield f"  {found.name}, a seed: {total} minutes: {units}"
        yield f"  {found.name}: {len(found.taken)} of {len(found.units) * len(found.seeds)} units are finished"
    spent, expected = (sum(sum(f.taken.values()) for f in forecasts), sum(f.of_taken for f in forecasts))
    left = sum(found.left for found in forecasts)
    yield f"  left: {left / 3600:.1f} hours"
    if expected:
        ratio = spent / expected
        yield f"  finished units took {ratio:.1f} times their forecast: {left * ratio / 3600:.1f} hours at that pace"


def unfinished(found: Forecast) -> list[str]:
    """A line for the units of each seed that are not finished."""
    lines = []
    for seed in found.seeds:
        missing = [str(unit) for unit in found.units if (unit, seed) not in found.taken]
        if missing:
            named = "every unit" if len(missing) == len(found.units) else ", ".join(missing)
            lines.append(f"not finished: {found.name}, seed {seed}: {named}")
    return lines


def minutes(seconds: float) -> str:
    """Whole minutes, rounded up."""
    return str(math.ceil(seconds / 60))
