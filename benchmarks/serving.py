"""Sampling with an engine each: useful tokens a second of vLLM and of the transformers engine, and that per gigabyte.

The weights are random, so that nothing has to be fetched: completions end by chance or at the limit. On a GPU the model
has Llama 3.2's 1B shape, on a CPU the smallest. vLLM is measured where AFT_VLLM_PYTHON, or this interpreter, has it.
Memory: of the transformers engine the most that torch has reserved, of vLLM what the device has less while it runs; on
a CPU the largest resident size of the process. vLLM reserves a share of the device for its cache whatever it needs.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import engines
from aft.device import forget
from aft.model import build_word_tokenizer
from aft.sampling import Decoding, Request, TransformersEngine, VllmEngine, make_seeds
from bars import Bar, table
from groups import END_ID, FIRST_WORD, load_groups
from shapes import LLAMA_1B, SMALLEST, TINY, Shape, build
from timing import Settings, Summary, summary

TITLE = "Sampling: vLLM against the transformers engine"
SAMPLES = 6
OURS, VLLM = "transformers engine", "vLLM"


def bars(figures: Any) -> list[Bar]:
    """None: the speeds depend on the machine."""
    return []


def measure(
    settings: Settings, shape: Shape | None = None, prompts: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Tokens, seconds and bytes of each engine; `left_out`: why vLLM was not measured."""
    on_gpu = settings.on_gpu
    shape = shape or (TINY if settings.smoke else LLAMA_1B if on_gpu else SMALLEST)
    prompts, limit = prompts or (64 if on_gpu else 4), limit or (128 if on_gpu else 16)
    rows, dtype = prompts * SAMPLES, "bfloat16" if on_gpu else "float32"
    tokenizer = build_word_tokenizer(["word"])
    wanted = requests(prompts, shape.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        model = build(shape, getattr(torch, dtype), settings.device).eval()
        model.save_pretrained(folder)
        # gradients are for training
        model.zero_grad(set_to_none=True)
        found = {OURS: with_transformers(model, tokenizer, wanted, limit, rows, settings)}
        del model
        forget()
        left_out = engines.missing()
        if left_out is None:
            found[VLLM] = with_vllm(Path(folder), dtype, tokenizer, wanted, limit, rows, settings)
    return {
        "shape": shape.name,
        "dtype": dtype,
        "prompts": prompts,
        "limit": limit,
        "engines": found,
        "left_out": left_out,
    }


def requests(count: int, vocabulary: int) -> list[Request]:
    """Prompts of random ids with the lengths of GSM8K's questions."""
    generator = random.Random(0)
    lengths = [group.prompt for group in generator.choices(load_groups()[0], k=count)]
    ids = [tuple(generator.randrange(FIRST_WORD, vocabulary) for _ in range(length)) for length in lengths]
    return [Request(f"q{n}", prompt, make_seeds(f"q{n}", range(SAMPLES), "serving", 0)) for n, prompt in enumerate(ids)]


def with_transformers(
    model: PreTrainedModel, tokenizer: Any, wanted: Sequence[Request], limit: int, rows: int, settings: Settings
) -> dict[str, Any]:
    """The transformers engine with all completions at once."""
    engine = TransformersEngine(model, tokenizer, rows, ends=[END_ID])
    if settings.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    runs = _timed(engine, wanted, limit, settings)
    held = torch.cuda.max_memory_reserved() if settings.on_gpu else _resident(os.getpid())
    return {"runs": runs, "bytes": held}


def with_vllm(
    folder: Path, dtype: str, tokenizer: Any, wanted: Sequence[Request], limit: int, rows: int, settings: Settings
) -> dict[str, Any]:
    """vLLM in its own process."""
    before = torch.cuda.mem_get_info()[0] if settings.on_gpu else 0
    opened = engines.open_vllm(folder, dtype, tokenizer, [END_ID], wanted, limit, rows, on_gpu=settings.on_gpu)
    with opened as engine:
        runs = _timed(engine, wanted, limit, settings)
        held = before - torch.cuda.mem_get_info()[0] if settings.on_gpu else _resident(_process_of(engine))
    return {"runs": runs, "bytes": held}


def _process_of(engine: VllmEngine) -> int:
    return int(engine._processes[0]._process.pid)


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def _timed(engine: Any, wanted: Sequence[Request], limit: int, settings: Settings) -> list[list[float]]:
    """[tokens, seconds] of each repeat."""

    def sample(some: Sequence[Request]) -> int:
        return sum(completion.num_tokens for completion in engine.generate(engine.plan(some), Decoding(limit)))

    sample(wanted[:2])  # warms up
    runs = []
    for _ in range(settings.repeats):
        begun = time.perf_counter()
        tokens = sample(wanted)
        runs.append([float(tokens), time.perf_counter() - begun])
    return runs


# ---- reading the figures ----


def speed(found: dict[str, Any]) -> Summary:
    """Useful tokens a second."""
    return summary([tokens / taken for tokens, taken in found["runs"]])


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    rows = []
    for name, found in figures["engines"].items():
        rate, gigabytes = speed(found), found["bytes"] / 1e9
        rows.append(
            [name, rate.text("{:,.0f}"), f"{gigabytes:.1f} GB", f"{rate.median / gigabytes:,.0f}"],
        )
    text = (
        f"{figures['shape']}, {figures['dtype']}, random weights; {figures['prompts']} prompts with the lengths of"
        f" GSM8K's questions, {SAMPLES} completions of at most {figures['limit']} tokens each, all at once."
    )
    left_out = f"\n\nvLLM was left out: {figures['left_out']}." if figures["left_out"] else ""
    header = ["engine", "useful tokens a second", "memory", "tokens a second and gigabyte"]
    return f"{text}\n\n{table(header, rows)}{left_out}"
