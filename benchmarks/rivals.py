"""The alignment step against its strongest rivals: rows without padding that repeat the question, and flash-pref.

Time in proportion to tokens would make the shared question G (P + R) / (P + G R) times as fast as repeated ones: P
tokens of a question, R of a response, G responses a group. The table says how much of this ceiling is reached.

flash-pref shares the question too, for equal groups, with FlashAttention-2 on CUDA. Its versions on the package index
need transformers below 4.52, and this package newer ones: it runs in the interpreter that AFT_FLASH_PREF_PYTHON names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aft.device import forget
from bars import NOT_MEASURED, Bar, table
from groups import Lengths, alignment_items, load_groups, typical_batches
from real import REPEATED, SHARED, ceiling
from shapes import LLAMA_1B, LLAMA_7B, SMALLEST, TINY, Shape, build, that_fits
from step import OUT_OF_MEMORY, _timed
from timing import Settings, Summary, in_turn, ratios, summary
from utilisation import ELSEWHERE, peak_rate, step_operations
from variants import Engine, check_agreement

TITLE = "Against packed rows that repeat the question"
GROUPS = 4  # at once
ENGINES = {variant.name: variant for variant in (REPEATED, SHARED)}
FLASH_PREF = "flash-pref"
BAR = 0.8  # of the ceiling
CHILD = Path(__file__).with_name("flash_pref_step.py")
SECONDS = 120  # of flash-pref's process


@dataclasses.dataclass(frozen=True)
class Case:
    """A model to compare on."""

    name: str
    shape: Shape
    dtype: str = "bfloat16"


GPU_CASES = (Case("1B-like", LLAMA_1B), Case("7B-like", LLAMA_7B))
CPU_CASES = (Case("smallest", SMALLEST, "float32"),)


def cases_for(settings: Settings) -> tuple[Case, ...]:
    """What is measured on this device."""
    if settings.smoke:
        return tuple(dataclasses.replace(case, shape=TINY, dtype="float32") for case in GPU_CASES)
    return GPU_CASES if settings.on_gpu else CPU_CASES


def measure(settings: Settings, cases: Sequence[Case] | None = None) -> dict[str, Any]:
    """Seconds of every way on the same batches, with the ceiling at their lengths."""
    found, source = load_groups()
    results = []
    for case in cases or cases_for(settings):
        results.append(_measure_case(case, typical_batches(found, GROUPS, settings.repeats), settings))
        forget()
    return {"lengths": source, "cases": results}


def _measure_case(case: Case, batches: Sequence[Sequence[Lengths]], settings: Settings) -> dict[str, Any]:
    dtype, shape = getattr(torch, case.dtype), that_fits(case.shape, settings.device)
    peak, source = peak_rate(settings.device, dtype)
    model = build(shape, dtype, settings.device)
    engines = {name: Engine(model, variant) for name, variant in ENGINES.items()}
    warm = alignment_items(batches[0][:1], shape.vocabulary)
    for engine in engines.values():
        engine.step(engine.collate(warm))
    rows = []
    for turn, lengths in enumerate(batches):
        items = alignment_items(lengths, shape.vocabulary, seed=turn)
        variants: dict[str, Any] = {}
        for name in in_turn(list(engines), turn):
            batch = engines[name].collate(items)
            engines[name].clear()
            variants[name] = _timed(engines[name], batch, settings.device) or {"failed": OUT_OF_MEMORY}
        check_agreement({name: row["loss"] for name, row in variants.items() if "loss" in row}, dtype)
        rows.append(
            {
                "prompt": statistics.mean(group.prompt for group in lengths),
                "response": statistics.mean(length for group in lengths for length in group.responses),
                "responses": len(lengths[0].responses),
                "unique": sum(group.unique for group in lengths),
                "predicted": sum(group.predicted for group in lengths),
                "variants": variants,
            }
        )
    del model, engines
    forget()
    theirs = with_flash_pref(shape, case.dtype, batches, settings)
    for place, row in enumerate(rows):
        if "batches" in theirs:
            row["variants"][FLASH_PREF] = theirs["batches"][place]
    return {
        "name": case.name,
        "shape": dataclasses.asdict(shape),
        "dtype": case.dtype,
        "peak": peak,
        "peak_source": source,
        "batches": rows,
        "left_out": theirs.get("left_out"),
    }


def with_flash_pref(
    shape: Shape, dtype: str, batches: Sequence[Sequence[Lengths]], settings: Settings, *, shared: bool = True
) -> dict[str, Any]:
    """`batches` with seconds, processed tokens and loss of each, or `left_out` with the reason.

    `shared`: False computes the same step without flash-pref, which every machine can do.
    """
    python = os.environ.get("AFT_FLASH_PREF_PYTHON")
    if shared and not settings.on_gpu:
        return {"left_out": "flash-pref needs CUDA"}
    if shared and not python:
        return {"left_out": "no AFT_FLASH_PREF_PYTHON names an interpreter with flash-pref, flash-attn and torch"}
    if shared and (absent := _absent(python or sys.executable)):
        return {"left_out": f"{python} has no {absent}"}
    items = [alignment_items(lengths, shape.vocabulary, seed=turn) for turn, lengths in enumerate(batches)]
    request = {
        "shape": dataclasses.asdict(shape),
        "dtype": dtype,
        "device": settings.device,
        "shared": shared,
        "batches": [[[list(item.prompt_ids), list(map(list, item.responses))] for item in batch] for batch in items],
    }
    source = str(Path(__file__).resolve().parents[1] / "src")
    try:
        done = subprocess.run(
            [python or sys.executable, str(CHILD)],
            input=json.dumps(request),
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"left_out": f"{FLASH_PREF}: {error}"}
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode != 0:
        return {"left_out": f"{FLASH_PREF}: {lines[-1]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _absent(python: str) -> str:
    """The packages that an interpreter lacks for flash-pref, found without importing them."""
    code = (
        "import importlib.util as u; print(*[n for n in ('flash_pref', 'flash_attn', 'torch') if not u.find_spec(n)])"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"answer: {error}"
    return ", ".join(done.stdout.split())


# ---- reading the figures ----


def speed(case: dict[str, Any], baseline: str) -> Summary | None:
    """How many times faster the shared question is than a way, batch by batch."""
    pairs = [
        (batch["variants"][baseline]["seconds"], batch["variants"]["shared"]["seconds"])
        for batch in case["batches"]
        if all("seconds" in batch["variants"].get(name, {}) for name in (baseline, "shared"))
    ]
    return ratios(*zip(*pairs, strict=True)) if pairs else None


def ceilings(case: dict[str, Any]) -> list[float]:
    """The ceiling of each batch."""
    return [ceiling(batch["prompt"], batch["response"], batch["responses"]) for batch in case["batches"]]


def share_of_ceiling(case: dict[str, Any]) -> Summary | None:
    """How much of the ceiling the shared question reaches, batch by batch."""
    shares = [
        batch["variants"]["packed"]["seconds"] / batch["variants"]["shared"]["seconds"] / limit
        for batch, limit in zip(case["batches"], ceilings(case), strict=True)
        if all("seconds" in batch["variants"][name] for name in ("packed", "shared"))
    ]
    return summary(shares) if shares else None


def utilisation(case: dict[str, Any], name: str) -> Summary | None:
    """MFU of a way over the tokens that it reads."""
    shape = Shape(**case["shape"])
    shares = [
        step_operations(shape, row["processed"], batch["predicted"]) / row["seconds"] / case["peak"]
        for batch in case["batches"]
        if "seconds" in (row := batch["variants"].get(name, {}))
    ]
    return summary(shares) if shares else None


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """None on a CPU: `real` has that row."""
    return []


def gpu_bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The GPU's rows of the summary."""
    cases = figures["cases"] if figures else [None] * len(GPU_CASES)
    return [
        Bar(
            f"one GPU, {known.name}: against packed rows that repeat the question, share of the ceiling",
            "≥",
            BAR,
            share_of_ceiling(case) if case else None,
            "{:.2f}",
            "",
        )
        for known, case in zip(GPU_CASES, cases, strict=False)
    ]


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    lines = [
        f"Lengths: {figures['lengths']}; {GROUPS} groups at once, forward and backward, logits kept. MFU counts 6 N D"
        " over the tokens that a way reads; the head's weights count for predicted positions, attention is left out."
        f" Elsewhere: {ELSEWHERE}, attention counted.",
    ]
    for case in figures["cases"]:
        lines += ["", _case_table(case), "", _case_line(case)]
        if case["left_out"]:
            lines += ["", f"flash-pref was left out: {case['left_out']}."]
    return "\n".join(lines)


