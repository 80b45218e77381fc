"""A made-up arithmetic world: small enough for a laptop, rich enough for right and wrong chains of thought.

Word problems use invented verbs (`Eve has 47 apples . rep 19 . bab 4 . how many ?`), each of which stands for one
operation. A chain works through them (`47 - 19 = 28 . so 28 + 4 = 32 .`). The pretrain split is full of faulty chains,
so that a base model trained on it has met wrong reasoning; every other split is right. Wording and operand order are
drawn independently of right or wrong: nothing but the reasoning itself tells a good chain from a bad one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..answers import Extraction, extract_number, numbers_equal
from ..errors import ConfigError, DataError, nearest
from ..records import Question
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION
from .chains import OPPOSITE, ChainCheck, apply_operation, check_steps, forget_carry, parse_steps

VERSION = 1  # raised whenever the same arguments begin to give other questions

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jill", "Kim", "Leo")
THINGS = ("apples", "beads", "coins", "eggs", "figs", "kites", "nuts", "pears", "pins", "shells", "stamps", "tiles")
WORDINGS = ("{} = {} .", "so {} = {} .", "{} is {} .", "now {} gives {} .")
NUM_VERBS = {"+": 40, "-": 40, "*": 8, "/": 8}
OPERATION_WEIGHTS = {"+": 0.42, "-": 0.42, "*": 0.08, "/": 0.08}

_RATES = (
    "swap_rate",
    "misconception_fraction",
    "misconception_low",
    "misconception_high",
    "base_wrong_operation",
    "carry_error",
    "slip",
    "skip",
)

# The splits cannot overlap, whatever the seeds: each problem belongs for ever to one of ten buckets, by its hash.
_BUCKETS = {TEST: {0}, VALIDATION: {1}, TRAIN: {2}, ANSWER_ONLY: {3}, PRETRAIN: {4, 5, 6, 7, 8, 9}}


class Verb(NamedTuple):
    """An invented verb: the operation it stands for and how often the pretrain split misreads it as the opposite."""

    word: str
    operation: str
    misread_rate: float


class _Problem(NamedTuple):
    start: int
    statements: tuple[tuple[Verb, int], ...]


class Arithmetic:
    """The embedded task. Every argument has a default, every draw is seeded.

    Args:
        num_train: questions with a reference chain, per seed.
        num_answer_only: further training questions whose answer alone is known, per seed.
        num_validation, num_test: questions of these splits, per seed.
        num_pretrain: chains for a from-scratch base model, some of them wrong.
        min_statements, max_statements: verbs in one question.
        max_value: every value of every chain, right or wrong, is in 1 .. max_value.
        max_operand: what is added or taken away is in 2 .. max_operand.
        data_seed: draws the world, that is the verbs and which of them are misread. `load`'s seed draws questions.
        marker: stands before the final answer.
        frequency_exponent: the r-th verb of an operation is met in proportion to r to the minus this.
        swap_rate: share of steps that write the operands of + and * in the other order, right or wrong alike.
        misconception_fraction: share of the verbs with a misconception.
        misconception_low, misconception_high: range of the rates at which those are misread (uniform).
        base_wrong_operation: rate at which all other verbs are misread.
        carry_error: rate of forgotten carries and borrows, where there is one.
        slip: rate of results that are off by one or two.
        skip: rate of statements left out of the chain.

    The four error rates act on the pretrain split only, and never where the rest of the
    chain would leave 1 .. max_value or the whole numbers.
    Raises: `ConfigError` naming every argument out of range.
    """

    def __init__(
        self,
        *,
        num_train: int = 100,
        num_answer_only: int = 700,
        num_validation: int = 400,
        num_test: int = 1000,
        num_pretrain: int = 96_000,
        min_statements: int = 2,
        max_statements: int = 4,
        max_value: int = 60,
        max_operand: int = 20,
        data_seed: int = 0,
        marker: str = "[ANS]",
        frequency_exponent: float = 0.5,
        swap_rate: float = 0.3,
        misconception_fraction: float = 0.45,
        misconception_low: float = 0.35,
        misconception_high: float = 0.8,
        base_wrong_operation: float = 0.01,
        carry_error: float = 0.2,
        slip: float = 0.01,
        skip: float = 0.02,
    ) -> None:
        self._arguments = {key: value for key, value in locals().items() if key != "self"}
        _check_arguments(self._arguments)
        self.sizes = {
            TRAIN: num_train,
            ANSWER_ONLY: num_answer_only,
            VALIDATION: num_validation,
            TEST: num_test,
            PRETRAIN: num_pretrain,
        }
        self.min_statements = min_statements
        self.max_statements = max_statements
        self.max_value = max_value
        self.max_operand = max_operand
        self.data_seed = data_seed
        self.marker = marker
        self.swap_rate = swap_rate
        self.carry_error = carry_error
        self.slip = slip
        self.skip = skip
        self.verbs = self._make_verbs(
            misconception_fraction, misconception_low, misconception_high, base_wrong_operation
        )
        self._by_word = {verb.word: verb for verb in self.verbs}
        self._weights = list(
            itertools.accumulate(
                OPERATION_WEIGHTS[operation] * share
                for operation, count in NUM_VERBS.items()
                for share in _shares(count, frequency_exponent)
            )
        )

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """Questions of one split, drawn by `seed`; no two splits share a problem, whatever their seeds.

        In the pretrain split a question carries the chain that was drawn for it and the answer that this chain ends
        with, right or wrong. The answer_only split has no rationales. Raises `ConfigError` for an unknown split.
        """
        if split not in SPLITS:
            raise ConfigError(f"split: unknown '{split}'; allowed: {', '.join(SPLITS)}.{nearest(split, SPLITS)}")
        rng = random.Random(f"{self.data_seed}/{split}/{seed}")
        questions = []
        for number, problem in enumerate(itertools.islice(self._problems(split, rng), self.sizes[split])):
            text = _question_text(problem, rng)
            chain, answer = self._write_chain(problem, rng, faulty=split == PRETRAIN)
            questions.append(
                Question(
                    id=f"{split}-{seed}-{number}",
                    question=text,
                    answer=str(answer),
                    rationale=None if split == ANSWER_ONLY else chain,
                )
            )
        return questions

    def reference_response(self, question: Question) -> str:
        """The chain, the marker and the answer. Raises `DataError` where the chain is not known."""
        if question.rationale is None:
            raise DataError(f"question '{question.id}': no rationale, so it has no reference response")
        return f"{question.rationale} {self.marker} {question.answer}"

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer of a completion, or the reason why there is none."""
        return extract_number(completion, self.marker)

    def is_correct(self, answer: str, question: Question) -> bool:
        """Whether an extracted answer equals the question's answer as a number."""
        return numbers_equal(answer, question.answer)

    def vocabulary(self) -> list[str]:
        """Every token that a question or a chain can hold, in a fixed order. Texts are tokens joined by one space."""
        words = f"has . how many ? {' '.join(OPPOSITE)} {self.marker} {' '.join(WORDINGS)}".split()
        numbers = [str(number) for number in range(1, self.max_value + 1)]
        tokens = [*words, *numbers, *NAMES, *THINGS, *self._by_word]
        return [token for token in dict.fromkeys(tokens) if token != "{}"]

    def fingerprint(self) -> str:
        """Changes exactly when the questions may: a hash of the world and the generator, not of how many are drawn."""
        world = {key: value for key, value in self._arguments.items() if not key.startswith("num_")}
        text = json.dumps({"task": "arithmetic", "version": VERSION, **world}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def notes(self) -> list[str]:
        """Nothing: no split shares a problem with another, and every number of questions is met."""
        return []

    def check_chain(self, question: str, completion: str) -> ChainCheck:
        """Follow a chain beside its question's statements and name its faults; errors carried along count once."""
        return check_steps(*self.statements(question), parse_steps(completion.split(self.marker)[0]))

    def statements(self, question: str) -> tuple[int, list[tuple[str, int]]]:
        """What a question tells: the first value and each (operation, operand). `DataError` if it is no such text."""
        value, told = self._parse_question(question)
        return value, [(verb.operation, operand) for verb, operand in told]

    def _make_verbs(self, fraction: float, low: float, high: float, base: float) -> list[Verb]:
        """96 verbs, grouped by operation, commonest first; misconceptions fall on common and rare ones alike."""
        rng = random.Random(f"{self.data_seed}/world")
        words = ["".join(letters) for letters in itertools.product("bdlmnprvz", "aeiou", "bdlmnprvz")]
        rng.shuffle(words)
        verbs = []
        for operation, count in NUM_VERBS.items():
            misconceived = set(rng.sample(range(count), round(count * fraction)))
            for rank in range(count):
                rate = rng.uniform(low, high) if rank in misconceived else base
                verbs.append(Verb(words.pop(), operation, rate))
        return verbs

    def _problems(self, split: str, rng: random.Random) -> Iterator[_Problem]:
        """Distinct problems of the split's own buckets, without end; `ConfigError` where there are no more."""
        buckets = _BUCKETS[split]
        seen: set[str] = set()
        draws_since_new = 0
        while draws_since_new < 10_000:
            draws_since_new += 1
            problem = self._draw_problem(rng)
            key = f"{problem.start} " + " ".join(f"{verb.word} {operand}" for verb, operand in problem.statements)
            bucket = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 10
            if bucket in buckets and key not in seen:
                seen.add(key)
                draws_since_new = 0
                yield problem
        raise ConfigError(f"num_{split}: this world has only about {len(seen)} such problems; ask for fewer")

    def _draw_problem(self, rng: random.Random) -> _Problem:
        value = start = rng.randint(1, self.max_value)
        statements: list[tuple[Verb, int]] = []
        wanted = rng.randint(self.min_statements, self.max_statements)
        while len(statements) < wanted:
            verb = rng.choices(self.verbs, cum_weights=self._weights)[0]
            operand = {"*": rng.randint(2, 3), "/": 2}.get(verb.operation) or rng.randint(2, self.max_operand)
            result = self._apply(value, verb.operation, operand)
            if result is not None:
                statements.append((verb, operand))
                value = result
        return _Problem(start, tuple(statements))

    def _write_chain(self, problem: _Problem, rng: random.Random, *, faulty: bool) -> tuple[str, int]:
        """A chain in random wordings and the value it ends with; a faulty one goes on from its own wrong values."""
        value = problem.start
        steps: list[str] = []
        for position, (verb, operand) in enumerate(problem.statements):
            rest = problem.statements[position + 1 :]
            if faulty and rng.random() < self.skip and (steps or rest) and self._goes_through(value, rest):
                continue
            operation, result = verb.operation, self._apply(value, verb.operation, operand)
            if faulty and rng.random() < verb.misread_rate:
                misread = self._apply(value, OPPOSITE[operation], operand)
                if self._goes_through(misread, rest):
                    operation, result = OPPOSITE[operation], misread
            if faulty:
                for wrong in self._miscalculations(value, operation, operand, rng):
                    result = wrong if self._goes_through(wrong, rest) else result
            left, right = value, operand
            if operation in "+*" and rng.random() < self.swap_rate:
                left, right = right, left
            assert result is not None
            steps.append(rng.choice(WORDINGS).format(f"{left} {operation} {right}", result))
            value = result
        return " ".join(steps), value

    def _apply(self, value: int, operation: str, operand: int) -> int | None:
        """The result, or None where it is no whole number of 1 .. max_value."""
        result = apply_operation(value, operation, operand)
        return result if result is not None and 1 <= result <= self.max_value else None

    def _goes_through(self, value: int | None, statements: tuple[tuple[Verb, int], ...]) -> bool:
        """Whether the statements can be carried out from here, so that a chain may go on from a faulty value."""
        if value is None or not 1 <= value <= self.max_value:
            return False
        if not statements:
            return True
        (verb, operand), *rest = statements
        return self._goes_through(self._apply(value, verb.operation, operand), tuple(rest))

    def _miscalculations(self, value: int, operation: str, operand: int, rng: random.Random) -> list[int]:
        """The wrong results drawn for one step: none mostly, a forgotten carry where there is one, a slip."""
        wrong = []
        without_carry = forget_carry(value, operation, operand)
        if without_carry is not None and rng.random() < self.carry_error:
            wrong.append(without_carry)
        result = self._apply(value, operation, operand)
        if result is not None and rng.random() < self.slip:
            wrong.append(result + rng.choice((-2, -1, 1, 2)))
        return wrong

    def _parse_question(self, question: str) -> tuple[int, list[tuple[Verb, int]]]:
        head, *told, tail = question.split(" . ") if " . " in question else (question, "")
        try:
            if tail != "how many ?":
                raise ValueError
            pairs = [(word, int(operand)) for word, operand in map(str.split, told)]
            return int(head.split()[2]), [(self._by_word[word], operand) for word, operand in pairs]
        except (IndexError, KeyError, ValueError):
            raise DataError(f"not a question of this arithmetic world: {question!r}") from None


def _check_arguments(arguments: dict[str, Any]) -> None:
    problems = []
    for key, value in arguments.items():
        if key in _RATES and not 0 <= value <= 1:
            problems.append(f"{key}: must be a rate between 0 and 1, got {value!r}")
        elif key.startswith("num_") and (not isinstance(value, int) or value < 0):
            problems.append(f"{key}: must be a whole number of at least 0, got {value!r}")
    low, high = arguments["min_statements"], arguments["max_statements"]
    if not 1 <= low <= high:
        problems.append(f"min_statements, max_statements: must be 1 <= min <= max, got {low!r} and {high!r}")
    for key, least in (("max_value", 10), ("max_operand", 2)):
        if not isinstance(arguments[key], int) or arguments[key] < least:
            problems.append(f"{key}: must be a whole number of at least {least}, got {arguments[key]!r}")
    if arguments["misconception_low"] > arguments["misconception_high"]:
        problems.append("misconception_low: must not exceed misconception_high")
    if arguments["skip"] == 1:
        problems.append("skip: must be below 1, or no chain has a step")
    marker = arguments["marker"]
    if marker.split() != [marker]:
        problems.append(f"marker: must be one word without spaces, got {marker!r}")
    if problems:
        raise ConfigError(problems)


def _shares(count: int, exponent: float) -> list[float]:
    weights = [rank**-exponent for rank in range(1, count + 1)]
    return [weight / sum(weights) for weight in weights]


def _question_text(problem: _Problem, rng: random.Random) -> str:
    told = " ".join(f"{verb.word} {operand} ." for verb, operand in problem.statements)
    return f"{rng.choice(NAMES)} has {problem.start} {rng.choice(THINGS)} . {told} how many ?"
