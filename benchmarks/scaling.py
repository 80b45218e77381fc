"""Step time per unique token against the number of samples and of groups: a flat line is the aim."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from aft.scoring import packing
from aft.scoring.batching import Packer
from aft.scoring.packing import Item
from bars import Bar, table
from groups import PAD_ID, Lengths, alignment_items, generated_groups
from shapes import LLAMA_1B, SMALLEST, TINY, Shape, build, that_fits
from timing import Settings, Summary, in_turn, seconds, summary
from variants import SHARED, Collated, Engine

TITLE = "Cost against samples and groups"
SAMPLES = (1, 2, 6, 16, 64)
GROUPS = (1, 2, 4, 8, 16, 32, 64)
AT_LEAST = 16  # groups a measurement, so that few groups a step are not a matter of which ones
MAX_TOKENS = 4096  # unique tokens of a micro-batch


def measure(
    settings: Settings,
    shape: Shape | None = None,
    samples: Sequence[int] = SAMPLES,
    groups: Sequence[int] = GROUPS,
    tokens: int = 6_000,
) -> dict[str, Any]:
    """Seconds and unique tokens of each setting, in turn.

    `samples`: batches of about `tokens` unique tokens, whatever the group's size. `groups`: the first of the same
    groups, at least 16 and as many as a step has, in steps of that many. All in micro-batches within the budget; groups
    are never split.
    """
    usual = TINY if settings.smoke else LLAMA_1B if settings.on_gpu else SMALLEST
    shape = that_fits(shape or usual, settings.device)
    if settings.smoke:
        samples, groups, tokens = samples[:3], groups[:3], 1_000
    model = build(shape, torch.bfloat16 if settings.on_gpu else torch.float32, settings.device)
    engine = Engine(model, SHARED)
    steps: dict[str, list[list[Lengths]]] = {}
    for number in samples:
        steps[f"samples {number}"] = [_up_to(tokens, number)]
    population = generated_groups(max(groups), seed=1)
    for number in groups:
        shared = population[: max(number, AT_LEAST)]
        steps[f"groups {number}"] = [shared[start : start + number] for start in range(0, len(shared), number)]
    for name in steps if settings.on_gpu else [f"groups {groups[0]}"]:
        _run(engine, steps[name][:1], shape, settings)  # warms up: a GPU meets each new size slowly
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(settings.repeats):
        for name in in_turn(list(steps), turn):
            found[name].append(_run(engine, steps[name], shape, settings))
    return {
        "shape": dataclasses.asdict(shape),
        "max_tokens_per_batch": MAX_TOKENS,
        "settings": [
            {
                "axis": name.split()[0],
                "value": int(name.split()[1]),
                "groups": sum(map(len, steps[name])),
                "unique": sum(group.unique for step in steps[name] for group in step),
                "micro_batches": sum(len(micro_batches(step, shape.vocabulary)) for step in steps[name]),
                "seconds": taken,
            }
            for name, taken in found.items()
        ],
    }


def _up_to(tokens: int, samples: int) -> list[Lengths]:
    """The first groups with that many samples that together have at least `tokens` unique tokens."""
    drawn = generated_groups(tokens, samples=samples, seed=2)
    sums = itertools.accumulate(group.unique for group in drawn)
    return drawn[: next(index for index, total in enumerate(sums, 1) if total >= tokens)]


def _run(engine: Engine, steps: Sequence[Sequence[Lengths]], shape: Shape, settings: Settings) -> float:
    """Seconds of the forward and backward passes of all steps; collating is not in them."""
    batches = [[engine.collate(piece) for piece in micro_batches(step, shape.vocabulary)] for step in steps]
    total = 0.0
    for pieces in batches:
        engine.clear()
        total += seconds(functools.partial(_accumulate, engine, pieces), settings.device)[0]
    return total


def micro_batches(step: Sequence[Lengths], vocabulary: int) -> list[list[Item]]:
    """The items of a step as the trainer divides them: within the budget of unique tokens, no group split."""
    items = alignment_items(step, vocabulary)
    parts = Packer(PAD_ID, packing.SHARED, MAX_TOKENS).parts([(item,) for item in items], range(len(items)))
    return [[items[index] for index in part] for part in parts]


def _accumulate(engine: Engine, pieces: Sequence[Collated]) -> None:
    for piece in pieces:
        engine.step(piece)


# ---- reading the figures ----


def per_token(setting: dict[str, Any]) -> Summary:
    """Microseconds per unique token."""
    return summary([1e6 * taken / setting["unique"] for taken in setting["seconds"]])


def spread(figures: dict[str, Any] | None, axis: str) -> Summary | None:
    """How far the settings of an axis lie from the middle of their range, in percent of it; of the medians."""
    if figures is None:
        return None
    medians = [per_token(setting).median for setting in figures["settings"] if setting["axis"] == axis]
    middle = (max(medians) + min(medians)) / 2
    off = 100 * (max(medians) - middle) / middle
    return Summary(off, off, off)


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary."""
    return [
        Bar(
            "step time per unique token, k = 1 … 64: off the middle of the range by",
            "≤",
            15,
            spread(figures, "samples"),
            "{:.0f}",
            " %",
        ),
        Bar("the same, 1 … 64 groups a step", "≤", 15, spread(figures, "groups"), "{:.0f}", " %"),
    ]


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = [
        [
            f"k = {setting['value']}" if setting["axis"] == "samples" else f"{setting['value']} groups a step",
            str(setting["groups"]),
            f"{setting['unique']:,}",
            str(setting["micro_batches"]),
            per_token(setting).text("{:.0f}", " µs"),
        ]
        for setting in figures["settings"]
    ]
    text = (
        f"{figures['shape']['name']}, question shared, micro-batches of at most {figures['max_tokens_per_batch']:,}"
        " unique tokens whose gradients add up. k is the number of samples beside the reference. Lengths are generated,"
        " so that k can be any number. The rows of groups a step take the first of the same groups each time, in steps"
        " of so many groups."
    )
    return text + "\n\n" + table(["", "groups", "unique tokens", "micro-batches", "time per unique token"], rows)
