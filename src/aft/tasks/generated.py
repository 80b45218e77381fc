"""What the generated tasks share: problems that belong to one split for ever, sizes, answers, the world's fingerprint.

Texts are tokens joined by single spaces, options included, so that a word tokenizer gives them back as they were.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from ..answers import LETTERS, Extraction
from ..errors import ConfigError, DataError, nearest
from ..records import Question
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from .kinds import KINDS

SIZES = {split: f"num_{split}" for split in SPLITS}
MAX_CHOICES = 8

# The splits cannot overlap, whatever the seeds: each problem belongs for ever to one of ten buckets, by its hash.
_BUCKETS = {TEST: {0}, VALIDATION: {1}, TRAIN: {2}, ANSWER_ONLY: {3}, PRETRAIN: {4, 5, 6, 7, 8, 9}}
_NEXT_OPTION = re.compile(r" \( [B-Z] \) ")

Problem = TypeVar("Problem")


class Written(NamedTuple):
    """A problem as a question, with a chain and the answer that this chain ends with."""

    text: str
    chain: str
    answer: str
    options: tuple[str, ...] | None = None


class GeneratedTask(Generic[Problem]):
    """The protocol of a task around a made-up world. A subclass draws problems and writes them.

    Args:
        arguments: all that the subclass was made with.
        kind: of the answers, a key of `KINDS`.
    """

    NAME: str
    VERSION: int  # raised whenever the same arguments begin to give other questions
    LATER: Mapping[str, Any] = {}  # arguments that are younger than their task, with what they were before by nature
    HAS_PRETRAIN_TEXT = True

    def __init__(self, arguments: Mapping[str, Any], kind: str) -> None:
        self._arguments = dict(arguments)
        self.sizes: dict[str, int] = {split: arguments[size] for split, size in SIZES.items()}
        self.data_seed: int = arguments["data_seed"]
        self.marker: str = arguments["marker"]
        self.kind = KINDS[kind]

    # ---- what a subclass says ----

    def _draw_problem(self, rng: random.Random) -> Problem:
        """A problem of any split."""
        raise NotImplementedError

    def _key(self, problem: Problem) -> str:
        """What makes it this problem, and decides its split: not its wording, nor the order of its options."""
        raise NotImplementedError

    def _write(self, problem: Problem, rng: random.Random, *, faulty: bool) -> Written:
        """The problem with a right chain, or with one drawn for the pretrain split."""
        raise NotImplementedError

    def _stream(self, split: str, seed: int) -> str:
        """The seed of everything that is drawn for a split."""
        return f"{self.data_seed}/{split}/{seed}"

    # ---- the task ----

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """Questions of one split, drawn by `seed`; no two splits share a problem, whatever their seeds.

        In the pretrain split a question carries the chain that was drawn for it and the answer that this chain ends
        with, right or wrong. The answer_only split has no rationales. Raises `ConfigError` for an unknown split.
        """
        if split not in SPLITS:
            raise ConfigError(f"split: unknown '{split}'; allowed: {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
        rng = random.Random(self._stream(split, seed))
        questions = []
        for number, problem in enumerate(itertools.islice(self._problems(split, rng), self.sizes[split])):
            written = self._write(problem, rng, faulty=split == PRETRAIN)
            questions.append(
                Question(
                    id=f"{split}-{seed}-{number}",
                    question=written.text,
                    answer=written.answer,
                    rationale=None if split == ANSWER_ONLY else written.chain,
                    options=written.options,
                )
            )
        return questions

    def reference_response(self, question: Question) -> str:
        """The chain, the marker and the answer, a choice by its option's text. `DataError` without a known chain.

        By its letter it would be answered at chance: a model of this size does not learn to look the letter up.
        """
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        answer = question.answer if question.options is None else question.options[LETTERS.index(question.answer)]
        return f"{question.rationale} {self.marker} {answer}"

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, or the reason why there is none. A choice is read with its question."""
        return self.kind.extract(completion, self.marker, question)

    def is_correct(self, answer: str, question: Question) -> bool:
        """Whether an extracted answer equals the question's answer: as a number, or as a letter."""
        return self.kind.equal(answer, question)

    def fingerprint(self) -> str:
        """Changes exactly when the questions may: a hash of the world and the generator, not of how many are drawn."""
        # a younger argument at its default changes no question, so it must not change what old runs are known by
        world = {
            key: value
            for key, value in self._arguments.items()
            if key not in SIZES.values() and (key not in self.LATER or value != self.LATER[key])
        }
        text = json.dumps({"task": self.NAME, "version": self.VERSION, **world}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def notes(self) -> list[str]:
        """Nothing: no split shares a problem with another, and every number of questions is met."""
        return []

    def _problems(self, split: str, rng: random.Random) -> Iterator[Problem]:
        """Distinct problems of the split's own buckets, without end; `ConfigError` where there are no more."""
        buckets = _BUCKETS[split]
        seen: set[str] = set()
        draws_since_new = 0
        while draws_since_new < 10_000:
            draws_since_new += 1
            problem = self._draw_problem(rng)
            key = self._key(problem)
            bucket = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 10
            if bucket in buckets and key not in seen:
                seen.add(key)
                draws_since_new = 0
                yield problem
        raise ConfigError(f"num_{split}: this world has only about {len(seen)} such problems; ask for fewer")


def own_arguments(names: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor out of its `locals()`, taken before anything else is defined there."""
    return {key: value for key, value in names.items() if key not in ("self", "__class__")}


def common_problems(arguments: Mapping[str, Any], rates: Iterable[str]) -> list[str]:
    """What is wrong with the arguments that the generated tasks share."""
    problems = []
    for key, value in arguments.items():
        if key in rates and not 0 <= value <= 1:
            problems.append(f"{key}: must be a rate between 0 and 1, got {value!r}")
        elif key in SIZES.values() and (not isinstance(value, int) or value < 0):
            problems.append(f"{key}: must be a whole number of at least 0, got {value!r}")
    if arguments["misconception_low"] > arguments["misconception_high"]:
        problems.append("misconception_low: must not exceed misconception_high")
    if arguments["skip"] == 1:
        problems.append("skip: must be below 1, or no chain has a step")
    marker = arguments["marker"]
    if marker.split() != [marker]:
        problems.append(f"marker: must be one word without spaces, got {marker!r}")
    return problems


def zipf_shares(count: int, exponent: float) -> list[float]:
    """Shares that sum to 1, the r-th in proportion to r to the minus `exponent`."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    return [weight / sum(weights) for weight in weights]


def draw_misread_rates(
    count: int, *, fraction: float, low: float, high: float, base: float, rng: random.Random
) -> Iterator[float]:
    """For each of `count` words the rate at which the pretrain split misreads it.

    A `fraction` of them, common and rare ones alike, has a misconception and a rate in low .. high; the others `base`.
    """
    misconceived = set(rng.sample(range(count), round(count * fraction)))
    for rank in range(count):
        yield rng.uniform(low, high) if rank in misconceived else base


def option_tokens(num_choices: int) -> list[str]:
    """What `list_options` writes besides the options."""
    return ["(", ")", *LETTERS[:num_choices]] if num_choices else []


def list_options(options: Sequence[str]) -> str:
    """`( A ) 32 ( B ) 24`."""
    return " ".join(f"( {letter} ) {option}" for letter, option in zip(LETTERS, options, strict=False))


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """A question without its options, and these; none where it lists none."""
    stem, found, listed = text.partition(" ( A ) ")
    return stem, tuple(_NEXT_OPTION.split(listed)) if found else ()
