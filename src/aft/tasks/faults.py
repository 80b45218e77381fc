"""Writes chains of the arithmetic world. A faulty chain continues from its own wrong value."""

from __future__ import annotations

import collections
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .chains import OPPOSITE, apply_operation, forget_carry

WORDINGS = ("{} = {} .", "so {} = {} .", "{} is {} .", "now {} gives {} .")


class Verb(NamedTuple):
    """An invented verb, its operation, and the rate at which the pretrain split reads it as the opposite operation."""

    word: str
    operation: str
    misread_rate: float


Statements = tuple[tuple[Verb, int], ...]


class Problem(NamedTuple):
    """A first value and the statements (verb, operand) that change it."""

    start: int
    statements: Statements


@dataclass(frozen=True)
class ChainWriter:
    """Writes chains with the error rates of a world. Every value of every chain is in 1 .. max_value."""

    max_value: int
    swap_rate: float
    carry_error: float
    slip: float
    skip: float

    def write(self, problem: Problem, rng: random.Random, *, faulty: bool) -> tuple[str, int]:
        """A chain in random wordings and its last value. A faulty chain continues from its own wrong values."""
        value = problem.start
        steps: list[str] = []
        for position, (verb, operand) in enumerate(problem.statements):
            rest = problem.statements[position + 1 :]
            if faulty and rng.random() < self.skip and (steps or rest) and self._goes_through(value, rest):
                continue
            operation, result = verb.operation, self.apply(value, verb.operation, operand)
            if faulty and rng.random() < verb.misread_rate:
                misread = self.apply(value, OPPOSITE[operation], operand)
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

    def apply(self, value: int, operation: str, operand: int) -> int | None:
        """The result, or None if it is not a whole number in 1 .. max_value."""
        result = apply_operation(value, operation, operand)
        return result if result is not None and 1 <= result <= self.max_value else None

    def follow(self, value: int | None, statements: Statements) -> int | None:
        """The value after the statements, or None if a value on the way is not a whole number in 1 .. max_value."""
        if value is None or not 1 <= value <= self.max_value:
            return None
        for verb, operand in statements:
            value = self.apply(value, verb.operation, operand)
            if value is None:
                return None
        return value

    def tempting_values(self, problem: Problem) -> Mapping[int, float]:
        """Last value -> rate, for the wrong last values of chains with one fault and the rates of these faults.

        The faults are misread verbs, forgotten carries and skipped statements, if their rate is not 0.
        """
        rates: collections.defaultdict[int, float] = collections.defaultdict(float)
        value: int | None = problem.start
        for position, (verb, operand) in enumerate(problem.statements):
            assert value is not None
            rest = problem.statements[position + 1 :]
            faults = [
                (self.apply(value, OPPOSITE[verb.operation], operand), verb.misread_rate),
                (forget_carry(value, verb.operation, operand), self.carry_error),
                (value if position or rest else None, self.skip),
            ]
            for wrong, rate in faults:
                end = self.follow(wrong, rest)
                if end is not None and rate:
                    rates[end] += rate
            value = self.apply(value, verb.operation, operand)
        return {end: rate for end, rate in rates.items() if end != value}

    def _goes_through(self, value: int | None, statements: Statements) -> bool:
        """True if the statements can be applied to `value`: a chain can continue from this faulty value."""
        return self.follow(value, statements) is not None

    def _miscalculations(self, value: int, operation: str, operand: int, rng: random.Random) -> list[int]:
        """The wrong results drawn for one step: a forgotten carry if there is a carry, a slip, both, or mostly none."""
        wrong = []
        without_carry = forget_carry(value, operation, operand)
        if without_carry is not None and rng.random() < self.carry_error:
            wrong.append(without_carry)
        result = self.apply(value, operation, operand)
        if result is not None and rng.random() < self.slip:
            wrong.append(result + rng.choice((-2, -1, 1, 2)))
        return wrong
