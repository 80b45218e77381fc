"""Arithmetic steps: applies an operation to a value, parses chains, and names the faults of a chain.

Pure functions on numbers and text. `arithmetic` writes chains with them, and error analysis checks chains with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_END = re.compile(r" \.|\.(?=\s|$)")
OPPOSITE = {"+": "-", "-": "+", "*": "/", "/": "*"}


class Step(NamedTuple):
    """One step as the chain writes it: `left operation right = result`."""

    left: int
    operation: str
    right: int
    result: int


class ChainCheck(NamedTuple):
    """The faults of a chain. `kinds` names every fault in order; each task's check defines its kinds of fault."""

    num_steps: int
    first_wrong_step: int | None  # counted from 0; num_steps if the only fault is a missing last step
    kinds: tuple[str, ...]


def apply_operation(value: int, operation: str, operand: int) -> int | None:
    """The result, or None if a division leaves a remainder or divides by 0."""
    if operation == "/":
        return value // operand if operand and value % operand == 0 else None
    return {"+": value + operand, "-": value - operand, "*": value * operand}[operation]


def forget_carry(left: int, operation: str, right: int) -> int | None:
    """The wrong result of forgetting the carry (+) or borrow (-) of the tens; None if there is no carry or borrow."""
    if operation == "+" and left % 10 + right % 10 >= 10:
        return left + right - 10
    if operation == "-" and left % 10 < right % 10:
        return left - right + 10
    return None


def parse_steps(chain: str) -> list[Step]:
    """The well-formed steps of a chain. Sentences end with a period; one without a well-formed step is skipped."""
    return [step for step in parse_sentences(chain) if step is not None]


def parse_sentences(chain: str) -> list[Step | None]:
    """The step of each non-blank sentence of a chain; None for a sentence without a well-formed step."""
    steps: list[Step | None] = []
    for sentence in _END.split(chain):
        tokens = [token for token in sentence.split() if _is_number(token) or token in OPPOSITE]
        if len(tokens) == 4 and tokens[1] in OPPOSITE and all(_is_number(tokens[at]) for at in (0, 2, 3)):
            steps.append(Step(int(tokens[0]), tokens[1], int(tokens[2]), int(tokens[3])))
        elif sentence.strip():
            steps.append(None)
    return steps


def check_steps(value: int, statements: Sequence[tuple[str, int]], steps: Sequence[Step]) -> ChainCheck:
    """Compare the steps with the (operation, operand) statements. An error that later steps build on counts once."""
    kinds: list[str] = []
    first_wrong = None
    position = 0
    for index, step in enumerate(steps):
        faults = []
        # A step belongs to the next statement whose operand it has. While more statements than steps remain, the
        # statements before that one count as skipped.
        while len(statements) - position > len(steps) - index and statements[position][1] not in (
            step.left,
            step.right,
        ):
            faults.append("skip")
            position += 1
        if position == len(statements):
            faults.append("operand")
        else:
            faults.extend(step_faults(value, *statements[position], step))
            position += 1
        if faults and first_wrong is None:
            first_wrong = index
        kinds.extend(faults)
        value = step.result
    if position < len(statements):
        first_wrong = len(steps) if first_wrong is None else first_wrong
        kinds.extend(["skip"] * (len(statements) - position))
    return ChainCheck(len(steps), first_wrong, tuple(kinds))


def _is_number(token: str) -> bool:
    return token.isascii() and token.isdigit() and len(token) < 10


def step_faults(value: int, operation: str, operand: int, step: Step) -> list[str]:
    """The faults of one step, given the value before it and its statement (operation, operand)."""
    left, written, right, result = step
    faults = ["operation"] if written != operation else []
    swapped = written in "+*" and (right, left) == (value, operand)
    if not swapped and (left, right) != (value, operand):
        faults.append("operand")
    if result == forget_carry(left, written, right):
        faults.append("carry")
    elif result != apply_operation(left, written, right):
        faults.append("arithmetic")
    return faults
