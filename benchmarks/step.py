"""The alignment step, forward and backward, in every layout on the same groups."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch

from aft.device import forget
from bars import NOT_MEASURED, Bar, table
from groups import Lengths, alignment_items, load_groups, padding_ratio, typical_batches
from shapes import LLAMA_1B, LLAMA_7B, SMALL, SMALL_2K, TINY, Shape, build, floor_operations, that_fits
from timing import Settings, Summary, in_turn, matrix_rate, ratios, seconds, summary
from variants import (
    CHUNK_BYTES,
    KEPT,
    NAIVE,
    NAIVE_RECOMPUTED,
    PACKED,
    PADDED,
    RECOMPUTED,
    SHARED,
    SORTED,
    VARIANTS,
    Collated,
    Engine,
    Variant,
    check_agreement,
)

TITLE = "The alignment step"
EVERY = (NAIVE, PADDED, SORTED, PACKED, SHARED, KEPT, RECOMPUTED)
OUT_OF_MEMORY = "out of memory"


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and the variants to compare on it."""

    name: str
    shape: Shape
    dtype: str
    variants: tuple[Variant, ...]
    sizes: tuple[int, ...] = (1, 4)  # groups at once
    most_batches: int = 10  # of each size


CPU_CASES = (
    Case("32k float32", SMALL, "float32", EVERY),
    Case("2k float32", SMALL_2K, "float32", (NAIVE, SORTED, PACKED, SHARED), sizes=(4,), most_batches=1),
    Case("32k bfloat16", SMALL, "bfloat16", (NAIVE, SORTED, SHARED, KEPT), sizes=(4,), most_batches=1),
)
GPU_CASES = (
    Case("1B-like bfloat16", LLAMA_1B, "bfloat16", EVERY),
    # without checkpointing its activations pass those of any one card; where they fit, they are measured as well
    Case("7B-like bfloat16", LLAMA_7B, "bfloat16", (NAIVE_RECOMPUTED, RECOMPUTED, NAIVE, SHARED, KEPT)),
)


def cases_for(settings: Settings) -> tuple[Case, ...]:
    """What is measured on this device."""
    if settings.smoke:
        tiny = {"shape": TINY, "dtype": "float32", "sizes": (1,), "most_batches": 1}
        return tuple(dataclasses.replace(case, **tiny) for case in GPU_CASES)
    return GPU_CASES if settings.on_gpu else CPU_CASES


def measure(settings: Settings, cases: Sequence[Case] | None = None) -> dict[str, Any]:
    """Seconds of every variant on every batch, with the batch's tokens and the operations of its floor."""
    found, source = load_groups()
    results = []
    for case in cases or cases_for(settings):
        results.append(_measure_case(case, found, settings))
        forget()  # the next model needs the room
    return {
        "lengths": source,
        "chunk_mb": CHUNK_BYTES / 2**20,
        "padding": {size: _population_padding(found, size) for size in (1, 4, 16)},
        "cases": results,
    }


def _population_padding(groups: Sequence[Lengths], size: int, batches: int = 400) -> float:
    """Naive tokens over unique ones, the mean over random batches of that size."""
    drawn = typical_batches(groups, size, batches)
    return sum(padding_ratio(batch) for batch in drawn) / batches


def _measure_case(case: Case, groups: Sequence[Lengths], settings: Settings) -> dict[str, Any]:
    dtype = getattr(torch, case.dtype)
    shape = that_fits(case.shape, settings.device)
    model = build(shape, dtype, settings.device)
    engines = {variant.name: Engine(model, variant) for variant in case.variants}
    _warm_up(engines, groups, shape, dtype)
    batches = []
    for size in case.sizes:
        for turn, lengths in enumerate(typical_batches(groups, size, min(settings.repeats, case.most_batches))):
            batches.append(_measure_batch(engines, lengths, shape, dtype, turn, settings.device))
    return {
        "name": case.name,
        "shape": dataclasses.asdict(shape),
        "dtype": case.dtype,
        "matrix_rate": matrix_rate(settings.device, dtype),
        "batches": batches,
    }


def _warm_up(engines: dict[str, Engine], groups: Sequence[Lengths], shape: Shape, dtype: torch.dtype) -> None:
    """One step of each on a small group; all must find the same loss."""
    items = alignment_items(typical_batches(groups, 1, 1)[0], shape.vocabulary)
    losses = {name: engine.step(engine.collate(items)).item() for name, engine in engines.items()}
    check_agreement(losses, dtype)


def _measure_batch(
    engines: dict[str, Engine], lengths: Sequence[Lengths], shape: Shape, dtype: torch.dtype, turn: int, device: str
) -> dict[str, Any]:
    items = alignment_items(lengths, shape.vocabulary, seed=turn)
    variants: dict[str, Any] = {}
    for name in in_turn(list(engines), turn):
        engine = engines[name]
        batch = engine.collate(items)
        engine.clear()
        variants[name] = _timed(engine, batch, device) or {"failed": OUT_OF_MEMORY}
        if "failed" in variants[name]:
            forget()  # here, where no exception holds the tensors any longer
    check_agreement({name: row["loss"] for name, row in variants.items() if "loss" in row}, dtype)
    return {
        "groups": len(lengths),
        "unique": sum(group.unique for group in lengths),
        "predicted": sum(group.predicted for group in lengths),
        "floor_operations": floor_operations(shape, lengths),
        "variants": variants,
    }


