"""SmolLM2-135M on real questions and answers: the alignment step, DPO and sampling against the ways of others.

The checkpoint is `AFT_SMOLLM2`, else `models/smollm2-135m`, which `make smollm2` makes. Texts are GSM8K's questions
with the recorded solutions of four models, and ECQA's questions with explanations. Where the files are absent, random
ids of about the same lengths stand in.

The strongest rival of the shared question is one row without padding in which every response repeats its question
(padding-free). Sharing is faster than it by G (P + R) / (P + G R) at most, if time is proportional to tokens: P tokens
of a question, R of a response, G responses a group.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import step
import trl_dpo
from aft.device import bfloat16_flags, forget
from aft.encoding import TextEncoder
from aft.model import load_model, load_tokenizer
from aft.sampling.decoding import Decoding, Wanted, decode
from aft.scoring.packing import Item
from aft.tasks import make_task
from bars import NOT_MEASURED, Bar, table
from groups import MODELS, Lengths, generated_groups, padding_ratio, shared_folder, typical_batches, with_six_samples
from groups import alignment_items as random_items
from shapes import Shape, clear_gradients, floor_operations
from timing import Settings, Summary, in_turn, ratios, seconds, summary
from variants import KEPT, NAIVE, Collated, Engine, Variant, alignment_step_loss, check_agreement

TITLE = "A real pretrained model"
ROOT = Path(__file__).resolve().parents[1]
REPEATED = Variant("packed", "one row without padding, question repeated (padding-free)", "packed", keep=True)
SHARED = dataclasses.replace(KEPT, name="shared", label="**one row without padding, question once**")
STEPS = {variant.name: variant for variant in (NAIVE, REPEATED, SHARED)}
BAR = 0.9  # of the ceiling over packing
RIGHT = 4  # of a group's 7 responses in DPO; the other 3 are wrong
DPO = "covering-precomputed"  # the pairs that cost TRL least
QUESTIONS, SAMPLES, MOST_NEW = 4, 6, 96  # of sampling
KINDS = {
    "products of the layers": "products",
    "products of the head": "head",
    "attention": "attention",
    "softmax over the vocabulary": "softmax",
    "other work on numbers": "other",
    "copies": "copies",
}
_ANNOTATION = re.compile(r"<<[^<>]*>>")


def checkpoint() -> Path:
    """The folder of the converted model."""
    return Path(os.environ.get("AFT_SMOLLM2") or ROOT / "models" / "smollm2-135m")


def missing() -> str | None:
    """Why this part cannot be measured here, or None."""
    if (checkpoint() / "config.json").exists():
        return None
    return f"{checkpoint()} is not there: run `make smollm2`, or set AFT_SMOLLM2 to the converted model"


# ---- groups ----


@dataclasses.dataclass(frozen=True)
class Texts:
    """Tokenised groups of one data set, all of the same number of responses."""

    items: list[Item]
    source: str

    @functools.cached_property
    def lengths(self) -> list[Lengths]:
        """The lengths of every group."""
        return [Lengths(len(item.prompt_ids), tuple(map(len, item.responses))) for item in self.items]

    def batches(self, size: int, count: int) -> list[list[Item]]:
        """Batches of `size` groups at evenly spread quantiles of what padding would cost them."""
        by_lengths = dict(zip(self.lengths, self.items, strict=True))
        return [[by_lengths[group] for group in batch] for batch in typical_batches(self.lengths, size, count)]

    def figures(self) -> dict[str, Any]:
        """Mean lengths in tokens, and the ceiling of sharing over packing at these lengths."""
        prompt = statistics.mean(group.prompt for group in self.lengths)
        response = statistics.mean(length for group in self.lengths for length in group.responses)
        responses = len(self.lengths[0].responses)
        return {
            "source": self.source,
            "prompt": prompt,
            "response": response,
            "responses": responses,
            "ceiling": ceiling(prompt, response, responses),
        }


def ceiling(prompt: float, response: float, responses: int) -> float:
    """Tokens of packed rows that repeat the question, over tokens of rows that share it."""
    return responses * (prompt + response) / (prompt + responses * response)


def gsm8k(encoder: TextEncoder, vocabulary: int) -> Texts:
    """Groups of a reference and six recorded solutions, as configs/gsm8k/smollm2-135m.yaml writes them."""
    path = shared_folder() / "data" / "gsm8k" / "example_model_solutions_first_half.jsonl"
    if not path.exists():
        return _generated("GSM8K", 35, vocabulary)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [[row["ground_truth"], *(row[model]["solution"] for model in MODELS)] for row in rows]
    questions = [row["question"] for row in rows]
    ids = [
        tuple(encoder.response(question, _as_trained(text)) for text in each)
        for question, each in zip(questions, texts, strict=True)
    ]
    groups = with_six_samples(list(zip(questions, ids, strict=True)), len)
    return Texts([_item(encoder, *group) for group in groups], f"GSM8K, {path.name}")


def _as_trained(solution: str) -> str:
    return _ANNOTATION.sub("", solution).replace("\nA: ", "\n#### ")


def ecqa(encoder: TextEncoder, vocabulary: int) -> Texts:
    """ECQA's questions; the samples of a question are references of six others, as one is recorded for each."""
    folder = shared_folder() / "data" / "ecqa"
    if not folder.exists():
        return _generated("ECQA", 0, vocabulary)
    task = make_task("ecqa", path=str(folder), num_train=600)
    questions = task.load("train")
    responses = [encoder.response(question.question, task.reference_response(question)) for question in questions]
    generator = random.Random(0)
    groups = [
        (question.question, (own, *generator.sample(responses, 6)))
        for question, own in zip(questions, responses, strict=True)
    ]
    items = [_item(encoder, *group) for group in groups]
    return Texts(items, "ECQA, ecqa_train.jsonl, its explanations in random groups")


