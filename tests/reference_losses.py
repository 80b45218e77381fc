"""Every loss once more: slow loops over Python floats, one group at a time, written from the paper's equations.

Shares no code with the package. `stopped` are the scores that a stop-gradient D(.) sees. They equal `scores` unless a
caller moves `scores` alone: finite differences of that give the gradient that reaches the model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

Floats = Sequence[float]

BOUNDED = ("boundary", "mirror", "floor")
GATED = ("tapered", "pass_rate", "balanced")


def log_one_plus(terms: Floats) -> float:
    return math.log1p(math.fsum(terms))


def pairs_of(ratings: Floats, min_gap: float = 0.0) -> list[tuple[int, int]]:
    """(i, j) wherever i is rated higher than j by more than min_gap."""
    both = itertools.product(range(len(ratings)), repeat=2)
    return [(i, j) for i, j in both if ratings[i] - ratings[j] > min_gap]


# The binary losses: positives and negatives by name.


def eq6(positives: Floats, negatives: Floats) -> float:
    terms = []
    for p in positives:
        for n in negatives:
            terms.append(math.exp(n - p))
    return log_one_plus(terms)


def eq7(positives: Floats, stopped_negatives: Floats) -> float:
    terms = []
    for p in positives:
        for stopped in stopped_negatives:
            terms.append(math.exp(stopped - p))
    return log_one_plus(terms)


def eq8(positives: Floats, negatives: Floats, stopped_positives: Floats, beta: float) -> float:
    terms = []
    for p, stopped in zip(positives, stopped_positives, strict=True):
        target = 2 * min(stopped_positives) - 2 * beta - stopped
        for n in negatives:
            terms.append(math.exp(n - p))
            terms.append(math.exp(target - n))
    return log_one_plus(terms)


# The ranking losses.


def eq14(scores: Floats, ratings: Floats, min_gap: float = 0.0) -> float:
    return log_one_plus([math.exp(scores[j] - scores[i]) for i, j in pairs_of(ratings, min_gap)])


def eq12(scores: Floats, ratings: Floats, stopped: Floats, min_gap: float = 0.0) -> float:
    return log_one_plus([math.exp(stopped[j] - scores[i]) for i, j in pairs_of(ratings, min_gap)])


def eq13(scores: Floats, ratings: Floats, stopped: Floats) -> float:
    terms = []
    for i, j in pairs_of(ratings):
        lower = stopped[j] if ratings[j] == min(ratings) else scores[j]
        terms.append(math.exp(lower - scores[i]))
    return log_one_plus(terms)


def lowest_superior(j: int, scores: Floats, ratings: Floats, min_gap: float = 0.0) -> float:
    """s_j* of Eq 11."""
    return min(scores[k] for k, lower in pairs_of(ratings, min_gap) if lower == j)


def boundary_of(
    j: int, ratings: Floats, stopped: Floats, beta: float, min_gap: float, constraint: str = "boundary"
) -> float:
    if constraint == "floor":
        outranked = sorted({lower for _, lower in pairs_of(ratings, min_gap)})
        return mean([constraint.start[lower] for lower in outranked]) - constraint.spread
    return lowest_superior(j, stopped, ratings, min_gap) - beta


def boundary_term(
    i: int,
    j: int,
    scores: Floats,
    ratings: Floats,
    stopped: Floats,
    beta: float,
    min_gap: float,
    constraint: str = "boundary",
) -> float:
    return math.exp(2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - stopped[i] - scores[j])


def eq11(scores: Floats, ratings: Floats, stopped: Floats, beta: float, min_gap: float = 0.0) -> float:
    terms = []
    for i, j in pairs_of(ratings, min_gap):
        terms.append(math.exp(scores[j] - scores[i]))
        terms.append(boundary_term(i, j, scores, ratings, stopped, beta, min_gap))
    return log_one_plus(terms)


def alignment(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    if constraint == "none":
        return eq14(scores, ratings, min_gap)
    if constraint == "detached":
        return eq12(scores, ratings, stopped, min_gap)
    if constraint == "lowest_only":
        assert min_gap == 0
        return eq13(scores, ratings, stopped)
    if constraint in ("boundary", "mirror"):
        return eq11(scores, ratings, stopped, beta, min_gap)
    terms = []
    for i, j in pairs_of(ratings, min_gap):
        terms.append(math.exp(as_lower(j, scores, ratings, stopped, constraint) - as_higher(i, scores, constraint)))
        if constraint == "floor":
            terms.append(boundary_term(i, j, scores, ratings, stopped, beta, min_gap, constraint))
    return log_one_plus(terms)


# The baselines, each with every constraint.


class Rule(str):
    """A constraint's name, with what the constraints without a constant compare with. A group without padding."""

    def __new__(cls, name: str, **compared: Any) -> Rule:
        rule = super().__new__(cls, name)
        vars(rule).update(compared)
        return rule

    def gain(self, j: int, stopped: Floats) -> float:
        return (stopped[j] - self.start[j]) * (self.lengths[j] if self.endswith("_sum") else 1)


