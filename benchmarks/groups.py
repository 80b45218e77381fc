"""Groups with the lengths of real GSM8K solutions. Only lengths matter to speed, so the token ids are random.

All lengths are in tokens; a response's length includes its end token.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from aft.model import build_tokenizer
from aft.scoring.packing import Item

Question, Response = TypeVar("Question"), TypeVar("Response")
SAMPLES = 6  # sampled candidates of a group, beside its reference
PAD_ID, END_ID, FIRST_WORD = 0, 1, 3

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
_VOCABULARY = 32_000  # what the tokenizer aims at; GSM8K's training text has fewer distinct pieces
_INSTRUCTION = 25  # tokens of the instruction around a question: brings GSM8K's mean prompt to about 80

# Where the file is absent: logarithms of lengths, fitted to it once. (mean, spread) of prompts; of responses the mean,
# how far questions differ, how far the responses to one question differ; and the share and length of endless ones.
_PROMPTS = (4.35, 0.25)
_RESPONSES = (4.48, 0.32, 0.27)
_ENDLESS = (0.0005, 1_500)


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of one group: its prompt and each response. The reference is the first."""

    prompt: int
    responses: tuple[int, ...]

    @property
    def unique(self) -> int:
        """Tokens a model must read: the prompt once, each response without its end token, which predicts nothing."""
        return self.prompt + sum(self.responses) - len(self.responses)

    @property
    def predicted(self) -> int:
        """Positions that need the vocabulary projection."""
        return sum(self.responses)

    @property
    def attention_pairs(self) -> int:
        """(query, key) pairs of causal attention, the prompt's counted once."""
        rows = (length - 1 for length in self.responses)
        return _triangle(self.prompt) + sum(length * self.prompt + _triangle(length) for length in rows)


def _triangle(length: int) -> int:
    return length * (length + 1) // 2


def shared_folder() -> Path:
    """Where the public data sets lie: `AFT_SHARED`, else the folder `shared` beside the repository."""
    return Path(os.environ.get("AFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@functools.cache
def load_groups() -> tuple[tuple[Lengths, ...], str]:
    """(groups of a reference and 6 samples, where their lengths come from)."""
    folder = shared_folder() / "data" / "gsm8k"
    solutions = folder / "example_model_solutions_first_half.jsonl"
    if not solutions.exists():
        return tuple(generated_groups(660)), "generated, with the distribution of GSM8K's solutions"
    return tuple(_read_groups(solutions, folder / "train.jsonl")), f"GSM8K, {solutions.name}"


def _read_groups(solutions: Path, train: Path) -> list[Lengths]:
    records = [json.loads(line) for line in solutions.read_text(encoding="utf-8").splitlines()]
    own = [text for record in records for text in _texts(record)]
    if train.exists():
        rows = (json.loads(line) for line in train.read_text(encoding="utf-8").splitlines())
        own = [text for row in rows for text in (row["question"], row["answer"])]
    tokenizer = build_tokenizer(own, _VOCABULARY)
    counted = [[len(ids) for ids in tokenizer(_texts(record))["input_ids"]] for record in records]
    found = with_six_samples([(question, tuple(length + 1 for length in rest)) for question, *rest in counted], int)
    return [Lengths(question + _INSTRUCTION, responses) for question, responses in found]


def _texts(record: dict) -> list[str]:
    return [record["question"], record["ground_truth"], *(record[model]["solution"] for model in MODELS)]


def with_six_samples(
    recorded: Sequence[tuple[Question, tuple[Response, ...]]], length: Callable[[Response], int]
) -> list[tuple[Question, tuple[Response, ...]]]:
    """Questions with their reference and six samples, from questions with their reference and four.

    The other two are samples of the question whose reference is the next longer one by `length`.
    """
    order = sorted(range(len(recorded)), key=lambda index: length(recorded[index][1][0]))
    found = list(recorded)
    for place, index in enumerate(order):
        neighbour = recorded[order[(place + 1) % len(order)]][1]
        question, responses = recorded[index]
        found[index] = (question, (*responses, *neighbour[1 : 1 + SAMPLES + 1 - len(responses)]))
    return found


def generated_groups(count: int, *, samples: int = SAMPLES, seed: int = 0) -> list[Lengths]:
    """Groups with random lengths of about the same distribution, any number of samples."""
    generator = random.Random(seed)
    mean, between, within = _RESPONSES
    found = []
    for _ in range(count):
        question = generator.gauss(mean, between)
        responses = [
            _ENDLESS[1] if generator.random() < _ENDLESS[0] else math.ceil(math.exp(generator.gauss(question, within)))
            for _ in range(samples + 1)
        ]
        prompt = math.ceil(math.exp(generator.gauss(*_PROMPTS)))
        found.append(Lengths(prompt, tuple(max(2, length) for length in responses)))
    return found


def naive_tokens(groups: Sequence[Lengths]) -> int:
    """Tokens processed where every prompt + response is a row padded to the longest."""
    rows = [group.prompt + length for group in groups for length in group.responses]
    return len(rows) * max(rows)


def padding_ratio(groups: Sequence[Lengths]) -> float:
    """Tokens that naive padding processes, over the unique ones."""
    return naive_tokens(groups) / sum(group.unique for group in groups)


def typical_batches(
    groups: Sequence[Lengths], size: int, count: int, *, draws: int = 600, seed: int = 0
) -> list[list[Lengths]]:
    """`count` batches of `size` groups that stand for all: of many random ones, those at evenly spread quantiles of
    what padding would cost them, so that neither an endless response nor its absence decides a figure.
    """
    generator = random.Random(seed)
    drawn = sorted((generator.sample(groups, size) for _ in range(draws)), key=padding_ratio)
    return [drawn[(2 * index + 1) * draws // (2 * count)] for index in range(count)]


def alignment_items(groups: Sequence[Lengths], vocabulary: int, *, seed: int = 0) -> list[Item]:
    """Items of the alignment step: L_VFT on the reference, the samples as candidates, every other one right."""
    return [
        _item(
            number,
            group,
            vocabulary,
            seed,
            [None, *(float(index % 2 == 0) for index in range(len(group.responses) - 1))],
        )
        for number, group in enumerate(groups)
    ]


def preference_items(groups: Sequence[Lengths], vocabulary: int, *, right: int = 4, seed: int = 0) -> list[Item]:
    """Items of a preference step: all responses are candidates, `right` of them right, none supervised."""
    return [
        _item(number, group, vocabulary, seed, [float(index < right) for index in range(len(group.responses))])
        for number, group in enumerate(groups)
    ]


def _item(number: int, lengths: Lengths, vocabulary: int, seed: int, ratings: list[float | None]) -> Item:
    generator = random.Random(1_000_003 * seed + number)

    def words(count: int) -> list[int]:
        return [generator.randrange(FIRST_WORD, vocabulary) for _ in range(count)]

    return Item(
        question_id=f"q{number}",
        prompt_ids=words(lengths.prompt),
        responses=[[*words(length - 1), END_ID] for length in lengths.responses],
        supervised=[rating is None for rating in ratings],
        ratings=ratings,
    )