def _case_line(case: dict[str, Any]) -> str:
    limit, share = summary(ceilings(case)), share_of_ceiling(case)
    reached = share.text("{:.0%}") if share else NOT_MEASURED
    return (
        f"Ceiling G (P + R) / (P + G R) at these lengths: {limit.text()}×; reached: {reached} of it. Peak rate:"
        f" {case['peak'] / 1e12:.3g} · 10¹² a second, {case['peak_source']}."
    )


def _case_table(case: dict[str, Any]) -> str:
    labels = {name: variant.label for name, variant in ENGINES.items()}
    labels[FLASH_PREF] = "flash-pref's shared prefix, padded rows"
    rows = []
    for name, label in labels.items():
        done = [batch for batch in case["batches"] if "seconds" in batch["variants"].get(name, {})]
        if not done:
            if name != FLASH_PREF:
                rows.append([label, "", OUT_OF_MEMORY, "", ""])
            continue
        taken = summary([batch["variants"][name]["seconds"] for batch in done])
        tokens = summary([batch["variants"][name]["processed"] / batch["unique"] for batch in done])
        faster, used = speed(case, name), utilisation(case, name)
        rows.append(
            [
                label,
                f"{tokens.median:.2f}",
                taken.text("{:.3g}", " s"),
                faster.text(unit="×") if faster and name != "shared" else "",
                f"{used.median:.1%}" if used else NOT_MEASURED,
            ]
        )
    header = [f"{case['shape']['name']}, {case['dtype']}", "tokens / unique", "time", "question once is faster", "MFU"]
    return table(header, rows)