def gate(j: int, ratings: Floats, stopped: Floats, constraint: str) -> float:
    """The factor that a constraint leaves of the push on j."""
    if constraint == "detached" or (constraint == "lowest_only" and ratings[j] == min(ratings)):
        return 0.0
    if not constraint.startswith(GATED):
        return 1.0
    assert isinstance(constraint, Rule)
    above = [i for i, lower in pairs_of(ratings, constraint.min_gap) if lower == j]
    gain = constraint.gain(j, stopped)
    if constraint.startswith("balanced"):
        room = 1e-3 * (constraint.lengths[j] if constraint.endswith("_sum") else 1)
        return float(bool(above) and all(gain > room - constraint.gain(i, stopped) for i in above))
    ratio = min(1.0, math.exp(min(gain, 1.0)))
    if constraint.startswith("tapered"):
        return ratio
    rate = min(max(len(above) / len(ratings), 0.02), 0.98)
    return rate * ratio / (1 - rate * ratio)


def as_lower(j: int, scores: Floats, ratings: Floats, stopped: Floats, constraint: str) -> float:
    return stopped[j] + gate(j, ratings, stopped, constraint) * (scores[j] - stopped[j])


def as_higher(i: int, scores: Floats, constraint: str) -> float:
    if constraint != "positive_floor":
        return scores[i]
    assert isinstance(constraint, Rule)
    stopped, ratings = constraint.stopped, constraint.ratings
    outranks = any(higher == i for higher, _ in pairs_of(ratings, constraint.min_gap))
    factor = 1 + constraint.weight if outranks and stopped[i] < constraint.start[i] else 1.0
    return stopped[i] + factor * (scores[i] - stopped[i])


def rrhf(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    total = 0.0
    for i, j in pairs_of(ratings, min_gap):
        total += max(0.0, as_lower(j, scores, ratings, stopped, constraint) - as_higher(i, scores, constraint))
        if constraint in BOUNDED:
            total += max(0.0, boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j])
    return total


def pro(
    scores: Floats,
    ratings: Floats,
    stopped: Floats,
    constraint: str,
    beta: float,
    min_gap: float,
    dynamic_temperature: bool = True,
) -> float:
    total = 0.0
    for i in range(len(scores)):
        below = [j for higher, j in pairs_of(ratings, min_gap) if higher == i]
        tau = {j: ratings[i] - ratings[j] if dynamic_temperature else 1.0 for j in below}
        terms = []
        for j in below:
            lower = as_lower(j, scores, ratings, stopped, constraint)
            terms.append(math.exp(tau[j] * lower - max(tau.values()) * as_higher(i, scores, constraint)))
            if constraint == "boundary":
                terms.append(boundary_term(i, j, scores, ratings, stopped, beta, min_gap))
            if constraint in ("mirror", "floor"):
                image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
                terms.append(math.exp(tau[j] * image - max(tau.values()) * stopped[i]))
        total += log_one_plus(terms)
    return total


def dpo(
    scores: Floats,
    ref_scores: Floats,
    ratings: Floats,
    stopped: Floats,
    constraint: str,
    beta: float,
    min_gap: float,
    temperature: float = 0.1,
) -> float:
    total = 0.0
    for i in range(len(scores)):
        terms = []
        for higher, j in pairs_of(ratings, min_gap):
            if higher != i:
                continue
            lower, higher = as_lower(j, scores, ratings, stopped, constraint), as_higher(i, scores, constraint)
            terms.append(math.exp(temperature * (lower - ref_scores[j]) - temperature * (higher - ref_scores[i])))
            if constraint == "boundary":
                terms.append(boundary_term(i, j, scores, ratings, stopped, beta, min_gap))
            if constraint in ("mirror", "floor"):
                image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
                ratio = temperature * (stopped[i] - ref_scores[i])
                terms.append(math.exp(temperature * (image - ref_scores[j]) - ratio))
        total += log_one_plus(terms)
    return total