def _item(encoder: TextEncoder, question: str, responses: Sequence[list[int]]) -> Item:
    """The reference is supervised, the samples are candidates, every other one right."""
    return Item(
        question_id=question,
        prompt_ids=encoder.prompt(question),
        responses=list(responses),
        supervised=[place == 0 for place in range(len(responses))],
        ratings=[None, *(float(place % 2 == 0) for place in range(len(responses) - 1))],
    )


def _generated(name: str, more: int, vocabulary: int) -> Texts:
    """Random ids; `more` prompt tokens for a system turn."""
    lengths = [dataclasses.replace(group, prompt=group.prompt + more) for group in generated_groups(300)]
    return Texts(random_items(lengths, vocabulary), f"random ids of about {name}'s lengths, as its files are absent")


# ---- the alignment step ----


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared on batches of how many groups."""

    texts: str
    dtype: str
    size: int
    variants: tuple[Variant, ...]
    most_batches: int = 10


def cases_for(native: bool) -> list[Case]:
    """What is measured; without instructions for bfloat16 only a little of it, because they are imitated slowly."""
    both, every = (REPEATED, SHARED), (NAIVE, REPEATED, SHARED)
    found = [
        Case("gsm8k", "float32", 2, both),
        Case("gsm8k", "float32", 1, every),
        Case("ecqa", "float32", 2, both),
    ]
    if native:
        return found + [dataclasses.replace(case, dtype="bfloat16") for case in found]
    return [*found, Case("gsm8k", "bfloat16", 1, both, most_batches=2)]


def has_bfloat16(device: str) -> bool:
    """True if products of bfloat16 have instructions of their own."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(bfloat16_flags())


