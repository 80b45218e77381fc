"""Ratings from pairwise preferences. A completion's rating is the longest path of preferences below it."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

Losers = Mapping[str, Mapping[str, str]]
"""Completion -> completion that it was preferred to -> location of that row. Every completion is a key."""


class Contradiction(Exception):
    """The preferences form a cycle. `pairs` are its (better, worse) edges in order."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


@dataclasses.dataclass(frozen=True)
class Order:
    """The combined preferences: the level of each completion, and the number of pairs.

    `stated`: number of given pairs. `implied`: number of pairs that follow from the given ones, including these.
    """

    levels: dict[str, float]
    stated: int
    implied: int


def order_of(losers: Losers) -> Order:
    """Returns the level of every completion: the length of the longest path of preferences below it.

    A single pair has levels 1 and 0. The better completion of a pair always has the higher level. Two completions
    without a path between them may get different levels, so levels can add pairs. The caller counts those.
    Raises `Contradiction` if the preferences form a cycle.
    """
    sorter = TopologicalSorter(losers)
    try:
        ascending = list(sorter.static_order())  # worse completions come first
    except CycleError as error:
        circle = error.args[1][:0:-1]  # each completion is preferred to the next one
        start = circle.index(next(text for text in losers if text in circle))
        circle = [*circle[start:], *circle[: start + 1]]
        raise Contradiction(list(itertools.pairwise(circle))) from None
    bit = {text: 1 << position for position, text in enumerate(ascending)}
    levels: dict[str, float] = {}
    below: dict[str, int] = {}  # the set of all worse completions, one bit each
    for text in ascending:
        levels[text] = max((levels[loser] + 1.0 for loser in losers[text]), default=0.0)
        below[text] = 0
        for loser in losers[text]:
            below[text] |= below[loser] | bit[loser]
    implied = sum(bits.bit_count() for bits in below.values())
    return Order(levels, sum(map(len, losers.values())), implied)


def count_pairs(ratings: Mapping[str, float]) -> int:
    """Returns the number of pairs with different ratings."""
    size = len(ratings)
    return size * (size - 1) // 2 - sum(n * (n - 1) // 2 for n in Counter(ratings.values()).values())
