"""A generated arithmetic task: small enough for a laptop, rich enough for right and wrong chains of thought.

Word problems use invented verbs (`Eve has 47 apples . rep 19 . bab 4 . how many ?`). Each verb stands for one
operation. A chain computes the values in order (`47 - 19 = 28 . so 28 + 4 = 32 .`). The pretrain split has many faulty
chains, so that a base model trained on it has seen wrong reasoning. All other splits have only right chains. Wording
and operand order are drawn independently of right or wrong, so only the reasoning separates right from wrong chains.
The answer is a number or, with options, a letter. The same problem can be asked in two phrasings. A third phrasing is
plain English, for pretrained models.
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
from .phrasings import (
    ENGLISH,
    ENGLISH_VERBS,
    OTHER,
    PHRASINGS,
    PLAIN,
    WORDS,
    english_chain,
    read_question,
    write_question,
)

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
    """The generated arithmetic task. Every argument has a default, and every draw is seeded.

    Args:
        num_train: number of questions with a reference chain, per seed.
        num_answer_only: number of further training questions with a known answer and no chain, per seed.
        num_validation, num_test: number of questions of these splits, per seed.
        num_pretrain: number of chains, some of them wrong, for training a base model from scratch.
        min_statements, max_statements: range of the number of verbs in one question.
        max_value: every value of every chain, right or wrong, is in 1 .. max_value.
        max_operand: operands of + and - are in 2 .. max_operand.
        data_seed: seed of the world: the verbs and their misread rates. The seed of `load` draws questions.
        marker: text before the final answer.
        frequency_exponent: the r-th verb of an operation occurs in proportion to r ** -frequency_exponent.
        swap_rate: share of + and * steps with swapped operands, equal for right and wrong steps.
        misconception_fraction: share of verbs with a misconception.
        misconception_low, misconception_high: range of the misread rates of these verbs, drawn uniformly.
        base_wrong_operation: misread rate of all other verbs.
        carry_error: rate of forgotten carries and borrows, among the steps that have one.
        slip: rate of results that are off by one or two.
        skip: rate of statements left out of the chain.
        num_choices: 0: the answer is a number. 2 to 8: the question lists this number of options, and the answer is a
            letter. Wrong options are last values of faulty chains for the same question, more likely faults first,
            then near numbers. In the pretrain split, the chain's last value and the right value are both options.
        phrasing: `plain`, `other` (another order and other words) or `mixed` (one of the two at random). `plain` and
            `other` ask the same problems with the same chains. `english` is for a pretrained model: sentences with
            verbs that it knows, and no vocabulary of its own.

    The error rates (misreading, carry_error, slip, skip) apply to the pretrain split only. A fault is left out if a
    later value of the chain would then not be a whole number in 1 .. max_value.
    Raises: a `ConfigError` that names every argument out of range.
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
        counts = {operation: len(words) for operation, words in ENGLISH_VERBS.items()}
        self._num_verbs = counts if phrasing == ENGLISH else NUM_VERBS
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
                for operation, count in self._num_verbs.items()
                for share in zipf_shares(count, frequency_exponent)
            )
        )

    def vocabulary(self) -> list[str]:
        """Every token of questions and chains, in a fixed order. Texts are tokens joined by one space.

        Empty in English, which has no closed vocabulary.
        """
        if self.phrasing == ENGLISH:
            return []
        words = [*WORDS[PLAIN], *OPPOSITE, self.marker, *" ".join(WORDINGS).split()]
        numbers = [str(number) for number in range(1, self.max_value + 1)]
        tokens = [*words, *numbers, *NAMES, *THINGS, *self._by_word]
        # Tokens for optional arguments come last, so that all other tokens keep their ids.
        tokens += [*(WORDS[OTHER] if self.phrasing != PLAIN else ()), *option_tokens(self.num_choices)]
        return [token for token in dict.fromkeys(tokens) if token != "{}"]

    def check_chain(self, question: str, completion: str) -> ChainCheck:
        """Compare a chain with its question and name the faults. An error that later steps build on counts once."""
        return check_steps(*self.statements(question), parse_steps(completion.split(self.marker)[0]))

    def statements(self, question: str) -> tuple[int, list[tuple[str, int]]]:
        """The first value and each (operation, operand) of a question. `DataError` for any other text."""
        value, told = self._parse_question(question)
        return value, [(verb.operation, operand) for verb, operand in told]

    def _make_verbs(self, **misconceptions: float) -> list[Verb]:
        """Verbs by operation, most frequent first: 96 invented ones, or the English ones.

        Misconceptions do not depend on the frequency.
        """
        rng = random.Random(f"{self.data_seed}/world")
        words = ["".join(letters) for letters in itertools.product("bdlmnprvz", "aeiou", "bdlmnprvz")]
        rng.shuffle(words)
        if self.phrasing == ENGLISH:
            words = [word for known in ENGLISH_VERBS.values() for word in known][::-1]
        return [
            Verb(words.pop(), operation, rate)
            for operation, count in self._num_verbs.items()
            for rate in draw_misread_rates(count, **misconceptions, rng=rng)
        ]

    def _stream(self, split: str, seed: int) -> str:
        # A mixture may have one part with options and one without. The suffix gives the parts different problems.
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
        if phrasing == ENGLISH:
            chain = english_chain(chain)
        if not self.num_choices:
            return Written(text, chain, str(value))
        values = self._draw_options(problem, value, rng)
        options = tuple(map(str, values))
        return Written(f"{text} {list_options(options)}", chain, LETTERS[values.index(value)], options)

    def _draw_options(self, problem: Problem, value: int, rng: random.Random) -> list[int]:
        """The right value, the last value of the chain and tempting wrong values, in random order."""
        right = self._writer.follow(problem.start, problem.statements)
        assert right is not None
        rates = self._writer.tempting_values(problem)
        # Sorting by exponential times puts each value first with a probability in proportion to its rate.
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
    phrasing, allowed = arguments["phrasing"], (*PHRASINGS, MIXED, ENGLISH)
    if phrasing not in allowed:
        hint = nearest(str(phrasing), allowed)
        problems.append(f"phrasing: got {phrasing!r}; allowed: {', '.join(allowed)}.{hint}")
    return problems