def pro_reference_code(
    scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    """The published code's loop over ranks: candidates sorted best first, equals in the order given."""
    assert min_gap == 0
    order = sorted(range(len(scores)), key=lambda i: -ratings[i])
    total = 0.0
    for place, i in enumerate(order[:-1]):
        later = order[place + 1 :]
        temperatures = [ratings[i] - ratings[j] for j in later]
        top = max(temperatures)
        higher = as_higher(i, scores, constraint)
        terms = [1e-10 * math.exp(-top * higher)]
        for j, temperature in zip(later, temperatures, strict=True):
            # an equal has temperature 0: no score is in its term
            lower = as_lower(j, scores, ratings, stopped, constraint) if temperature else 0.0
            terms.append(math.exp(temperature * lower - top * higher))
            if constraint == "boundary" and temperature:
                terms.append(boundary_term(i, j, scores, ratings, stopped, beta, min_gap))
            if constraint in ("mirror", "floor") and temperature:
                image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
                terms.append(math.exp(temperature * image - top * stopped[i]))
        total += log_one_plus(terms)
    return total


# The modern relatives.


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: Floats) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def has_boundary(j: int, ratings: Floats, constraint: str, min_gap: float) -> bool:
    return constraint in BOUNDED and any(lower == j for _, lower in pairs_of(ratings, min_gap))


