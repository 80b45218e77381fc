"""Ratings from pairwise preferences: a completion is rated by how many stand below it, one under the other."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

Losers = Mapping[str, Mapping[str, str]]
"""Completion -> the completions that it was preferred to -> where that is said. Every completion is a key."""


class Contradiction(Exception):
    """The preferences go round in a circle: `pairs` are (better, worse) in which each worse one is the next better."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


@dataclasses.dataclass(frozen=True)
class Order:
    """What preferences say together: `levels`, and how many pairs `stated` pairs imply, themselves included."""

    levels: dict[str, float]
    stated: int
    implied: int


def order_of(losers: Losers) -> Order:
    """The level of every completion: the longest chain of preferences below it, so 1 and 0 where there is one pair.

    The better one of a pair always gets the higher level. Two completions that no chain connects get levels too,
    equal or not; how many pairs the levels add is for the caller to count and to tell.
    Raises `Contradiction` where a completion is better than itself.
    """
    sorter = TopologicalSorter(losers)
    try:
        ascending = list(sorter.static_order())  # the worse ones come first
    except CycleError as error:
        circle = error.args[1][:0:-1]  # each is preferred to the next, and the last to the first
        start = circle.index(next(text for text in losers if text in circle))
        circle = [*circle[start:], *circle[: start + 1]]
        raise Contradiction(list(itertools.pairwise(circle))) from None
    bit = {text: 1 << position for position, text in enumerate(ascending)}
    levels: dict[str, float] = {}
    below: dict[str, int] = {}  # the set of all that stand below, one bit each
    for text in ascending:
        levels[text] = max((levels[loser] + 1.0 for loser in losers[text]), default=0.0)
        below[text] = 0
        for loser in losers[text]:
            below[text] |= below[loser] | bit[loser]
    implied = sum(bits.bit_count() for bits in below.values())
    return Order(levels, sum(map(len, losers.values())), implied)


def count_pairs(ratings: Mapping[str, float]) -> int:
    """In how many pairs one is rated above the other."""
    size = len(ratings)
    return size * (size - 1) // 2 - sum(n * (n - 1) // 2 for n in Counter(ratings.values()).values())