def measure(settings: Settings) -> dict[str, Any]:
    """The alignment step of every case, its profile, DPO, sampling."""
    tokenizer, model = load_tokenizer(str(checkpoint())), load_model(str(checkpoint())).to(settings.device)
    native = has_bfloat16(settings.device)
    encoder = TextEncoder(tokenizer, "{question}", chat=True)
    texts = {make.__name__: make(encoder, model.config.vocab_size) for make in (gsm8k, ecqa)}
    sampling = measure_sampling(model, texts["gsm8k"].items, settings)
    model.train()
    clear_gradients(model)
    engines = {name: Engine(model, variant) for name, variant in STEPS.items()}
    cases = [measure_case(engines, texts[case.texts], case, settings) for case in cases_for(native)]
    figures = {
        "model": checkpoint().name,
        "native_bfloat16": native,
        "texts": {name: each.figures() for name, each in texts.items()},
        "cases": cases,
        "optimizer": measure_optimizer(model, settings),
        "profile": measure_profile(engines, texts["gsm8k"].batches(2, 1)[0], settings),
        "sampling": sampling,
    }
    del engines
    forget()
    return {**figures, "dpo": measure_dpo(model, texts["gsm8k"], settings)}


def measure_case(engines: dict[str, Engine], texts: Texts, case: Case, settings: Settings) -> dict[str, Any]:
    """Seconds and processor seconds of each variant, forward and backward, batch by batch in turn."""
    names = [variant.name for variant in case.variants]
    shape = shape_of(engines[names[0]].model)
    shortest = min(texts.items, key=lambda item: len(item.prompt_ids) + sum(map(len, item.responses)))
    for name in names:  # warms up
        _step(engines[name], engines[name].collate([shortest]), case.dtype)
    batches = []
    for turn, items in enumerate(texts.batches(case.size, min(settings.repeats, case.most_batches))):
        variants: dict[str, Any] = {}
        for name in in_turn(names, turn):
            engine = engines[name]
            batch = engine.collate(items)
            engine.clear()
            begun = time.process_time()
            taken, loss = seconds(functools.partial(_step, engine, batch, case.dtype), settings.device)
            variants[name] = {
                "seconds": taken,
                "processor": time.process_time() - begun,
                "processed": batch.processed,
                "loss": loss.item(),
            }
        check_agreement({name: row["loss"] for name, row in variants.items()}, getattr(torch, case.dtype))
        lengths = [Lengths(len(item.prompt_ids), tuple(map(len, item.responses))) for item in items]
        repeated = [Lengths(group.prompt, (length,)) for group in lengths for length in group.responses]
        batches.append(
            {
                "groups": len(items),
                "padding": padding_ratio(lengths),
                "ceiling": variants["packed"]["processed"] / variants["shared"]["processed"],
                "operations": floor_operations(shape, repeated) / floor_operations(shape, lengths),
                "variants": variants,
            }
        )
    return {"texts": case.texts, "dtype": case.dtype, "size": case.size, "batches": batches}


