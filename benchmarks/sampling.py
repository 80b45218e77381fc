"""Sampling 6 completions per question: useful tokens per second of this library against transformers' `generate`.

    python benchmarks/sampling.py

The model is random, so the lengths are made: a forward hook, the same for all variants, overwrites the logits after
the model has computed them. The first token of a completion says how many follow, drawn from the lengths of GSM8K's
model solutions, and each token after it counts one down until the end token; what is longer than the limit never
ends. `generate` is then given the very lengths that this library drew, so that all variants write the same tokens.
Prompts have the lengths of GSM8K's questions. Useful tokens are those up to and including the end token.

Variants alternate in one process; every repeat has other questions and lengths. Speeds are medians with ranges over
the repeats, a ratio is the median of the repeats' own ratios.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from aft.sampling.decoding import Decoding, Wanted, decode
from bars import table
from groups import shared_folder

NUM_SAMPLES, LIMIT, REPEATS, PROMPTS = 6, 512, 3, (4, 16)
MEAN_PROMPT, MEAN_RESPONSE = 80, 95  # GSM8K's, in tokens of a Llama
SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2, "num_attention_heads": 4}
# a small vocabulary, or the head and the draw from it would outweigh a body so small
VOCABULARY, PAD, END, BEGIN, COUNT = 2048, 0, 1, 2, 10
FORCED = 200.0  # a logit beside which the model's own have probability 0


# ---- lengths ----


def real_lengths() -> tuple[list[int], list[int]]:
    """Lengths of questions and of solutions, in tokens; of the same distribution where GSM8K is not at hand."""
    path = shared_folder() / "data" / "gsm8k" / "example_model_solutions_first_half.jsonl"
    if not path.exists():
        generator = random.Random(0)
        questions = [round(generator.lognormvariate(4.33, 0.32)) for _ in range(660)]
        solutions = [round(generator.lognormvariate(4.43, 0.45)) for _ in range(2640)]
        solutions[::600] = [1500] * len(solutions[::600])  # endless loops
        return questions, solutions
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    questions = [row["question"] for row in rows]
    solutions = [value["solution"] for row in rows for value in row.values() if isinstance(value, dict)]
    return _tokens(questions, MEAN_PROMPT), _tokens(solutions, MEAN_RESPONSE)


def _tokens(texts: Sequence[str], mean: float) -> list[int]:
    """Characters, scaled so that the mean is that of a tokenizer."""
    scale = mean / statistics.mean(map(len, texts))
    return [max(1, round(len(text) * scale)) for text in texts]


class Lengths:
    """The hook: a completion counts down from a length. `plan`: given lengths of the next batch, row by row."""

    def __init__(self, solutions: Sequence[int]) -> None:
        self.plan: Tensor | None = None
        counts = torch.zeros(LIMIT + 1)
        for length in solutions:
            counts[min(length - 1, LIMIT)] += 1  # after the first token; LIMIT: never ends
        self.first = FORCED + counts.log()
        self.next = torch.arange(VOCABULARY) - 1
        self.next[COUNT + LIMIT] = COUNT + LIMIT
        self.next[COUNT + 1] = self.next[:COUNT] = END

    def __call__(self, _: torch.nn.Module, args: Any, inputs: dict[str, Any], output: Any) -> None:
        """Overwrite the logits of the next token by what follows the last one."""
        last, logits = inputs["input_ids"][:, -1], output.logits[:, -1]
        begins = last == BEGIN
        if begins.any() and self.plan is None:
            logits[begins, COUNT : COUNT + LIMIT + 1] = self.first
            logits[begins, END], logits[begins, COUNT] = self.first[0], float("-inf")
        following = self.next[last]
        if begins.any() and self.plan is not None:
            following = torch.where(
                self.plan > LIMIT, COUNT + LIMIT, torch.where(self.plan == 1, END, COUNT + self.plan - 1)
            )
        forced = (~begins).nonzero().squeeze(-1) if self.plan is None else torch.arange(len(last))
        logits[forced, following[forced]] = FORCED


# ---- ways to sample: the lengths of the completions, by prompt, then sample ----


def with_generate(model: PreTrainedModel, lengths: Lengths, prompts: list[list[int]], plan: list[int]) -> list[int]:
    """transformers' own loop, all prompts at once; `plan`: how long the completions are to be."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    lengths.plan = torch.tensor(plan)
    result = model.generate(
        ids,
        attention_mask=(ids != PAD).long(),
        do_sample=True,
        top_k=0,  # the model's own distribution, as ours
        num_return_sequences=NUM_SAMPLES,
        max_new_tokens=LIMIT,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    lengths.plan = None
    written = result[:, width:]
    ended = written == END
    return torch.where(ended.any(-1), ended.int().argmax(-1) + 1, written.shape[1]).tolist()


def with_ours(model: PreTrainedModel, prompts: list[list[int]], seed: int, slots: int | None) -> list[int]:
    """This library's loop, at most `slots` rows at once; None: static batches."""
    wanted = [
        Wanted(tuple(prompt), (seed * 1000 + row) * 100 + n)
        for row, prompt in enumerate(prompts)
        for n in range(NUM_SAMPLES)
    ]
    written = decode(model, wanted, Decoding(LIMIT), ends=frozenset({END}), pad=PAD, slots=slots)
    found = {place: len(tokens) for place, tokens in written}
    return [found[place] for place in range(len(wanted))]


# ---- the measurement ----

GENERATE, STATIC, CONTINUOUS = "generate(num_return_sequences=6)", "ours, static", "ours, continuous"
FEW_ROWS = "ours, continuous, a quarter of the rows"


def measure(repeats: int = REPEATS, prompts: Sequence[int] = PROMPTS) -> list[dict[str, Any]]:
    """Rows with name, variant, prompts, rows (decoded at once), tokens_per_second and ratio (to `generate`).

    All completions of a repeat begin at once, except in the variant with a quarter of the rows, where most wait for a
    place. One thread, and seconds of processor time: what else runs on the machine then matters least.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(repeats, prompts)
    finally:
        torch.set_num_threads(threads)


def _measure(repeats: int, prompts: Sequence[int]) -> list[dict[str, Any]]:
    questions, solutions = real_lengths()
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, **SHAPE, pad_token_id=PAD, eos_token_id=END, bos_token_id=None)
    model, lengths = LlamaForCausalLM(config).eval(), Lengths(solutions)
    model.register_forward_hook(lengths, with_kwargs=True)
    generator = random.Random(0)

    def new_prompts(count: int) -> list[list[int]]:
        drawn = generator.choices(questions, k=count)
        return [[*generator.choices(range(COUNT + LIMIT + 1, VOCABULARY), k=n - 1), BEGIN] for n in drawn]

    with_ours(model, new_prompts(1), 0, 6)  # warms up
    tokens: dict[int, list[int]] = {count: [] for count in prompts}
    seconds: dict[tuple[int, str], list[float]] = {}
    for repeat in range(repeats):
        for count in prompts:
            batch, rows = new_prompts(count), count * NUM_SAMPLES
            ours = functools.partial(with_ours, model, batch, repeat)
            found: dict[str, list[int]] = {}
            for variant, work in (
                (CONTINUOUS, functools.partial(ours, rows)),
                (GENERATE, lambda batch=batch, found=found: with_generate(model, lengths, batch, found[CONTINUOUS])),
                (STATIC, functools.partial(ours, None)),
                (FEW_ROWS, functools.partial(ours, rows // 4)),
            ):
                taken, found[variant] = _timed(work)
                seconds.setdefault((count, variant), []).append(taken)
            assert all(same == found[CONTINUOUS] for same in found.values()), "the variants should write the same"
            tokens[count].append(sum(found[CONTINUOUS]))
    return [
        _row(variant, count, tokens[count], taken, seconds[count, GENERATE])
        for (count, variant), taken in seconds.items()
    ]


def _timed(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _row(variant: str, count: int, tokens: list[int], taken: list[float], by_generate: list[float]) -> dict[str, Any]:
    return {
        "name": f"sampling, {count} prompts",
        "variant": variant,
        "prompts": count,
        "rows": count * NUM_SAMPLES // (4 if variant == FEW_ROWS else 1),
        "tokens_per_second": _spread([n / t for n, t in zip(tokens, taken, strict=True)]),
        "ratio": statistics.median(g / t for g, t in zip(by_generate, taken, strict=True)),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    rows = []
    for row in measure(parser.parse_args().repeats):
        speed = row["tokens_per_second"]
        shown = f"{speed['median']:,.0f} ({speed['min']:,.0f}–{speed['max']:,.0f})"
        rows.append([row["name"], row["variant"], shown, f"{row['ratio']:.2f}×"])
    print(table(["measure", "way", "useful tokens per second", "against `generate`"], rows))


if __name__ == "__main__":
    main()
