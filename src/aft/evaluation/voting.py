"""Majority voting over several paths (self-consistency) and pass@k of one question, for every number of paths at once.

Everything is an average over all subsets of n of the N sampled paths, so it is unbiased for n paths and needs one set
of samples. It depends on how often each answer was reached, not on the order of the paths, and is computed exactly by
counting subsets: no random numbers. Tie rule: answers with equally many votes share the win equally, so that a right
answer in a tie of m counts 1/m, which is what drawing lots among them gives on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_PATHS = 1000  # with more, the number of subsets would not fit a float


@dataclass
class Tally:
    """How often the paths of one question reached each answer. `wrong`: the first spelling of each wrong answer."""

    right: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    unparsed: int = 0

    @property
    def total(self) -> int:
        """All paths, unparsed ones included."""
        return self.right + sum(self.wrong.values()) + self.unparsed


def tally(answers: Iterable[str | None], is_right: Callable[[str], bool], is_same: Callable[[str, str], bool]) -> Tally:
    """Count the votes. None is an unparsed path: it votes for nothing, but stays one of the paths.

    All answers that `is_right` accepts are one answer, whatever their spelling. A wrong one joins the first earlier
    answer that `is_same(earlier, it)` takes it for, so that equal answers never split their votes.
    """
    votes = Tally()
    known: dict[str, str | None] = {}  # spelling -> its answer, None for the right one
    for answer in answers:
        if answer is None:
            votes.unparsed += 1
            continue
        if answer not in known:
            earlier = (other for other in votes.wrong if is_same(other, answer))
            known[answer] = None if is_right(answer) else next(earlier, answer)
        name = known[answer]
        if name is None:
            votes.right += 1
        else:
            votes.wrong[name] = votes.wrong.get(name, 0) + 1
    return votes


def vote_accuracy(votes: Tally, ns: Sequence[int]) -> dict[int, float]:
    """n -> probability that the right answer wins the vote of n paths drawn from these without replacement.

    A subset whose paths are all unparsed has no winner and is wrong. With n = 1 this is the share of right paths, with
    n = N the vote itself. Raises `ValueError` for an n that is not in 1 .. N, or N above `MOST_PATHS`.

    Method: for each number j of votes for the right answer, count the ways to draw the other n − j paths such that no
    wrong answer has more than j and t of them have exactly j; the win is then worth 1 / (1 + t). Answers with fewer
    than j paths can neither win nor tie, so they and the unparsed paths are drawn from one heap.
    """
    total = votes.total
    if total > MOST_PATHS or any(not 1 <= n <= total for n in ns):
        raise ValueError(f"vote_accuracy: expected n in 1 .. {total} and at most {MOST_PATHS} paths, got {list(ns)}")
    wins = np.zeros(max(ns, default=0) + 1)  # by subset size
    for j in range(1, min(votes.right, len(wins) - 1) + 1):
        wins[j:] += float(math.comb(votes.right, j)) * _ways(votes, j, len(wins) - 1 - j)
    return {n: min(1.0, float(wins[n]) / math.comb(total, n)) for n in ns}  # rounding may leave 1 + 1e-16


def _ways(votes: Tally, j: int, most: int) -> np.ndarray:
    """(most + 1,): for each number of other paths, the ways to draw them without beating j votes, ties counted 1/m."""
    rivals = [count for count in votes.wrong.values() if count >= j]
    heap = votes.total - votes.right - sum(rivals)
    # ways[t, d]: d paths are drawn and t rivals have exactly j of them
    ways = np.zeros((min(len(rivals), most // j) + 1, most + 1))
    ways[0] = [float(math.comb(heap, drawn)) for drawn in range(most + 1)]
    for count in rivals:
        with_rival = np.zeros_like(ways)
        for drawn in range(min(j, most + 1)):
            with_rival[:, drawn:] += float(math.comb(count, drawn)) * ways[:, : most + 1 - drawn]
        if j <= most:
            with_rival[1:, j:] += float(math.comb(count, j)) * ways[:-1, : most + 1 - j]
        ways = with_rival
    shares = 1.0 / (1.0 + np.arange(len(ways)))
    return np.asarray(shares @ ways)


def pass_at_k(right: int, total: int, k: int) -> float:
    """Probability that at least one of k paths, drawn from `total` without replacement, is right: unbiased pass@k.

    Raises `ValueError` for impossible counts.
    """
    if not 0 <= right <= total or not 1 <= k <= total:
        raise ValueError(f"pass_at_k: expected 0 <= right <= total and 1 <= k <= total, got {right}, {total}, {k}")
    return 1.0 - math.comb(total - right, k) / math.comb(total, k)