def _timed(engine: Engine, batch: Collated, device: str) -> dict[str, Any] | None:
    """Seconds, tokens and loss of one step; None where memory does not suffice."""
    try:
        if device.startswith("cuda"):
            engine.step(batch)  # its libraries and its allocator meet a new size slowly
            engine.clear()
        taken, loss = seconds(functools.partial(engine.step, batch), device)
    except torch.OutOfMemoryError:
        return None
    return {"seconds": taken, "processed": batch.processed, "loss": loss.item()}


# ---- reading the figures ----


def speed(case: dict[str, Any], size: int, baseline: str, *candidates: str) -> Summary | None:
    """How many times faster than `baseline` the first of the candidates that was measured is, over the batches."""
    for name in candidates:
        pairs = [
            (batch["variants"][baseline]["seconds"], batch["variants"][name]["seconds"])
            for batch in case["batches"]
            if batch["groups"] == size
            and all("seconds" in batch["variants"].get(each, {}) for each in (baseline, name))
        ]
        if pairs:
            slow, fast = zip(*pairs, strict=True)
            return ratios(slow, fast)
    return None


def share_of_rate(case: dict[str, Any], size: int, *candidates: str) -> Summary | None:
    """Floor operations a second over the measured matrix rate, of the first of the candidates that was measured."""
    for name in candidates:
        shares = [
            batch["floor_operations"] / batch["variants"][name]["seconds"] / case["matrix_rate"]
            for batch in case["batches"]
            if batch["groups"] == size and "seconds" in batch["variants"].get(name, {})
        ]
        if shares:
            return summary(shares)
    return None


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The CPU's rows of the summary."""
    case = figures["cases"][0] if figures else {"batches": []}
    ours = (KEPT.name, SHARED.name)
    return [
        Bar("alignment step against naive padding with full logits, 1 group", "≥", 1.7, speed(case, 1, "naive", *ours)),
        Bar("the same, 4 groups", "≥", 3, speed(case, 4, "naive", *ours)),
        Bar("against padded batches sorted by length, 4 groups", "≥", 1.7, speed(case, 4, "sorted", *ours)),
    ]


def gpu_bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The GPU's rows of the summary; without figures they say so."""
    cases = figures["cases"] if figures else [{"batches": []}, {"batches": []}]
    rows = []
    for case, name in zip(cases, ("1B-like", "7B-like"), strict=True):
        # a model too large for the plain way without checkpointing is compared with checkpointing on both sides
        against = speed(case, 4, NAIVE.name, KEPT.name, SHARED.name) or speed(
            case, 4, NAIVE_RECOMPUTED.name, RECOMPUTED.name
        )
        share = share_of_rate(case, 4, KEPT.name, SHARED.name, RECOMPUTED.name)
        rows.append(Bar(f"one GPU, {name}: alignment step against naive padding, 4 groups", "≥", 2.5, against))
        percent = Summary(*(100 * value for value in dataclasses.astuple(share))) if share else None
        rows.append(
            Bar(f"one GPU, {name}: share of the measured matrix rate, 4 groups", "≥", 50, percent, "{:.0f}", " %")
        )
    return rows


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    padding = ", ".join(f"{value:.2f}" for value in figures["padding"].values())
    lines = [
        f"Lengths: {figures['lengths']}; 1 reference and 6 samples a question. Naive padding processes {padding} tokens"
        " for each unique one with 1, 4, 16 groups at once, the mean over random batches; measured on batches at evenly"
        " spread quantiles of that ratio. The step is forward and backward of L_VFT on the reference and of the"
        " alignment loss on the samples, without the optimizer; all variants found the same loss."
        f" Chunks of {figures['chunk_mb']:.0f} MB.",
    ]
    for case in figures["cases"]:
        for size in dict.fromkeys(batch["groups"] for batch in case["batches"]):
            lines += ["", _case_table(case, size)]
    return "\n".join(lines)


def _case_table(case: dict[str, Any], size: int) -> str:
    batches = [batch for batch in case["batches"] if batch["groups"] == size]
    names = [name for name in VARIANTS if name in batches[0]["variants"]]
    baseline = next(name for name in names if "seconds" in batches[0]["variants"][name])
    rows = []
    for name in names:
        done = [batch for batch in batches if "seconds" in batch["variants"][name]]
        if not done:
            rows.append([VARIANTS[name].label, OUT_OF_MEMORY, "", "", ""])
            continue
        taken = summary([batch["variants"][name]["seconds"] for batch in done])
        tokens = summary([batch["variants"][name]["processed"] / batch["unique"] for batch in done])
        against = speed(case, size, baseline, name)
        share = share_of_rate(case, size, name)
        rows.append(
            [
                VARIANTS[name].label,
                f"{tokens.median:.2f}",
                taken.text("{:.3g}", " s"),
                against.text(unit="×") if against else NOT_MEASURED,
                f"{share.median:.0%}" if share else NOT_MEASURED,
            ]
        )
    name = f"{case['shape']['name']}, {case['dtype']}, {size} group{'s' if size > 1 else ''} at once"
    header = [name, "tokens / unique", "time", f"against {baseline}", "floor's share of the matrix rate"]
    return table(header, rows)
