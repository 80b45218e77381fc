"""Measures how far training has moved the scores of better and worse candidates.

A loss that widens the gap between right and wrong candidates may lower the scores of both: likelihood displacement.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import check_shape, compare_candidates

# The order of the vector that `displacement_statistics` returns. Every entry is a sum, so vectors add up.
DISPLACEMENT = (
    "positive_drift_sum",
    "positive_count",
    "negative_drift_sum",
    "negative_count",
    "both_fell_count",
    "compared_groups",
)

# Nats per token. A smaller fall does not count: rounding in another batch can change a score as much.
_LEAST_FALL = 1e-3


@torch.no_grad()
def displacement_statistics(
    scores: Tensor,
    ratings: Tensor,
    *,
    initial_scores: Tensor,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> Tensor:
    """The sums and counts behind the displacement metrics, exact over micro-batches and ranks.

    `scores` (B, G) are the candidates' scores now, `initial_scores` (B, G) their scores before the first step. Returns
    one vector (6,) in the order of `DISPLACEMENT`, detached, float32 (float64 for float64 scores). Sum the vectors over
    micro-batches and ranks, then call `metrics_from_displacement` on the total.
    Other arguments and errors are those of `alignment_loss`; the constraint changes nothing.
    """
    function = "displacement_statistics"
    pairs = compare_candidates(function, scores, ratings, candidate_mask, constraint, min_rating_gap)
    check_shape(function, "initial_scores", initial_scores, scores)
    drift = pairs.scores - pairs.masked(initial_scores)  # (B, G)
    negative = pairs.outranks.any(dim=1)
    positive = pairs.outranks.any(dim=2) & ~negative
    compared = pairs.outranks.flatten(1).any(dim=1)  # (B,)
    fell = [_mean(drift, side) < -_LEAST_FALL for side in (positive, negative)]
    sums = (
        torch.where(positive, drift, 0.0),
        positive,
        torch.where(negative, drift, 0.0),
        negative,
        compared & fell[0] & fell[1],
        compared,
    )
    return torch.stack([part.sum(dtype=pairs.scores.dtype) for part in sums])


def metrics_from_displacement(statistics: Tensor) -> dict[str, Tensor]:
    """Metrics as 0-dim tensors, from the vector (6,) of `displacement_statistics` or a sum of such vectors.

    `scores/positive_drift`, `scores/negative_drift`: mean change in score, nats per token, of the same candidates
    that `scores/positive` and `scores/negative` average.
    `groups/both_fell`: share of the groups with a pair in which the mean positive score and the mean negative score
    have both fallen by more than 1e-3 nats per token.
    A mean or share over nothing is nan.
    """
    value = dict(zip(DISPLACEMENT, statistics.unbind(), strict=True))
    return {
        "scores/positive_drift": value["positive_drift_sum"] / value["positive_count"],
        "scores/negative_drift": value["negative_drift_sum"] / value["negative_count"],
        "groups/both_fell": value["both_fell_count"] / value["compared_groups"],
    }


@torch.no_grad()
def spread_of_negatives(
    initial_scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    min_rating_gap: float = 0.0,
) -> Tensor:
    """The `spread` of a `Floor`: the standard deviation of the scores before training of all outranked candidates.

    Give all groups of the training data at once, (B, G). Returns a 0-dim tensor, nats per token, float32 (float64 for
    float64 scores); 0 for fewer than two such candidates. Arguments and errors are those of `alignment_loss`.
    """
    function = "spread_of_negatives"
    pairs = compare_candidates(function, initial_scores, ratings, candidate_mask, UNCONSTRAINED, min_rating_gap)
    outranked = pairs.scores[pairs.outranks.any(dim=1)]
    return outranked.std(correction=0) if len(outranked) else pairs.scores.new_zeros(())


def _mean(drift: Tensor, chosen: Tensor) -> Tensor:
    """Mean of `drift` (B, G) over the chosen candidates of each group, (B,)."""
    return torch.where(chosen, drift, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
