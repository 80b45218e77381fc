"""NCA: noise-contrastive alignment over all candidates of a question at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .pairs import UNCONSTRAINED, Constraint, compare_candidates, pair_metrics
from .reference import log_ratios


def nca_loss(
    scores: Tensor,
    ref_scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None = None,
    *,
    beta: float = 0.1,
    lengths: Tensor | None = None,
    alpha: float = 0.1,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """NCA loss per group: draws each candidate's gain over the reference to where its rating says it should be.

    Effect: pushes every candidate up by its share of the ratings and down by the same share for all: the best-rated
        rise, where other losses only widen a gap. `Detached` leaves alone those that outrank no other and never pushes
        an outranked one down; `Boundary` pushes an outranked one down above its boundary and up below, where its own
        share of the ratings is next to nothing.
    Formula: - sum over i of [w_i log sigmoid(h_i) + log sigmoid(-h_i) / K], h = beta (scores - ref_scores), K the
        number of candidates, w the softmax of ratings / alpha over them. Under `Boundary` the second term is there
        also for the mirror image of an outranked j, 2 h(boundary_j) - h_j for h_j, boundary_j as in `alignment_loss`.
    Source: Chen et al. 2024 (arXiv 2402.05369), NCA. For its numbers give `lengths`, or pass summed log-probs. With two
        candidates and alpha near 0 it is TRL's `nca_pair`.
    Departures: the constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient.
        beta: factor of a log-ratio, > 0.
        lengths: as in `dpo_loss`.
        alpha: temperature of the ratings, > 0, in their unit.
        min_rating_gap: for the metrics and the constraint alone: the loss itself takes the ratings as they are.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a beta or alpha that is not above 0.
    Edge cases: a group of equals is drawn to the reference. A group without candidates has loss and gradient exactly 0.
        Gaps of 1e4 between scores stay finite.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"nca_loss: alpha must be finite and > 0, got {alpha}")
    pairs = compare_candidates("nca_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("nca_loss", pairs, ref_scores, beta, lengths)
    counts = pairs.real.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    ratings = pairs.ratings.to(torch.promote_types(pairs.ratings.dtype, pairs.scores.dtype))
    shares = torch.softmax((ratings / alpha).masked_fill(~pairs.real, -torch.inf), dim=1)
    shares = torch.where(pairs.real, shares, 0.0).to(pairs.scores.dtype)  # (B, G); a group without candidates has none

    outranked = pairs.outranks.any(dim=1)
    up = torch.where(outranked & ~pairs.outranks.any(dim=2), pairs.lower, pairs.scores)
    down = torch.where(outranked, pairs.lower, pairs.scores)
    losses = softplus(values(down))
    if pairs.boundary is not None:
        image = 2 * values(pairs.boundary) - values(pairs.scores)
        losses = losses + torch.where(outranked, softplus(image), 0.0)
    per_candidate = pairs.masked(losses / counts - shares * logsigmoid(values(up)))
    return per_candidate.sum(dim=1), pair_metrics(pairs)
