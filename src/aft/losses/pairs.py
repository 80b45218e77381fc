"""Which candidate outranks which in a group, and what a constraint changes. All losses use this module for both.

Axes: `B` questions in the batch, `G` candidate slots per question. A pairwise tensor is `(B, G, G)`: entry `[b, i, j]`
is about candidate i as the higher and candidate j as the lower of a pair.
`scores` are means over response tokens, float, nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from .constraints import (
    UNCONSTRAINED,
    Balanced,
    Boundary,
    Constraint,
    Detached,
    Floor,
    PositiveFloor,
    SinceStart,
    Tapered,
)

# The order of the vector that `pair_statistics` returns. Every entry is a sum, so vectors add up.
STATISTICS = (
    "positive_sum",
    "positive_count",
    "negative_sum",
    "negative_count",
    "margin_sum",
    "pair_count",
    "ordered_count",
    "active_count",
    "bounded_count",
    "groups_without_pair",
    "gate_sum",
    "gated_count",
)

# The least and the greatest share of right candidates that NFT counts with.
PASS_RATES = (0.02, 0.98)
# Nats per token. `Balanced` pushes a candidate only if it may still fall by more than this. Rounding in another batch
# can change a score by nearly as much, and must not decide whether a candidate is pushed.
_LEAST_ROOM = 1e-3


Values = Callable[[Tensor], Tensor]
Compare = Callable[[Tensor, Tensor], Tensor]


def _as_they_are(scores: Tensor) -> Tensor:
    return scores


def lower_minus_higher(lower: Tensor, higher: Tensor) -> Tensor:
    """The exponent that most losses use."""
    return lower - higher


@dataclass(frozen=True)
class Pairs:
    """The pairs of a batch with the constraint applied. Padding slots hold zeros and belong to no pair."""

    real: Tensor  # (B, G) bool, the candidate mask
    ratings: Tensor  # (B, G) float32 or float64
    scores: Tensor  # (B, G) float32 or float64, with gradient
    lower: Tensor  # (B, G) the scores for use as the lower of a pair: their gradient is scaled by the constraint's gate
    higher: Tensor  # (B, G) the scores for use as the higher of a pair
    outranks: Tensor  # (B, G, G) bool
    rating_gaps: Tensor  # (B, G, G) rating of the higher minus rating of the lower
    boundary: Tensor | None  # (B, G) each candidate's boundary, unused if none outranks it; None: no boundary
    gate: Tensor | None  # (B, G) detached, the factor of `lower`'s gradient; None: the constraint has none
    fixed: Tensor  # (B, G) the scores for use as the higher of a pair in the boundary term: detached by default

    def log_terms(self, compare: Compare, *, values: Values = _as_they_are, mirror: bool = True) -> list[Tensor]:
        """`terms` as exponents for `log_one_plus_sum`: -inf where there is no pair."""
        # Masked before exp: a slot without a pair must give neither an infinite value nor a nan gradient.
        terms = self.terms(compare, values=values, mirror=mirror)
        return [term.masked_fill(~self.outranks, -torch.inf) for term in terms]

    def terms(self, compare: Compare, *, values: Values = _as_they_are, mirror: bool = True) -> list[Tensor]:
        """The loss's own term of each pair and, under a boundary, the boundary term; (B, G, G) each.

        `values` maps scores (B, G) to the values that the loss compares and increases with the scores. `compare` maps
        the values of a pair's lower (B, 1, G) and higher (B, G, 1) to (B, G, G). The boundary term is `compare` of the
        lower's mirror image, or T - s_j without `mirror`.
        """
        terms = [compare(values(self.lower).unsqueeze(1), values(self.higher).unsqueeze(2))]
        if self.boundary is not None and mirror:
            image = 2 * values(self.boundary) - values(self.scores)  # grows as s_j falls
            terms.append(compare(image.unsqueeze(1), values(self.fixed).unsqueeze(2)))
        elif self.boundary is not None:
            target = 2 * self.boundary.unsqueeze(1) - self.fixed.unsqueeze(2)  # the T of Eq 8 and Eq 11
            terms.append(target - self.scores.unsqueeze(1))
        return terms

    def masked(self, values: Tensor) -> Tensor:
        """`values` (B, G) in the scores' precision, with 0 in all padding slots."""
        return torch.where(self.real, values.to(self.scores.dtype), 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` over the pairs of each group, (B, G, G) -> (B,); 0 for a group without a pair."""
        counts = self.outranks.sum(dim=(1, 2)).clamp(min=1)
        return torch.where(self.outranks, values, 0.0).sum(dim=(1, 2)) / counts


def log_one_plus_sum(log_terms: Tensor) -> Tensor:
    """log(1 + sum of exp(log_terms)) over the last axis. Exactly 0 for no terms or all -inf; finite for any gap."""
    zero = log_terms.new_zeros((*log_terms.shape[:-1], 1))
    return torch.logsumexp(torch.cat([zero, log_terms], dim=-1), dim=-1)


def compare_candidates(
    function: str,
    scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None,
    constraint: Constraint,
    min_rating_gap: float,
) -> Pairs:
    """The pairs of a batch under a constraint. `function`: the caller's name, for the `ValueError` of a bad argument.

    Padding slots are set to 0 first, so that their contents, nan included, reach neither value nor gradient.
    A real candidate whose rating is not finite turns the loss of its group into nan.
    """
    candidate_mask = _checked_mask(function, scores, ratings, candidate_mask, constraint, min_rating_gap)
    scores = torch.where(candidate_mask, scores.to(torch.promote_types(scores.dtype, torch.float32)), 0.0)
    # Ratings are compared in their own precision: float32 scores must not make two float64 ratings equal.
    ratings = torch.where(candidate_mask, ratings.to(torch.promote_types(ratings.dtype, torch.float32)), 0.0)
    unranked = ~torch.isfinite(ratings)
    scores = torch.where(unranked, torch.nan, scores)

    rating_gaps = ratings.unsqueeze(2) - ratings.unsqueeze(1)  # (B, G, G)
    both_real = candidate_mask.unsqueeze(2) & candidate_mask.unsqueeze(1)
    # An unranked candidate is paired with every other, so that its nan score reaches the loss.
    unranked_pair = unranked.unsqueeze(2) | unranked.unsqueeze(1)
    outranks = both_real & ((rating_gaps > min_rating_gap) | unranked_pair)

    real = candidate_mask
    boundary, fixed = _boundary(function, scores, real, outranks, constraint)
    gate = _gate(function, scores, real, outranks, constraint)
    lower = _lower(scores, outranks, constraint, gate)
    higher = _higher(function, scores, real, outranks, constraint)
    gaps = rating_gaps.to(scores.dtype)
    return Pairs(real, ratings, scores, lower, higher, outranks, gaps, boundary, gate, fixed)


def _boundary(
    function: str, scores: Tensor, real: Tensor, outranks: Tensor, constraint: Constraint
) -> tuple[Tensor | None, Tensor]:
    """(boundary, fixed) of `Pairs`."""
    outranked = outranks.any(dim=1)  # (B, G)
    if isinstance(constraint, Boundary):
        # T is a constant: the paper's gradient of the boundary loss has no derivative of T (Eq 9).
        fixed = scores.detach() if constraint.detach_target else scores
        superiors = torch.where(outranks, fixed.unsqueeze(2), torch.inf)  # (B, G, G)
        lowest_superior = torch.where(outranked, superiors.amin(dim=1), 0.0)  # (B, G)
        return lowest_superior - constraint.beta, fixed
    if isinstance(constraint, Floor):
        initial = _at_start(function, "initial_scores", constraint.initial_scores, scores, real)
        total = torch.where(outranked, initial, 0.0).sum(dim=1, keepdim=True)
        mean = total / outranked.sum(dim=1, keepdim=True).clamp(min=1)
        return (mean - constraint.spread).expand_as(scores), scores.detach()
    return None, scores


@torch.no_grad()
def _gate(function: str, scores: Tensor, real: Tensor, outranks: Tensor, constraint: Constraint) -> Tensor | None:
    """(B, G), the factor of each candidate's gradient as the lower of a pair; None: the constraint has no factor."""
    if not isinstance(constraint, SinceStart):
        return None
    gains = scores - _at_start(function, "initial_scores", constraint.initial_scores, scores, real)  # (B, G)
    room = torch.full_like(gains, _LEAST_ROOM)
    if constraint.lengths is not None:
        lengths = _at_start(function, "lengths", constraint.lengths, scores, real)
        gains, room = gains * lengths, room * lengths
    if isinstance(constraint, Balanced):
        least = torch.where(outranks, gains.unsqueeze(2), torch.inf).amin(dim=1)  # (B, G), inf: none outranks j
        return (outranks.any(dim=1) & (gains > room - least)).to(scores.dtype)
    ratios = gains.clamp(max=0).exp()
    if isinstance(constraint, Tapered):
        return ratios
    superiors = outranks.sum(dim=1).to(scores.dtype) / real.sum(dim=1, keepdim=True).clamp(min=1)
    expected = ratios * superiors.clamp(*PASS_RATES)
    return expected / (1 - expected)


def _lower(scores: Tensor, outranks: Tensor, constraint: Constraint, gate: Tensor | None) -> Tensor:
    """(B, G), the scores for use as the lower of a pair."""
    still = scores.detach()
    if isinstance(constraint, Detached):
        # Pushing negatives down without end harms the model. Detached, they only weight the push up (Eq 7, 12).
        # Under `lowest_only` the others still are pushed down, as the lower of a pair (Eq 13).
        return torch.where(outranks.any(dim=2), scores, still) if constraint.lowest_only else still
    if gate is None:
        return scores
    # The value is that of the scores. Where the gate is 0, not even an infinite gradient passes.
    return torch.where(gate == 0, still, still + gate * (scores - still))


def _higher(function: str, scores: Tensor, real: Tensor, outranks: Tensor, constraint: Constraint) -> Tensor:
    """(B, G), the scores for use as the higher of a pair."""
    if not isinstance(constraint, PositiveFloor):
        return scores
    initial = _at_start(function, "initial_scores", constraint.initial_scores, scores, real)
    still = scores.detach()
    fallen = outranks.any(dim=2) & (still < initial)
    return torch.where(fallen, still + (1 + constraint.weight) * (scores - still), scores)


def _at_start(function: str, name: str, value: Tensor, scores: Tensor, real: Tensor) -> Tensor:
    """A tensor (B, G) of the constraint, detached, in the scores' precision, 0 in padding slots."""
    check_shape(function, f"constraint.{name}", value, scores)
    return torch.where(real, value.detach().to(scores.dtype), 0.0)


def pair_statistics(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> Tensor:
    """The sums and counts behind a loss's metrics, exact over micro-batches and ranks.

    Returns one vector (12,) in the order of `STATISTICS`, detached, float32 (float64 for float64 scores). Sum the
    vectors over micro-batches and ranks, then call `metrics_from_statistics` on the total.
    Arguments and errors are those of `alignment_loss`.
    """
    pairs = compare_candidates("pair_statistics", scores.detach(), ratings, candidate_mask, constraint, min_rating_gap)
    return _statistics(pairs)


def metrics_from_statistics(statistics: Tensor) -> dict[str, Tensor]:
    """Metrics as 0-dim tensors, from the vector (12,) of `pair_statistics` or a sum of such vectors.

    `scores/positive`: mean score, nats per token, of the candidates that outrank another and that none outranks
    (binary feedback: the positives of groups that also hold a negative).
    `scores/negative`: mean score, nats per token, of the candidates that another outranks (binary feedback: the
    negatives of groups that also hold a positive).
    `scores/margin`: mean over pairs of the higher's score minus the lower's. Large groups have more pairs, so the
    margin can differ from `scores/positive` minus `scores/negative`.
    `pairs/accuracy`: share of the pairs in which the higher-rated scores higher; a tie counts half. Reversed ratings
    take it below a half, and constant ones make it nan.
    `constraint/active_fraction`: share of the negatives at or below their boundary; nan without a boundary constraint.
    `constraint/gate`: mean over the negatives of the factor that the constraint leaves of the push down; nan for a
    constraint without such a factor.
    `groups/without_pair`: the number of groups in which no candidate outranks another.
    A mean or share over nothing is nan.
    """
    value = dict(zip(STATISTICS, statistics.unbind(), strict=True))
    return {
        "scores/positive": value["positive_sum"] / value["positive_count"],
        "scores/negative": value["negative_sum"] / value["negative_count"],
        "scores/margin": value["margin_sum"] / value["pair_count"],
        "pairs/accuracy": value["ordered_count"] / value["pair_count"],
        "constraint/active_fraction": value["active_count"] / value["bounded_count"],
        "constraint/gate": value["gate_sum"] / value["gated_count"],
        "groups/without_pair": value["groups_without_pair"],
    }


def pair_metrics(pairs: Pairs) -> dict[str, Tensor]:
    """The metrics of one batch, as every loss returns them. `metrics_from_statistics` says what each means."""
    return metrics_from_statistics(_statistics(pairs))


@torch.no_grad()
def _statistics(pairs: Pairs) -> Tensor:
    scores = pairs.scores.detach()
    negative = pairs.outranks.any(dim=1)
    positive = pairs.outranks.any(dim=2) & ~negative
    margins = scores.unsqueeze(2) - scores.unsqueeze(1)  # (B, G, G)
    ordered = torch.where(margins == 0, 0.5, (margins > 0).to(scores.dtype))
    bounded = torch.zeros_like(negative) if pairs.boundary is None else negative
    active = bounded if pairs.boundary is None else negative & (scores <= pairs.boundary)
    gated = torch.zeros_like(negative) if pairs.gate is None else negative
    sums = (
        torch.where(positive, scores, 0.0),
        positive,
        torch.where(negative, scores, 0.0),
        negative,
        torch.where(pairs.outranks, margins, 0.0),
        pairs.outranks,
        torch.where(pairs.outranks, ordered, 0.0),
        active,
        bounded,
        ~pairs.outranks.flatten(1).any(dim=1),
        torch.zeros_like(scores) if pairs.gate is None else torch.where(gated, pairs.gate, 0.0),
        gated,
    )
    return torch.stack([part.sum(dtype=scores.dtype) for part in sums])


def _checked_mask(
    function: str,
    scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None,
    constraint: Constraint,
    min_rating_gap: float,
) -> Tensor:
    """The candidate mask, all true by default. Raises `ValueError` on any bad argument."""
    if not isinstance(scores, Tensor):
        raise ValueError(f"{function}: scores must be a tensor, got {type(scores).__name__}")
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"{function}: scores must be (B, G) with G >= 1, got {tuple(scores.shape)}")
    if not scores.dtype.is_floating_point:
        raise ValueError(f"{function}: scores must be floating point, got {scores.dtype}")
    check_shape(function, "ratings", ratings, scores)
    if ratings.dtype.is_complex:
        raise ValueError(f"{function}: ratings must be real numbers or booleans, got {ratings.dtype}")
    if ratings.requires_grad:
        raise ValueError(f"{function}: ratings must not require a gradient; were scores and ratings exchanged?")
    if candidate_mask is None:
        candidate_mask = torch.ones_like(scores, dtype=torch.bool)
    check_shape(function, "candidate_mask", candidate_mask, scores)
    if candidate_mask.dtype != torch.bool:
        raise ValueError(f"{function}: candidate_mask must be torch.bool, got {candidate_mask.dtype}")
    if not isinstance(constraint, Constraint):
        *others, last = (kind.__name__ for kind in get_args(Constraint))
        raise ValueError(f"{function}: constraint must be {', '.join(others)} or {last}, got {constraint!r}")
    if not 0 <= min_rating_gap < math.inf:
        raise ValueError(f"{function}: min_rating_gap must be finite and >= 0, got {min_rating_gap}")
    return candidate_mask


def mirrors(constraint: Constraint) -> bool:
    """Whether PRO and DPO use the mirror image of their own term as the boundary term."""
    return isinstance(constraint, Floor) or (isinstance(constraint, Boundary) and constraint.mirror)


def groups_with_pair(ratings: Tensor, *, candidate_mask: Tensor | None = None, min_rating_gap: float = 0.0) -> Tensor:
    """Bool (B,): groups with a candidate that outranks another. Arguments and errors are those of `alignment_loss`."""
    scores = torch.zeros(ratings.shape, device=ratings.device)
    pairs = compare_candidates("groups_with_pair", scores, ratings, candidate_mask, UNCONSTRAINED, min_rating_gap)
    return pairs.outranks.flatten(1).any(dim=1)


def check_shape(function: str, argument: str, value: Tensor, scores: Tensor) -> None:
    """Raise `ValueError` unless `value` is a tensor with the shape (B, G) of `scores`."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{function}: {argument} must be a tensor, got {type(value).__name__}")
    if value.shape != scores.shape:
        expected = tuple(scores.shape)
        raise ValueError(f"{function}: {argument} must be (B, G) = {expected}, as scores, got {tuple(value.shape)}")
