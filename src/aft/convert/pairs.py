"""Which of a question's candidates are compared: pairs in which one outranks the other, by the losses' own rule."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from ..records import Candidate

Pair = tuple[int, int]
"""Positions of two candidates in their group: the better one first."""

ALL, COVERING, BEST_WORST, ONE = SELECTIONS = ("all", "covering", "best-worst", "one")


def outranking_pairs(candidates: Sequence[Candidate], min_rating_gap: float = 0.0) -> list[Pair]:
    """Every (i, j) with i rated above j by more than the gap, in order."""
    return [
        (i, j)
        for i, better in enumerate(candidates)
        for j, worse in enumerate(candidates)
        if better.rating - worse.rating > min_rating_gap
    ]


def select_pairs(pairs: Sequence[Pair], candidates: Sequence[Candidate], selection: str, key: str = "") -> list[Pair]:
    """Those of the `pairs` that a selection takes, in order.

    all: every one. covering: few that hold every candidate that is in any pair (`_covering`). best-worst: the one with
    the widest gap, the first of equals. one: drawn at random, the same for the same `key`.
    """
    if selection == ALL or not pairs:
        return list(pairs)
    if selection == ONE:
        return [random.Random(key).choice(pairs)]
    if selection == BEST_WORST:
        return [max(pairs, key=lambda pair: candidates[pair[0]].rating - candidates[pair[1]].rating)]
    return _covering(pairs, candidates)


def _covering(pairs: Sequence[Pair], candidates: Sequence[Candidate]) -> list[Pair]:
    """A small set of pairs in which every candidate of `pairs` occurs: a matching, then the rest.

    It is a smallest one where every two candidates that are rated apart by enough are a pair. Where some are not, as
    two of the same text, it may hold a pair more than is needed.
    In order of rating, m pairs without a common member exist only if the m lowest can be matched with the m highest,
    each with the one that is as far from its end. A candidate that is left goes with the partner used least so far.
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