def simpo(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    losses = []
    for i, j in pairs_of(ratings, min_gap):
        lower = as_lower(j, scores, ratings, stopped, constraint)
        terms = [math.exp(0.5 - 2.0 * (as_higher(i, scores, constraint) - lower))]
        if has_boundary(j, ratings, constraint, min_gap):
            image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
            terms.append(math.exp(0.5 - 2.0 * (stopped[i] - image)))
        losses.append(log_one_plus(terms))
    return mean(losses)


def orpo(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    def odds(score: float) -> float:
        return math.exp(score) / (1 - math.exp(score))

    losses = []
    for i, j in pairs_of(ratings, min_gap):
        lower = as_lower(j, scores, ratings, stopped, constraint)
        terms = [odds(lower) / odds(as_higher(i, scores, constraint))]
        if has_boundary(j, ratings, constraint, min_gap):
            image = odds(boundary_of(j, ratings, stopped, beta, min_gap, constraint)) ** 2 / odds(scores[j])
            terms.append(image / odds(stopped[i]))
        losses.append(log_one_plus(terms))
    return mean(losses)


def ipo(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    losses = []
    for i, j in pairs_of(ratings, min_gap):
        lower = as_lower(j, scores, ratings, stopped, constraint)
        loss = (as_higher(i, scores, constraint) - ref[i] - (lower - ref[j]) - 1 / (2 * 0.1)) ** 2
        if has_boundary(j, ratings, constraint, min_gap):
            image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
            loss += (stopped[i] - ref[i] - (image - ref[j]) - 1 / (2 * 0.1)) ** 2
        losses.append(loss)
    return mean(losses)


def kto(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    losses = []
    for j in range(len(scores)):
        if ratings[j] > 0.5:
            losses.append(1 - sigmoid(0.1 * (as_higher(j, scores, constraint) - ref[j])))
        else:
            own = as_wrong(j, scores, ratings, stopped, constraint, min_gap)
            if has_boundary(j, ratings, constraint, min_gap):
                edge = boundary_of(j, ratings, stopped, beta, min_gap, constraint)
                own = edge + abs(own - edge)
            losses.append(1 - sigmoid(-0.1 * (own - ref[j])))
    return mean(losses)


def nca(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    pairs = pairs_of(ratings, min_gap)
    weights = [math.exp((rating - max(ratings)) / 0.1) for rating in ratings] if ratings else []
    losses = []
    for i in range(len(scores)):
        outranked, outranks = any(j == i for _, j in pairs), any(k == i for k, _ in pairs)
        spared = outranked and (constraint == "detached" or (constraint == "lowest_only" and not outranks))
        own = stopped[i] if spared else scores[i]
        if outranked and constraint.startswith(GATED):
            own = as_lower(i, scores, ratings, stopped, constraint)
        up = 0.1 * ((own if outranked and not outranks else as_higher(i, scores, constraint)) - ref[i])
        down = 0.1 * (own - ref[i])
        loss = -weights[i] / math.fsum(weights) * math.log(sigmoid(up)) - math.log(sigmoid(-down)) / len(scores)
        if has_boundary(i, ratings, constraint, min_gap):
            image = 2 * boundary_of(i, ratings, stopped, beta, min_gap, constraint) - scores[i]
            loss -= math.log(sigmoid(-0.1 * (image - ref[i]))) / len(scores)
        losses.append(loss)
    return math.fsum(losses)


# The relatives that stop the push on wrong candidates by a rule.


def is_spared(j: int, ratings: Floats, constraint: str, min_gap: float) -> bool:
    ranked = {i for i, _ in pairs_of(ratings, min_gap)}
    return constraint == "detached" or (constraint == "lowest_only" and j not in ranked)


def as_wrong(j: int, scores: Floats, ratings: Floats, stopped: Floats, constraint: str, min_gap: float) -> float:
    """A wrong candidate's score where a loss acts on it whatever it is compared with."""
    if constraint.startswith(GATED):
        return as_lower(j, scores, ratings, stopped, constraint)
    return (stopped if is_spared(j, ratings, constraint, min_gap) else scores)[j]


def turned(term: Callable[[float], float], own: float, boundary: float | None) -> float:
    """The term of a wrong candidate. Below its boundary, if it has one, the term's change has the other sign."""
    if boundary is None or own >= boundary:
        return term(own)
    return 2 * term(boundary) - term(own)


def edge(j: int, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float | None:
    if has_boundary(j, ratings, constraint, min_gap):
        return boundary_of(j, ratings, stopped, beta, min_gap, constraint)
    return None


def nft(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    """By the paper's max_v: the value of the implicit negative policy is clipped, its gradient kept.

    What is returned has the gradient of the paper's loss and, where nothing is clipped, its value. Where something is
    clipped, the value goes on along the tangent at the floor.
    """
    right = [rating > 0.5 for rating in ratings]
    if all(right) or not any(right) or not pairs_of(ratings, min_gap):
        return 0.0
    q = min(max(sum(right) / len(right), 0.02), 0.98)
    losses = []
    for j in range(len(scores)):
        if right[j]:
            losses.append(-(as_higher(j, scores, constraint) - ref[j]))
            continue

        def term(own: float, j: int = j) -> float:
            policy = (1 - q * math.exp(own - ref[j])) / (1 - q)
            return -math.log(policy) if policy > 1.0 else 1.0 - policy

        own = as_wrong(j, scores, ratings, stopped, constraint, min_gap)
        losses.append(turned(term, own, edge(j, ratings, stopped, constraint, beta, min_gap)))
    return (1 - q) * mean(losses)


def topr(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    losses = []
    for j in range(len(scores)):
        if ratings[j] > 0.5:
            losses.append(-(as_higher(j, scores, constraint) - ref[j]))
            continue

        def term(own: float, j: int = j) -> float:
            ratio = math.exp(own - ref[j])
            return ratio if ratio < 1 else 1 + own - ref[j]

        own = as_wrong(j, scores, ratings, stopped, constraint, min_gap)
        losses.append(turned(term, own, edge(j, ratings, stopped, constraint, beta, min_gap)))
    return mean(losses)


def simper(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    losses = []
    for i, j in pairs_of(ratings, min_gap):
        lower = as_lower(j, scores, ratings, stopped, constraint)
        losses.append(
            turned(math.exp, lower, edge(j, ratings, stopped, constraint, beta, min_gap))
            - math.exp(as_higher(i, scores, constraint))
        )
    return mean(losses)


def bpo(
    scores: Floats, ref: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float
) -> float:
    losses = []
    for i, j in pairs_of(ratings, min_gap):
        lower = as_lower(j, scores, ratings, stopped, constraint)
        margins = [min(0.1 * (as_higher(i, scores, constraint) - ref[i]), -0.1 * (lower - ref[j]))]
        if has_boundary(j, ratings, constraint, min_gap):
            image = 2 * boundary_of(j, ratings, stopped, beta, min_gap, constraint) - scores[j]
            margins.append(min(0.1 * (stopped[i] - ref[i]), -0.1 * (image - ref[j])))
        losses.append(log_one_plus([math.exp(-margin) for margin in margins]))
    return mean(losses)


def asymre(scores: Floats, ratings: Floats, stopped: Floats, constraint: str, beta: float, min_gap: float) -> float:
    losses = []
    for j in range(len(scores)):
        advantage = ratings[j] - (mean(ratings) - 0.1)
        if advantage >= 0:
            losses.append(-advantage * as_higher(j, scores, constraint))
            continue
        own = as_wrong(j, scores, ratings, stopped, constraint, min_gap)
        losses.append(-advantage * turned(lambda s: s, own, edge(j, ratings, stopped, constraint, beta, min_gap)))
    return mean(losses)