def _step(engine: Engine, batch: Collated, dtype: str) -> torch.Tensor:
    """Forward and backward; bfloat16 as training has it, with autocast on float32 weights."""
    with torch.autocast(engine.device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        seq_logps, lengths = engine.score(batch)
        loss = alignment_step_loss(seq_logps, lengths, batch.whole)
    loss.backward()
    return loss.detach()


def shape_of(model: PreTrainedModel) -> Shape:
    """The sizes that operations are counted from."""
    config = model.config
    return Shape(
        "",
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.intermediate_size,
        config.vocab_size,
    )


def measure_optimizer(model: PreTrainedModel, settings: Settings) -> list[float]:
    """Seconds of AdamW's step, the same for every layout. A learning rate of 0 leaves the weights as they are."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    optimizer.step()  # makes its moments
    return [seconds(optimizer.step, settings.device)[0] for _ in range(settings.repeats)]


# ---- where the time goes ----


def measure_profile(engines: dict[str, Engine], items: Sequence[Item], settings: Settings) -> dict[str, Any]:
    """Processor seconds of one step by kind of work, packed and shared, in float32."""
    found = {}
    for name in (REPEATED.name, SHARED.name):
        engine = engines[name]
        batch = engine.collate(items)
        engine.clear()
        activities = [torch.profiler.ProfilerActivity.CPU]
        if settings.on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
            _step(engine, batch, "float32")
        vocabulary = engine.model.config.vocab_size
        kinds = dict.fromkeys(KINDS.values(), 0.0)
        for event in profile.key_averages(group_by_input_shape=True):
            taken = event.self_device_time_total if settings.on_gpu else event.self_cpu_time_total
            kinds[kind_of(event.key, event.input_shapes, vocabulary)] += taken / 1e6
        found[name] = {"processed": batch.processed, "predicted": len(batch.whole["targets"]), "kinds": kinds}
    return found


def kind_of(name: str, shapes: Sequence[Sequence[int]], vocabulary: int) -> str:
    """The kind of work (a value of KINDS) of one profiled operation."""
    wide = any(vocabulary in shape for shape in shapes if isinstance(shape, list))
    if re.search(r"::(mm|addmm_?|bmm|linear)$", name):
        return "head" if wide else "products"
    if "attention" in name.lower():
        return "attention"
    if wide and ("softmax" in name or name in ("aten::exp_", "aten::gather", "aten::scatter_add_")):
        return "softmax"
    return "copies" if re.search(r"::(copy_|cat|split|index|index_select|clone)", name) else "other"


# ---- DPO and sampling ----


def measure_dpo(model: PreTrainedModel, texts: Texts, settings: Settings) -> dict[str, Any] | None:
    """Seconds of a DPO step of one group, TRL's on covering pairs and ours on the whole group; None without TRL."""
    if trl_dpo.missing():
        return None
    items = [
        dataclasses.replace(
            item,
            supervised=[False] * len(item.responses),
            ratings=[float(place < RIGHT) for place in range(len(item.responses))],
        )
        for (item,) in texts.batches(1, settings.repeats)
    ]
    return trl_dpo.compare(model, items, settings, names=(DPO,))


def measure_sampling(model: PreTrainedModel, items: Sequence[Item], settings: Settings) -> list[dict[str, Any]]:
    """Tokens and seconds of sampling, ours and transformers' in turn, on the same questions with draws of their own."""
    model.eval()
    generator = random.Random(0)
    ways: dict[str, Callable[[list[list[int]], int], int]] = {
        "ours": functools.partial(_with_ours, model),
        "generate": functools.partial(_with_generate, model),
    }
    found = []
    for turn in range(settings.repeats):
        prompts = [item.prompt_ids for item in generator.sample(list(items), QUESTIONS)]
        row: dict[str, Any] = {}
        for name in in_turn(list(ways), turn):
            taken, tokens = seconds(functools.partial(ways[name], prompts, turn), settings.device)
            row[name] = {"seconds": taken, "tokens": tokens}
        found.append(row)
    return found


def _with_ours(model: PreTrainedModel, prompts: list[list[int]], seed: int) -> int:
    """Tokens written by this library's loop, end tokens included."""
    wanted = [
        Wanted(tuple(prompt), (seed * 1000 + row) * 100 + sample)
        for row, prompt in enumerate(prompts)
        for sample in range(SAMPLES)
    ]
    end = model.config.eos_token_id
    written = decode(model, wanted, Decoding(MOST_NEW), ends=frozenset({end}), pad=end, slots=len(wanted))
    return sum(len(tokens) for _, tokens in written)


def _with_generate(model: PreTrainedModel, prompts: list[list[int]], seed: int) -> int:
    """Tokens written by transformers' own loop, up to the end token of each."""
    torch.manual_seed(seed)
    end, width = model.config.eos_token_id, max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    result = model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        top_k=0,  # the model's own distribution, as ours
        top_p=1.0,
        temperature=1.0,
        num_return_sequences=SAMPLES,
        max_new_tokens=MOST_NEW,
        eos_token_id=end,
        pad_token_id=end,
    )
    ended = result[:, width:] == end
    return int(torch.where(ended.any(-1), ended.int().argmax(-1) + 1, ended.shape[1]).sum())


# ---- reading the figures ----


