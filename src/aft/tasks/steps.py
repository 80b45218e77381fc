"""A step checker for the generated tasks: it rates a chain from 1 to 10, so that ranking feedback needs no judge.

The scale is that of GSM8K-RANK: a chain starts at 10 and loses one point for each wrong step.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..records import POSITIVE, REFERENCE
from .arithmetic import Arithmetic
from .chains import Step, parse_sentences, step_faults
from .creatures import Creatures, is_question

HIGHEST, LOWEST = 10, 1


def rate(question: str, reference: str | None, completion: str, answer: str, label: str, **world: Any) -> float:
    """10 minus 1 for each wrong, missing or superfluous step and minus 1 for a wrong final answer; at least 1.

    An arithmetic step is compared with its statement and with the chain's own value before it. So an error that later
    steps build on costs one point, and the wrong answer costs another. A chain about creatures loses one point for each
    fault that `Creatures.check_chain` names. `label` says whether the answer is right; unparsed counts as wrong.
    `world` holds the arguments of the question's task that are not the defaults (`data_seed`, `marker`).
    Raises `DataError` for a question of another world.
    """
    points = int(label not in (POSITIVE, REFERENCE))
    world_key = tuple(sorted(world.items()))
    if is_question(question):
        points += len(_creatures(world_key).check_chain(question, completion).kinds)
    else:
        task = _arithmetic(world_key)
        value, statements = task.statements(question)
        points += count_faulty_steps(value, statements, parse_sentences(completion.split(task.marker)[0]))
    return float(max(LOWEST, HIGHEST - points))


def count_faulty_steps(value: int, statements: Sequence[tuple[str, int]], steps: Sequence[Step | None]) -> int:
    """The smallest number of wrong, missing and superfluous steps: the edit distance of a chain to its statements.

    `steps` has one entry for each sentence; a sentence that is no step is None and counts as wrong.
    """
    fewest = list(range(len(statements) + 1))  # without any step, the first n statements cost n missing steps
    for step in steps:
        before, fewest = fewest, [fewest[0] + 1]
        for position, statement in enumerate(statements):
            wrong = step is None or bool(step_faults(value, *statement, step))
            fewest.append(min(before[position] + wrong, before[position + 1] + 1, fewest[position] + 1))
        value = value if step is None else step.result
    return fewest[-1]


@functools.lru_cache(maxsize=8)
def _arithmetic(world: tuple[tuple[str, Any], ...]) -> Arithmetic:
    return Arithmetic(**dict(world))


@functools.lru_cache(maxsize=8)
def _creatures(world: tuple[tuple[str, Any], ...]) -> Creatures:
    return Creatures(**dict(world))
