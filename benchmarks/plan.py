"""Compare the forecast of `aft-train --plan` with measured peaks, and with published figures of Llama-2.

    python benchmarks/plan.py             measure, and write the tables of docs/plan.md and docs/plan.json
    python benchmarks/plan.py --tables    write the tables again from the JSON file, measuring nothing

Each cell trains two steps with this package's own trainer, one cell after the other in a process of their own. A peak
is the process's resident memory (VmHWM) above what it held right before, after tiny trainings. glibc's thresholds are
fixed, so that every freed tensor goes back at once. Resident memory is the system's own figure, so it shares no
assumption with the forecast.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import page
from aft.device import forget
from aft.json_files import read_json, write_json, write_text
from bars import table
from timing import MB, Settings, added_memory, in_own_process, without_huge_pages

ROOT = Path(__file__).resolve().parents[1]
TEXT, JSON = "plan.md", "plan.json"
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
WAYS = {"full": {}, "LoRA": {"lora": LORA}, "checkpointing": {"checkpointing": True}}
ALLOWED = 0.15
# one call: questions, tokens of a prompt, of each of the reference and six samples
QUESTIONS, PROMPT, RESPONSES = 2, 60, (40,) * 7
CHUNK_MB, KEEP_MB = 64, 512  # the defaults of model.logps_chunk_mb and model.logps_keep_mb

_OF_LLAMA = {"model_type": "llama", "num_attention_heads": 8, "intermediate_size": 688}
SHAPES: dict[str, dict[str, Any]] = {
    "llama, 576 × 2, vocabulary 16k, tied (SmolLM2's width)": {
        **_OF_LLAMA,
        "hidden_size": 576,
        "num_hidden_layers": 2,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 16_000,
        "tie_word_embeddings": True,
    },
    "llama, 256 × 8, vocabulary 4k": {**_OF_LLAMA, "hidden_size": 256, "num_hidden_layers": 8, "vocab_size": 4_000},
    "qwen3, 320 × 5, vocabulary 8k": {
        **_OF_LLAMA,
        "model_type": "qwen3",
        "hidden_size": 320,
        "num_hidden_layers": 5,
        "num_key_value_heads": 2,
        "head_dim": 40,
        "vocab_size": 8_000,
    },
    "gpt2, 256 × 6, vocabulary 8k, tied": {
        "model_type": "gpt2",
        "n_embd": 256,
        "n_layer": 6,
        "n_head": 8,
        "vocab_size": 8_000,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    },
    "gemma3, 320 × 5, vocabulary 8k, tied": {
        **_OF_LLAMA,
        "model_type": "gemma3_text",
        "hidden_size": 320,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 80,
        "vocab_size": 8_000,
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


_HUB = "https://github.com"
_FACTORY_PAGE = (
    f"{_HUB}/hiyouga/LLaMA-Factory/blob/00409ff28a30f48d13b808029d37861423673a4a/README.md#hardware-requirement"
)
_FACTORY = f"[LLaMA-Factory's table]({_FACTORY_PAGE}), an estimate"
_FACTORY_RULE = "the same table's rule for x billion weights, an estimate"
_AXOLOTL = f"[axolotl's example]({_HUB}/axolotl-ai-cloud/axolotl/blob/v0.4.0/examples/llama-2/README.md), in use"
_SWIFT_PAGE = "modelscope/ms-swift/blob/38387317902cbafdbb4d52d71c233bc9bd95eebe/examples/pytorch/llm/scripts"
_SWIFT = f"[ms-swift's script]({_HUB}/{_SWIFT_PAGE}/llama2_70b_chat/qlora/sft.sh), in use"
_CLUB_PAGE = "https://medium.com/polo-club-of-data-science/memory-requirements-for-fine-tuning-llama-2-80f366cba7f5"
_CLUB = f"[Polo Club of Data Science]({_CLUB_PAGE}), by a formula"
# (model, what is trained, published GB, where)
PUBLISHED = [
    ("7B", "all weights, mixed precision", 120, _FACTORY),
    ("7B", "all weights, mixed precision", 110, _CLUB),
    ("7B", "all weights in bfloat16", 60, _FACTORY),
    ("7B", "LoRA on bfloat16", 16, _FACTORY),
    ("7B", "QLoRA", 6, _FACTORY),
    ("7B", "QLoRA", 17, _AXOLOTL),
    ("13B", "all weights, mixed precision", 234, _FACTORY_RULE),
    ("13B", "all weights in bfloat16", 104, _FACTORY_RULE),
    ("13B", "LoRA on bfloat16", 26, _FACTORY_RULE),
    ("13B", "QLoRA", 6.5, _FACTORY_RULE),
    ("70B", "all weights, mixed precision", 1200, _FACTORY),
    ("70B", "all weights in bfloat16", 600, _FACTORY),
    ("70B", "LoRA on bfloat16", 160, _FACTORY),
    ("70B", "QLoRA", 48, _FACTORY),
    ("70B", "QLoRA", 44, _SWIFT),
]


def held(model: str, trained: str) -> float:
    """GB of weights, gradients and optimizer of a Llama-2 in one process."""
    from aft.forecast.memory import ONE, Setup, states
    from aft.forecast.weights import read_architecture

    lora = LORA if "LoRA" in trained else None
    dtype = "float32" if "mixed" in trained else "bfloat16"
    compute = "bfloat16" if dtype == "float32" else None
    setup = Setup(ONE, 1, dtype, compute, "adamw_torch", False, lora, quantised=trained == "QLoRA")
    return states(read_architecture(make_config(LLAMA_2[model]), lora), setup).total / 1e9


def render_published() -> str:
    """The table of published figures."""
    rows = [
        [f"Llama-2 {model}", trained, f"{held(model, trained):,.1f}", f"{published:g}", source]
        for model, trained, published, source in PUBLISHED
    ]
    found = table(["model", "trained", "forecast without activations, GB", "published, GB", "source"], rows)
    return found.replace("]\\(", "](")  # the table's cells are escaped, and these are links


def render(figures: dict[str, Any]) -> str:
    """The table of the measured peaks."""
    rows = [
        [name, way, f"{said / MB:,.0f}", f"{peak / MB:,.0f}", f"{100 * (said / peak - 1):+.1f} %"]
        for name, ways in figures["cells"].items()
        for way, (said, peak) in ways.items()
    ]
    where = f"{figures['date']}, {figures['cpu']}, torch {figures['torch']}, transformers {figures['transformers']}."
    return f"{where}\n\n" + table(["shape", "way", "forecast, MB", "measured, MB", "forecast is off by"], rows)


def write(folder: Path) -> None:
    """Write what stands between the page's marks again."""
    found = {"llama-2": render_published()}
    if figures := read_json(folder / JSON):
        found["peaks"] = render(figures)

    def written(match: re.Match[str]) -> str:
        return f"{match[1]}{found.get(match[2], 'Not measured.')}\n{match[3]}"

    path = folder / TEXT
    write_text(path, page._MARKED.sub(written, path.read_text(encoding="utf-8")))


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
    if not known.tables:
        import torch
        import transformers

        settings = Settings("cpu", known.threads)
        machine = {"date": datetime.date.today().isoformat(), "cpu": page.machine(settings)["cpu"]}
        machine |= {"torch": torch.__version__, "transformers": transformers.__version__}
        write_json(known.output / JSON, {**machine, "cells": measure(settings)})
    write(known.output)
    cells = (read_json(known.output / JSON) or {"cells": {}})["cells"].values()
    worst = max((abs(said / peak - 1) for ways in cells for said, peak in ways.values()), default=0.0)
    print(f"{known.output / TEXT}: a forecast is off by at most {worst:.1%}, allowed: {ALLOWED:.0%}")
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