def find(figures: dict[str, Any] | None, texts: str, dtype: str, name: str) -> dict[str, Any] | None:
    """The case with the most groups at once that has this variant."""
    cases = [
        case
        for case in (figures or {"cases": []})["cases"]
        if case["texts"] == texts and case["dtype"] == dtype and name in case["batches"][0]["variants"]
    ]
    return max(cases, key=lambda case: case["size"], default=None)


def share_of_ceiling(case: dict[str, Any] | None) -> Summary | None:
    """Speed over packed rows as a share of each batch's ceiling, batch by batch."""
    if case is None:
        return None
    return summary([_faster(batch, "packed") / batch["ceiling"] for batch in case["batches"]])


def _faster(batch: dict[str, Any], name: str, clock: str = "seconds") -> float:
    return batch["variants"][name][clock] / batch["variants"]["shared"][clock]


def sampling_speed(figures: dict[str, Any] | None) -> Summary | None:
    """Tokens a second, ours over those of `generate`."""
    if not figures or not figures["sampling"]:
        return None
    rates = [[row[way]["tokens"] / row[way]["seconds"] for row in figures["sampling"]] for way in ("ours", "generate")]
    return ratios(*rates)


def dpo_speed(figures: dict[str, Any] | None) -> Summary | None:
    """How many times faster our DPO step is than TRL's."""
    return trl_dpo.speed(figures["dpo"], DPO) if figures and figures["dpo"] else None


def bars(figures: dict[str, Any] | None) -> list[Bar]:
    """The rows of the summary."""
    naive = find(figures, "gsm8k", "float32", "naive")
    found = [
        Bar(
            f"SmolLM2-135M, {dtype}: alignment step against packed rows that repeat the question, share of the ceiling",
            "≥",
            BAR,
            share_of_ceiling(find(figures, "gsm8k", dtype, "packed")),
            unit="",
        )
        for dtype in ("float32", "bfloat16")
    ]
    against_naive = step.speed(naive, naive["size"], "naive", "shared") if naive else None
    return [
        *found,
        Bar("SmolLM2-135M: alignment step against naive padding with full logits, 1 group", "≥", 1.7, against_naive),
        Bar("SmolLM2-135M: TRL's DPOTrainer, covering pairs, reference precomputed", "≥", 2, dpo_speed(figures)),
        Bar(
            f"SmolLM2-135M: sampling 6 a question against `generate`, {QUESTIONS} prompts",
            "≥",
            1.6,
            sampling_speed(figures),
        ),
    ]


