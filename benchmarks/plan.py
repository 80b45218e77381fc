"""Compare the forecast of `aft-train --plan` with measured peaks, and with published figures of Llama-2.

    python benchmarks/plan.py             measure, and write the tables of docs/plan.md and docs/plan.json
    python benchmarks/plan.py --tables    write the tables again from the JSON file, measuring nothing

Each cell trains two steps with this package's own trainer, one cell after the other in a process of their own. A peak is
the process's resident memory (VmHWM) above what it held right before, after tiny trainings. glibc's thresholds are
fixed, so that every freed tensor goes back at once. Resident memory is the system's own figure, so it shares no
assumption with the forecast.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aft.device import forget
from bars import table
from timing import MB, Settings, added_memory, in_own_process, without_huge_pages

ROOT = Path(__file__).resolve().parents[1]
TEXT, JSON = "plan.md", "plan.json"
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
WAYS = {"full": {}, "LoRA": {"lora": LORA}, "checkpointing": {"checkpointing": True}}
ALLOWED = 0.15
# one call: questions, tokens of a prompt, of each of the reference and six samples
QUESTIONS, PROMPT, RESPONSES = 3, 80, (60,) * 7
CHUNK_MB, KEEP_MB = 64, 512  # the defaults of model.logps_chunk_mb and model.logps_keep_mb

_OF_LLAMA = {"model_type": "llama", "num_attention_heads": 8, "intermediate_size": 688}
SHAPES: dict[str, dict[str, Any]] = {
    "llama, 576 × 4, vocabulary 49k, tied (SmolLM2's width)": {
        **_OF_LLAMA,
        "hidden_size": 576,
        "num_hidden_layers": 4,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
    "llama, 256 × 10, vocabulary 8k": {**_OF_LLAMA, "hidden_size": 256, "num_hidden_layers": 10, "vocab_size": 8_000},
    "qwen3, 320 × 6, vocabulary 16k": {
        **_OF_LLAMA,
        "model_type": "qwen3",
        "hidden_size": 320,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "head_dim": 40,
        "vocab_size": 16_000,
    },
    "gpt2, 256 × 6, vocabulary 16k, tied": {
        "model_type": "gpt2",
        "n_embd": 256,
        "n_layer": 6,
        "n_head": 8,
        "vocab_size": 16_000,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    },
    "gemma3, 320 × 6, vocabulary 32k, tied": {
        **_OF_LLAMA,
        "model_type": "gemma3_text",
        "hidden_size": 320,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 80,
        "vocab_size": 32_000,
    },
}


def make_config(shape: dict[str, Any]) -> Any:
    """transformers' configuration of a shape."""
    from transformers import AutoConfig

    keys = {**shape}
    return AutoConfig.for_model(keys.pop("model_type"), **keys)


def forecast(shape: dict[str, Any], way: dict[str, Any]) -> float:
    """Bytes that the plan says for two steps of one call each."""
    from aft.forecast.memory import ONE, Setup, training_memory
    from aft.forecast.trace import Texts, trace_step
    from aft.forecast.weights import read_architecture

    config = make_config(shape)
    setup = Setup(ONE, 1, "float32", None, "adamw_torch", way.get("checkpointing", False), way.get("lora"), cpu=True)
    settings = setup.step(CHUNK_MB * 2**20, KEEP_MB * 2**20, "shared")
    step = trace_step(config, settings, Texts(QUESTIONS, PROMPT, RESPONSES))
    return training_memory(read_architecture(config, way.get("lora")), setup, step, again=False).total


def child(request: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Bytes that building a model and two steps of its training add to this process at their peak, for each cell."""
    import torch

    without_huge_pages()
    torch.set_num_threads(request["threads"])
    tiny = {**_OF_LLAMA, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 500}
    found: dict[str, dict[str, float]] = {}
    for way in WAYS.values():  # what the libraries allocate once and for all is not the training's
        _train(tiny, way)
    for name, shape in request["shapes"].items():
        for way, values in WAYS.items():
            run = functools.partial(_train, shape, values)
            found.setdefault(name, {})[way] = added_memory(run, "cpu")
            print(f"{name}, {way}: {found[name][way] / MB:,.0f} MB", file=sys.stderr, flush=True)
            forget()
    return found


def _train(shape: dict[str, Any], way: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from aft.config.losses import AlignmentLoss
    from aft.model import add_lora, build_word_tokenizer
    from aft.scoring import Item, enable_scoring
    from aft.stages.loss_section import make_objective
    from aft.training.arguments import make_arguments
    from aft.training.job import TrainingJob
    from aft.training.trainer import AftTrainer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(shape), dtype=torch.float32)
    model = add_lora(model, way["lora"]) if "lora" in way else model
    enable_scoring(model, chunk_bytes=CHUNK_MB * 2**20, keep_bytes=KEEP_MB * 2**20)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 500, (count,)).tolist()

    items = [
        Item(
            question_id=str(number),
            prompt_ids=tokens(PROMPT),
            responses=[tokens(length) for length in RESPONSES],
            supervised=[True] + [False] * (len(RESPONSES) - 1),
            ratings=[None, *([1.0, 0.0] * len(RESPONSES))[: len(RESPONSES) - 1]],
        )
        for number in range(2 * QUESTIONS)
    ]
    job = TrainingJob(
        model,
        build_word_tokenizer(["a"]),
        [(item,) for item in items],
        make_objective(AlignmentLoss(), "token_mean"),
        layout="shared",
        description="",
    )
    values = {"per_device_train_batch_size": QUESTIONS, "max_steps": 2, "optim": "adamw_torch", "learning_rate": 1e-6}
    values |= {"logging_strategy": "no", "gradient_checkpointing": way.get("checkpointing", False)}
    with tempfile.TemporaryDirectory() as folder:
        AftTrainer(job, make_arguments(values, Path(folder), seed=0, data_seed=0, cpu=True)).train()


def measure(settings: Settings, shapes: dict[str, dict[str, Any]] = SHAPES) -> dict[str, Any]:
    """(forecast, measured) bytes of each shape and way."""
    request = {"shapes": shapes, "threads": settings.threads}
    peaks = in_own_process(__file__, request, settings)
    return {
        name: {way: (forecast(shape, values), peaks[name][way]) for way, values in WAYS.items()}
        for name, shape in shapes.items()
    }


# ---- Llama-2 beside published figures ----

_LLAMA = {"model_type": "llama", "vocab_size": 32_000, "num_attention_heads": 32}
LLAMA_2: dict[str, dict[str, Any]] = {
    "7B": {**_LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11_008},
    "13B": {
        **_LLAMA,
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "intermediate_size": 13_824,
        "num_attention_heads": 40,
    },
    "70B": {
        **_LLAMA,
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "intermediate_size": 28_672,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}


def render(found: dict[str, Any]) -> str:
    """The table of the measured peaks."""
    rows = [
        [name, way, f"{said / MB:,.0f}", f"{peak / MB:,.0f}", f"{100 * (said / peak - 1):+.1f} %"]
        for name, ways in found.items()
        for way, (said, peak) in ways.items()
    ]
    return table(["shape", "way", "forecast, MB", "measured, MB", "forecast is off by"], rows)


def main() -> int:
    """Measure or only write; 1 if a forecast is off by more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of plan.md and plan.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.child:
        print(json.dumps(child(json.load(sys.stdin))))
        return 0
    settings = Settings("cpu", known.threads)
    begun = time.perf_counter()
    found = measure(settings)
    print(render(found), time.perf_counter() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
