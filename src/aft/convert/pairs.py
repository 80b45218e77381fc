"""Selects pairs of a question's candidates in which one outranks the other, by the same rule as the losses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from ..records import Candidate

Pair = tuple[int, int]
"""Positions of the better and the worse candidate in their group."""

ALL, COVERING, BEST_WORST, ONE = SELECTIONS = ("all", "covering", "best-worst", "one")


def outranking_pairs(candidates: Sequence[Candidate], min_rating_gap: float = 0.0) -> list[Pair]:
    """Returns every (i, j) in order where i's rating is above j's by more than the gap."""
    return [
        (i, j)
        for i, better in enumerate(candidates)
        for j, worse in enumerate(candidates)
        if better.rating - worse.rating > min_rating_gap
    ]


def select_pairs(pairs: Sequence[Pair], candidates: Sequence[Candidate], selection: str, key: str = "") -> list[Pair]:
    """Returns the selected pairs, in order.

    all: every pair. covering: a small set of pairs with every candidate of `pairs` (`_covering`). best-worst: the first
    pair with the widest gap. one: a random pair, the same for the same `key`.
    """
    if selection == ALL or not pairs:
        return list(pairs)
    if selection == ONE:
        return [random.Random(key).choice(pairs)]
    if selection == BEST_WORST:
        return [max(pairs, key=lambda pair: candidates[pair[0]].rating - candidates[pair[1]].rating)]
    return _covering(pairs, candidates)


def _covering(pairs: Sequence[Pair], candidates: Sequence[Candidate]) -> list[Pair]:
    """Returns a small set of pairs in which every candidate of `pairs` occurs: a matching, then pairs for the rest.

    The set is minimal if every two candidates with a large enough gap form a pair. If some do not, for example two with
    the same text, the set may have an unneeded pair.
    m disjoint pairs exist only if, in order of rating, the i-th of the m lowest candidates forms a pair with the i-th
    of the m highest. Each unmatched candidate is paired with the partner that is used least so far.
    """
    allowed = set(pairs)
    members = sorted({member for pair in pairs for member in pair}, key=lambda member: candidates[member].rating)
    chosen: set[Pair] = set()
    for size in range(len(members) // 2, 0, -1):
        matching = set(zip(members[-size:], members[:size], strict=True))
        if matching <= allowed:
            chosen = matching
            break
    used = Counter(member for pair in chosen for member in pair)
    for member in sorted(members):
        if not used[member]:
            pair = min((pair for pair in pairs if member in pair), key=lambda pair: used[pair[0]] + used[pair[1]])
            chosen.add(pair)
            used.update(pair)
    return sorted(chosen)
