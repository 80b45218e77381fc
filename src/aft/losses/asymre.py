"""AsymRE: off-policy REINFORCE with a baseline that shifts the weight between right and wrong chains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .candidates import folded, length_factors, mean_over_candidates
from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics


def asymre_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    delta: float = -0.1,
    divide_by_mean: bool = False,
    lengths: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """AsymRE loss per group: small once candidates rated above a baseline are likely, and those below it unlikely.

    Effect: pushes each candidate in proportion to its rating minus the baseline: up above the baseline and down below,
        without end. A negative `delta` shifts weight to the right candidates; it even pushes candidates of equal
        ratings up, so it acts in a group without a pair. `Detached` never pushes a candidate down that is rated below
        the baseline. `Boundary` pushes such a candidate, if it is outranked, down above its boundary and equally hard
        up below the boundary.
    Formula: - mean over candidates of (r - V) s, V = mean rating of the group + delta. With `divide_by_mean` this is
        divided by the mean rating. Under `Boundary` an outranked j with r_j < V has b + |s_j - b| in place of s_j,
        b = boundary_j as in `alignment_loss`.
    Source: Arnal et al. 2025 (arXiv 2506.20520). To reproduce the paper give `lengths`, or pass summed log-probs.
        `divide_by_mean` with a `delta` of 0 is the estimator of MaxRL (arXiv 2602.02710): each
        question's right candidates together have the same weight, however few they are.
    Departures: ratings are the rewards as they are, in their own unit, so that graded ratings need no threshold. The
        constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        delta: the baseline's distance from the group's mean rating, in the ratings' unit. Above 0, wrong candidates
            weigh more and training tends to collapse (the paper's finding).
        divide_by_mean: divide by the group's mean rating. A group with a mean of 0 or below then adds exactly 0.
        lengths: (B, G), tokens of each candidate. If given, s is summed over the response; scores, metrics and boundary
            stay means.
        min_rating_gap: used only by the metrics and the constraint.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B. The loss has no lower bound.
    Raises:
        ValueError: as `alignment_loss`; also on a delta that is not finite.
    Edge cases: a group without candidates has loss and gradient exactly 0. Gaps of 1e4 between scores stay finite.
    """
    if not math.isfinite(delta):
        raise ValueError(f"asymre_loss: delta must be finite, got {delta}")
    pairs = compare_candidates("asymre_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    factors = length_factors("asymre_loss", pairs, lengths)
    mean_rating = mean_over_candidates(pairs.ratings, pairs).unsqueeze(1)  # (B, 1)
    advantages = pairs.ratings.to(pairs.scores.dtype) - (mean_rating + delta)  # (B, G)
    if divide_by_mean:
        advantages = advantages * torch.where(mean_rating > 0, 1 / mean_rating, 0.0)

    down = factors * pairs.lower
    if pairs.boundary is not None:
        down = folded(down, factors * pairs.boundary, pairs)
    values = torch.where(advantages < 0, down, factors * pairs.higher)
    return mean_over_candidates(-advantages * values, pairs), pair_metrics(pairs)
