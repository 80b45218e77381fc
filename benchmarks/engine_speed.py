"""Sampling with SmolLM2-135M: useful tokens per second of vLLM, of this library's loop and of `generate`.

AFT_VLLM_PYTHON names an interpreter that has vLLM, AFT_SMOLLM2 the checkpoint (default: models/smollm2-135m).

Ways are measured in turn, so that other work on the machine slows all of them. Tokens per second of processor time hold
on a machine with other work, where tokens per second do not: processes need not get equal shares of it. A size is left
out if the last one was so slow that it would take longer than AFT_SPEED_MINUTES (default: 20) a way. AFT_SPEED_TOKENS
is the length limit (default: 96).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import engines
import real
from aft.device import bfloat16_flags, forget
from aft.model import load_model, load_tokenizer
from aft.run.engines import vllm_versions
from aft.sampling import Decoding, Request, TransformersEngine, VllmEngine, make_seeds
from aft.tasks import make_task
from bars import Bar, table
from groups import shared_folder
from timing import Settings

TITLE = "vLLM's speed"
SAMPLES, ROWS = 6, 96
SIZES = (16, 64, 256)  # prompts
OTHER = "vLLM"


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    return engines.missing() or real.missing()


def bars(figures: Any) -> list[Bar]:
    """None: the speeds depend on the machine."""
    return []


def limit() -> int:
    """The longest completion, in tokens."""
    return int(os.environ.get("AFT_SPEED_TOKENS") or 96)


def requests(tokenizer: Any, count: int) -> list[Request]:
    """The first questions of GSM8K's test set; made-up ones where the data are not at hand."""
    path = shared_folder() / "data" / "gsm8k"
    texts = [f"Ann has {n} pens and buys {n + 3} more in the shop. How many pens has Ann now?" for n in range(count)]
    if (path / "test.jsonl").exists():
        texts = [question.question for question in make_task("gsm8k", path=str(path)).load("test", seed=0)[:count]]
    prompts = [tokenizer(f"Question: {text}\nAnswer:\n")["input_ids"] for text in texts]
    seeds = [make_seeds(f"q{n}", range(SAMPLES), "speed", 0) for n in range(count)]
    return [Request(f"q{n}", tuple(ids), seeds[n]) for n, ids in enumerate(prompts)]


@torch.inference_mode()
def generated(model: PreTrainedModel, tokenizer: Any, wanted: Sequence[Request], ends: list[int]) -> int:
    """Useful tokens of `generate`, at most `ROWS` rows at once, prompts of similar lengths together."""
    ordered = sorted(wanted, key=lambda request: len(request.prompt_ids))
    pad, useful = ends[0], 0
    for first in range(0, len(ordered), ROWS // SAMPLES):
        prompts = [list(request.prompt_ids) for request in ordered[first : first + ROWS // SAMPLES]]
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        made = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=limit(),
            num_return_sequences=SAMPLES,
            eos_token_id=ends,
            pad_token_id=pad,
        )
        for row in made[:, width:].tolist():
            useful += next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return useful


def processor_seconds(engine: VllmEngine) -> float:
    """What this process and vLLM's have used of the processors. Other work on the machine does not count in it."""
    times = (
        Path(f"/proc/{engine._processes[0]._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    )
    return time.process_time() + (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def throughput(
    engine: VllmEngine, model: PreTrainedModel, tokenizer: Any, ends: list[int], repeats: int
) -> dict[str, Any]:
    """Useful tokens per second of each way at each size, measured in turn."""
    own = TransformersEngine(model, tokenizer, ROWS)
    ways: dict[str, Callable[[Sequence[Request]], int]] = {
        OTHER: lambda wanted: sum(c.num_tokens for c in engine.generate(engine.plan(wanted), Decoding(limit()))),
        "this library's loop": lambda wanted: sum(
            c.num_tokens for c in own.generate(own.plan(wanted), Decoding(limit()))
        ),
        "generate": lambda wanted: generated(model, tokenizer, wanted, ends),
    }
    longest = 60 * float(os.environ.get("AFT_SPEED_MINUTES") or 20)
    for way in ways.values():
        way(requests(tokenizer, 2))
    found: dict[str, Any] = {}
    slowest = dict.fromkeys(ways, 0.0)  # seconds a prompt
    for size in SIZES:
        wanted = requests(tokenizer, size)
        measured = {name: [] for name in ways if slowest[name] * size <= longest}
        for _ in range(repeats if size == SIZES[0] else 1):
            for name in measured:
                begun, worked = time.perf_counter(), processor_seconds(engine)
                tokens = ways[name](wanted)
                took, worked = time.perf_counter() - begun, processor_seconds(engine) - worked
                measured[name].append([tokens / took, tokens / worked])
                slowest[name] = max(slowest[name], took / size)
                load = os.getloadavg()[0]
                rates = f"{tokens / took:,.0f} tokens/s, {tokens / worked:,.0f} by processor time"
                print(f"{size} prompts, {name}: {rates}, load {load:.1f}", flush=True)
        found[str(size)] = measured
    return found


def measure(settings: Settings) -> dict[str, Any]:
    """The speeds in float32, and in bfloat16 where the processor has instructions for it."""
    folder = real.checkpoint()
    tokenizer = load_tokenizer(str(folder))
    figures: dict[str, Any] = {"vllm": vllm_versions(), "load": [os.getloadavg()[0]], "tokens": limit(), "speeds": {}}
    for dtype in ["float32", *(["bfloat16"] if bfloat16_flags() else [])]:
        model = load_model(str(folder), dtype=dtype).eval()
        ends, wanted = engines.ends_of(model, tokenizer), requests(tokenizer, max(SIZES))
        with engines.open_vllm(folder, dtype, tokenizer, ends, wanted, limit(), ROWS) as engine:
            figures["speeds"][dtype] = throughput(engine, model, tokenizer, ends, settings.repeats)
        del model
        forget()
    figures["load"].append(os.getloadavg()[0])
    return figures


def render(figures: dict[str, Any]) -> str:
    """What stands in docs/performance.md."""
    version, new, load = figures["vllm"]["vllm"], figures["tokens"], figures["load"]
    lines = [
        f"vLLM {version}, without compilation. Questions of GSM8K, at most {new} new tokens, {ROWS} rows at once;"
        f" useful tokens per second. The machine's load at the start and at the end: {load[0]:.1f} and {load[-1]:.1f}.",
    ]
    for dtype, sizes in figures["speeds"].items():
        names = list(next(iter(sizes.values())))
        for place, what in enumerate(("second", "second of processor time")):
            cells = [
                [
                    f"{size} × {SAMPLES}",
                    *(_speed(measured.get(name), place) for name in names),
                    *_ratios(measured, place),
                ]
                for size, measured in sizes.items()
            ]
            heads = [f"{dtype}, tokens per {what}", *names, *(f"{OTHER} ÷ {name}" for name in names if name != OTHER)]
            lines += ["", table(heads, cells)]
    return "\n".join(lines)


def _speed(values: list[list[float]] | None, place: int) -> str:
    return "left out" if not values else f"{statistics.median(value[place] for value in values):,.0f}"


def _ratios(measured: dict[str, list[list[float]]], place: int) -> list[str]:
    found = []
    for name in ("this library's loop", "generate"):
        pairs = list(zip(measured.get(OTHER) or [], measured.get(name) or [], strict=False))
        found.append(f"{statistics.median(a[place] / b[place] for a, b in pairs):.2f}×" if pairs else "left out")
    return found