def headline(figures: dict[str, Any]) -> str:
    """The table of README.md: what is faster than which rival, and by how much it could be."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        case = find(figures, "gsm8k", dtype, "packed")
        if case:
            limit = statistics.median(batch["ceiling"] for batch in case["batches"])
            faster = summary([_faster(batch, "packed") for batch in case["batches"]])
            rival = f"packed rows that repeat the question (padding-free), {dtype}"
            rows.append([rival, f"{faster.text(unit='×')} of at most {limit:.2f}×"])
    for bar in bars(figures)[2:]:
        if bar.found is not None:
            rows.append([bar.measure.removeprefix("SmolLM2-135M: "), bar.cells()[2]])
    return table(["SmolLM2-135M on GSM8K, faster than", "median (range)"], rows)


def render(figures: dict[str, Any]) -> str:
    """The part of docs/performance.md."""
    return "\n\n".join(
        [
            _ceilings(figures),
            *(_case_table(case, figures["optimizer"]) for case in figures["cases"]),
            _profile_table(figures),
            _others(figures),
        ]
    )


def _ceilings(figures: dict[str, Any]) -> str:
    rows = [
        [
            each["source"],
            f"{each['prompt']:.0f}",
            f"{each['response']:.0f}",
            f"{each['responses']}",
            f"{each['ceiling']:.2f}×",
        ]
        for each in figures["texts"].values()
    ]
    header = ["texts", "P: tokens of a question", "R: of a response", "G: responses", "ceiling G (P + R) / (P + G R)"]
    slow = "" if figures["native_bfloat16"] else " This processor has no instructions for bfloat16, so it is imitated."
    return f"{table(header, rows)}\n\nbfloat16 is autocast on float32 weights.{slow}"


def _case_table(case: dict[str, Any], optimizer: Sequence[float]) -> str:
    rows = []
    update = statistics.median(optimizer)
    for name in (name for name in STEPS if name in case["batches"][0]["variants"]):
        each = [batch["variants"][name] for batch in case["batches"]]
        cells = [STEPS[name].label, summary([row["seconds"] for row in each]).text("{:.3g}", " s")]
        if name == SHARED.name:
            rows.append([*cells, *[""] * 5])
            continue
        faster = summary([_faster(batch, name) for batch in case["batches"]])
        processor = summary([_faster(batch, name, "processor") for batch in case["batches"]])
        whole = summary(
            [
                (batch["variants"][name]["seconds"] + update) / (batch["variants"]["shared"]["seconds"] + update)
                for batch in case["batches"]
            ]
        )
        cells += [faster.text(unit="×"), processor.text(unit="×"), whole.text(unit="×")]
        if name == REPEATED.name:
            limits = [statistics.median(batch[key] for batch in case["batches"]) for key in ("ceiling", "operations")]
            share = share_of_ceiling(case)
            cells += [" / ".join(f"{limit:.2f}×" for limit in limits), share.text() if share else NOT_MEASURED]
        else:
            cells += ["", ""]
        rows.append(cells)
    size = case["size"]
    title = f"{case['texts'].upper()}, {case['dtype']}, {size} group{'s' if size > 1 else ''} a step"
    header = [
        title,
        "time",
        "question once is faster",
        "by processor time",
        "with AdamW's step",
        "ceiling in tokens / in operations",
        "share of the ceiling in tokens",
    ]
    return table(header, rows)


def _profile_table(figures: dict[str, Any]) -> str:
    packed, shared = (figures["profile"][name] for name in (REPEATED.name, SHARED.name))
    rows = []
    for label, kind in [*KINDS.items(), ("all", "")]:
        taken = [sum(each["kinds"].values()) if not kind else each["kinds"][kind] for each in (packed, shared)]
        part = f"{taken[1] / sum(shared['kinds'].values()):.0%}"
        rows.append(
            [label, *(f"{value:.2f} s" for value in taken), f"{taken[0] / taken[1]:.2f}×" if taken[1] else "", part]
        )
    text = (
        f"Profile of one step of 2 groups of GSM8K in float32, by torch.profiler: {packed['processed']:,} tokens with"
        f" the question repeated, {shared['processed']:,} with it once, {shared['predicted']:,} predicted positions in"
        " both."
    )
    header = ["work", "question repeated", "question once", "ratio", "share of the time with the question once"]
    return f"{text}\n\n{table(header, rows)}"


def _others(figures: dict[str, Any]) -> str:
    rows = []
    dpo = figures["dpo"]
    if dpo:
        for name, label in ((DPO, trl_dpo.SETTINGS[DPO][0]), ("ours", trl_dpo.OURS["ours"])):
            taken = summary([group["seconds"][name] for group in dpo["groups"]])
            faster = dpo_speed(figures) if name == DPO else None
            rows.append(
                ["DPO step, 1 group", label, taken.text("{:.3g}", " s"), faster.text(unit="×") if faster else ""]
            )
    for way, label in (("generate", f"generate(num_return_sequences={SAMPLES})"), ("ours", "ours, continuous")):
        rate = summary([row[way]["tokens"] / row[way]["seconds"] for row in figures["sampling"]])
        faster = sampling_speed(figures) if way == "generate" else None
        measure = f"sampling {SAMPLES} of at most {MOST_NEW} tokens, {QUESTIONS} questions"
        rows.append([measure, label, rate.text("{:.0f}", " tokens a second"), faster.text(unit="×") if faster else ""])
    note = "" if dpo else "TRL is not installed here, so DPO was not measured (`pip install -e '.[bench]'`).\n\n"
    return note + table(["float32", "way", "time or speed", "ours is faster"], rows)
