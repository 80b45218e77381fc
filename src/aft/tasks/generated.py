"""The base class of generated tasks. Every problem belongs to exactly one split, whatever the seeds.

Texts, options included, are tokens joined by single spaces, so that a word tokenizer decodes them to the same text.
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

# The hash of a problem puts it into one of ten buckets, and each split has its own buckets. So no splits overlap,
# whatever the seeds.
_BUCKETS = {TEST: {0}, VALIDATION: {1}, TRAIN: {2}, ANSWER_ONLY: {3}, PRETRAIN: {4, 5, 6, 7, 8, 9}}
_NEXT_OPTION = re.compile(r" \( [B-Z] \) ")

Problem = TypeVar("Problem")


class Written(NamedTuple):
    """A problem as a question, with a chain and the final answer of this chain."""

    text: str
    chain: str
    answer: str
    options: tuple[str, ...] | None = None


class GeneratedTask(Generic[Problem]):
    """A task with generated questions. A subclass draws problems and writes them as text.

    Args:
        arguments: all arguments of the subclass.
        kind: kind of answer, a key of `KINDS`.
    """

    NAME: str
    VERSION: int  # increased whenever a change makes the same arguments give other questions
    LATER: Mapping[str, Any] = {}  # arguments added to a task later, with the values that match the task before
    HAS_PRETRAIN_TEXT = True

    def __init__(self, arguments: Mapping[str, Any], kind: str) -> None:
        self._arguments = dict(arguments)
        self.sizes: dict[str, int] = {split: arguments[size] for split, size in SIZES.items()}
        self.data_seed: int = arguments["data_seed"]
        self.marker: str = arguments["marker"]
        self.kind = KINDS[kind]

    # ---- methods that a subclass implements or may override ----

    def _draw_problem(self, rng: random.Random) -> Problem:
        """A problem of any split."""
        raise NotImplementedError

    def _key(self, problem: Problem) -> str:
        """The identity of a problem, which decides its split. Wording and order of the options are not part of it."""
        raise NotImplementedError

    def _write(self, problem: Problem, rng: random.Random, *, faulty: bool) -> Written:
        """The problem as text, with a right chain; with `faulty`, a chain of the pretrain split, which may be wrong."""
        raise NotImplementedError

    def _stream(self, split: str, seed: int) -> str:
        """The seed of all draws for a split."""
        return f"{self.data_seed}/{split}/{seed}"

    # ---- methods of the task protocol ----

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """The questions of one split, drawn with `seed`. No two splits share a problem, whatever their seeds.

        A question of the pretrain split has a chain and the final answer of this chain, right or wrong. The
        answer_only split has no rationales. Raises `ConfigError` for an unknown split.
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
        """The chain, the marker and the answer; a choice is written as its option's text. `DataError` without a chain.

        With letters, accuracy would be at chance: a model of this size does not learn to look up the letter.
        """
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        answer = question.answer if question.options is None else question.options[LETTERS.index(question.answer)]
        return f"{question.rationale} {self.marker} {answer}"

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, or the reason why there is none. A choice needs `question`."""
        return self.kind.extract(completion, self.marker, question)

    def is_correct(self, answer: str, question: Question) -> bool:
        """True if an extracted answer equals the question's answer, as a number or as a letter."""
        return self.kind.equal(answer, question)

    def fingerprint(self) -> str:
        """A hash of the world and the generator's version. It does not depend on the number of questions."""
        # An argument of `LATER` at its old value changes no question, so it must not change old fingerprints.
        world = {
            key: value
            for key, value in self._arguments.items()
            if key not in SIZES.values() and (key not in self.LATER or value != self.LATER[key])
        }
        text = json.dumps({"task": self.NAME, "version": self.VERSION, **world}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def notes(self) -> list[str]:
        """No notes: splits do not overlap, and every split has the number of questions that is asked for."""
        return []

    def _problems(self, split: str, rng: random.Random) -> Iterator[Problem]:
        """Yields distinct problems of a split's buckets, without end. Raises `ConfigError` when it finds no more."""
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
    """The arguments of a constructor. `names` is its `locals()`, taken before it defines other names."""
    return {key: value for key, value in names.items() if key not in ("self", "__class__")}


def common_problems(arguments: Mapping[str, Any], rates: Iterable[str]) -> list[str]:
    """Problems of the arguments that all generated tasks share."""
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
    """Shares that sum to 1; the r-th is in proportion to r ** -exponent, r from 1."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    return [weight / sum(weights) for weight in weights]


def draw_misread_rates(
    count: int, *, fraction: float, low: float, high: float, base: float, rng: random.Random
) -> Iterator[float]:
    """Yields, for each of `count` words, the rate at which the pretrain split misreads it.

    A random `fraction` of the words, frequent and rare alike, has a rate in low .. high. Others have the rate `base`.
    """
    misconceived = set(rng.sample(range(count), round(count * fraction)))
    for rank in range(count):
        yield rng.uniform(low, high) if rank in misconceived else base


def option_tokens(num_choices: int) -> list[str]:
    """The tokens that `list_options` writes besides the options; none for 0 choices."""
    return ["(", ")", *LETTERS[:num_choices]] if num_choices else []


def list_options(options: Sequence[str]) -> str:
    """The options with letters, as text: `( A ) 32 ( B ) 24`."""
    return " ".join(f"( {letter} ) {option}" for letter, option in zip(LETTERS, options, strict=False))


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """(text without options, options) of a question. The options are empty if the question lists none."""
    stem, found, listed = text.partition(" ( A ) ")
    return stem, tuple(_NEXT_OPTION.split(listed)) if found else ()
