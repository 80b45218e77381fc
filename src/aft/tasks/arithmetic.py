"""A made-up arithmetic world: small enough for a laptop, rich enough for right and wrong chains of thought.

Word problems use invented verbs (`Eve has 47 apples . rep 19 . bab 4 . how many ?`), each of which stands for one
operation. A chain works through them (`47 - 19 = 28 . so 28 + 4 = 32 .`). The pretrain split is full of faulty chains,
so that a base model trained on it has met wrong reasoning; every other split is right. Wording and operand order are
drawn independently of right or wrong: nothing but the reasoning itself tells a good chain from a bad one. The answer
is a number or, with options, a letter; the same problem can be asked in two phrasings.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

from ..answers import LETTERS
from ..errors import ConfigError, DataError, nearest
from ..records import WORLD_SIZES
from .chains import OPPOSITE, ChainCheck, check_steps, parse_steps
from .faults import WORDINGS, ChainWriter, Problem, Verb
from .generated import (
    MAX_CHOICES,
    GeneratedTask,
    Written,
    common_problems,
    draw_misread_rates,
    list_options,
    option_tokens,
    own_arguments,
    zipf_shares,
)
from .phrasings import OTHER, PHRASINGS, PLAIN, WORDS, read_question, write_question

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jill", "Kim", "Leo")
THINGS = ("apples", "beads", "coins", "eggs", "figs", "kites", "nuts", "pears", "pins", "shells", "stamps", "tiles")
NUM_VERBS = {"+": 40, "-": 40, "*": 8, "/": 8}
OPERATION_WEIGHTS = {"+": 0.42, "-": 0.42, "*": 0.08, "/": 0.08}
MIXED = "mixed"

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


class Arithmetic(GeneratedTask[Problem]):
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
        num_choices: 0: the answer is a number; 2 to 8: it is the letter of one of so many options, which the question
            lists. The wrong ones are what faulty chains of the same question end with, the likelier the fault the
            sooner, then near numbers. In the pretrain split the end of the chain and the right value are both there.
        phrasing: `plain`, `other` (the same in another order, with other words) or `mixed`, either at random. `plain`
            and `other` ask the same problems with the same chains.

    The four error rates act on the pretrain split only, and never where the rest of the
    chain would leave 1 .. max_value or the whole numbers.
    Raises: `ConfigError` naming every argument out of range.
    """

    NAME = "arithmetic"
    VERSION = 1
    LATER: Mapping[str, Any] = {"num_choices": 0, "phrasing": PLAIN}

    def __init__(
        self,
        *,
        num_train: int = WORLD_SIZES["num_train"],
        num_answer_only: int = WORLD_SIZES["num_answer_only"],
        num_validation: int = WORLD_SIZES["num_validation"],
        num_test: int = WORLD_SIZES["num_test"],
        num_pretrain: int = WORLD_SIZES["num_pretrain"],
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
        num_choices: int = 0,
        phrasing: str = PLAIN,
    ) -> None:
        arguments = own_arguments(locals())
        if problems := _problems(arguments):
            raise ConfigError(problems)
        super().__init__(arguments, "choice" if num_choices else "number")
        self.min_statements = min_statements
        self.max_statements = max_statements
        self.max_value = max_value
        self.max_operand = max_operand
        self.num_choices = num_choices
        self.phrasing = phrasing
        self._writer = ChainWriter(max_value, swap_rate, carry_error, slip, skip)
        self.verbs = self._make_verbs(
            fraction=misconception_fraction,
            low=misconception_low,
            high=misconception_high,
            base=base_wrong_operation,
        )
        self._by_word = {verb.word: verb for verb in self.verbs}
        self._weights = list(
            itertools.accumulate(
                OPERATION_WEIGHTS[operation] * share
                for operation, count in NUM_VERBS.items()
                for share in zipf_shares(count, frequency_exponent)
            )
        )

    def vocabulary(self) -> list[str]:
        """Every token that a question or a chain can hold, in a fixed order. Texts are tokens joined by one space."""
        words = [*WORDS[PLAIN], *OPPOSITE, self.marker, *" ".join(WORDINGS).split()]
        numbers = [str(number) for number in range(1, self.max_value + 1)]
        tokens = [*words, *numbers, *NAMES, *THINGS, *self._by_word]
        # what an argument adds stands at the end, so that the others keep their ids
        tokens += [*(WORDS[OTHER] if self.phrasing != PLAIN else ()), *option_tokens(self.num_choices)]
        return [token for token in dict.fromkeys(tokens) if token != "{}"]

    def check_chain(self, question: str, completion: str) -> ChainCheck:
        """Follow a chain beside its question's statements and name its faults; errors carried along count once."""
        return check_steps(*self.statements(question), parse_steps(completion.split(self.marker)[0]))

    def statements(self, question: str) -> tuple[int, list[tuple[str, int]]]:
        """What a question tells: the first value and each (operation, operand). `DataError` if it is no such text."""
        value, told = self._parse_question(question)
        return value, [(verb.operation, operand) for verb, operand in told]

    def _make_verbs(self, **misconceptions: float) -> list[Verb]:
        """96 verbs, grouped by operation, commonest first; misconceptions fall on common and rare ones alike."""
        rng = random.Random(f"{self.data_seed}/world")
        words = ["".join(letters) for letters in itertools.product("bdlmnprvz", "aeiou", "bdlmnprvz")]
        rng.shuffle(words)
        return [
            Verb(words.pop(), operation, rate)
            for operation, count in NUM_VERBS.items()
            for rate in draw_misread_rates(count, **misconceptions, rng=rng)
        ]

    def _stream(self, split: str, seed: int) -> str:
        # a mixture may have a part with options and one without: they should not ask the very same problems
        return super()._stream(split, seed) + ("/options" if self.num_choices else "")

    def _key(self, problem: Problem) -> str:
        return f"{problem.start} " + " ".join(f"{verb.word} {operand}" for verb, operand in problem.statements)

    def _draw_problem(self, rng: random.Random) -> Problem:
        value = start = rng.randint(1, self.max_value)
        statements: list[tuple[Verb, int]] = []
        wanted = rng.randint(self.min_statements, self.max_statements)
        while len(statements) < wanted:
            verb = rng.choices(self.verbs, cum_weights=self._weights)[0]
            operand = {"*": rng.randint(2, 3), "/": 2}.get(verb.operation) or rng.randint(2, self.max_operand)
            result = self._writer.apply(value, verb.operation, operand)
            if result is not None:
                statements.append((verb, operand))
                value = result
        return Problem(start, tuple(statements))

    def _write(self, problem: Problem, rng: random.Random, *, faulty: bool) -> Written:
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        chain, value = self._writer.write(problem, rng, faulty=faulty)
        phrasing = rng.choice(PHRASINGS) if self.phrasing == MIXED else self.phrasing
        told = [(verb.word, operand) for verb, operand in problem.statements]
        text = write_question(phrasing, name, thing, problem.start, told)
        if not self.num_choices:
            return Written(text, chain, str(value))
        values = self._draw_options(problem, value, rng)
        options = tuple(map(str, values))
        return Written(f"{text} {list_options(options)}", chain, LETTERS[values.index(value)], options)

    def _draw_options(self, problem: Problem, value: int, rng: random.Random) -> list[int]:
        """The right value, the one that the chain ends with, and tempting ones, in random order."""
        right = self._writer.follow(problem.start, problem.statements)
        assert right is not None
        rates = self._writer.tempting_values(problem)
        # a race with exponential times: each is first in proportion to its rate
        tempting = sorted(rates, key=lambda wrong: rng.expovariate(rates[wrong]))
        near = sorted(range(1, self.max_value + 1), key=lambda wrong: abs(wrong - right) + rng.uniform(0, 10))
        options = list(dict.fromkeys([right, value, *tempting, *near]))[: self.num_choices]
        rng.shuffle(options)
        return options

    def _parse_question(self, question: str) -> tuple[int, list[tuple[Verb, int]]]:
        found = read_question(question)
        if found is None or any(word not in self._by_word for word, _ in found[1]):
            raise DataError(f"not a question of this arithmetic world: {question!r}")
        return found[0], [(self._by_word[word], operand) for word, operand in found[1]]


def _problems(arguments: Mapping[str, Any]) -> list[str]:
    problems = common_problems(arguments, _RATES)
    low, high = arguments["min_statements"], arguments["max_statements"]
    if not 1 <= low <= high:
        problems.append(f"min_statements, max_statements: must be 1 <= min <= max, got {low!r} and {high!r}")
    for key, least in (("max_value", 10), ("max_operand", 2)):
        if not isinstance(arguments[key], int) or arguments[key] < least:
            problems.append(f"{key}: must be a whole number of at least {least}, got {arguments[key]!r}")
    num_choices = arguments["num_choices"]
    if not isinstance(num_choices, int) or num_choices not in (0, *range(2, MAX_CHOICES + 1)):
        problems.append(f"num_choices: must be 0 or 2 to {MAX_CHOICES}, got {num_choices!r}")
    phrasing, allowed = arguments["phrasing"], (*PHRASINGS, MIXED)
    if phrasing not in allowed:
        hint = nearest(str(phrasing), allowed)
        problems.append(f"phrasing: got {phrasing!r}; allowed: {', '.join(allowed)}.{hint}")
    return problems
