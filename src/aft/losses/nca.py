"""NCA: noise-contrastive alignment over all candidates of a question."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics
from .reference import log_ratios


def nca_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    beta: float = 0.1,
    lengths: Tensor | None = None,
    alpha: float = 0.1,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """NCA loss per group: small once each candidate's gain over the reference matches its share of the ratings.

    Effect: pushes each candidate up in proportion to its share of the ratings, and all candidates down equally. The
        best-rated candidates therefore rise; other losses only widen a gap. `Detached` never pushes an outranked
        candidate down, and never pushes one that also outranks no other. `Boundary` pushes an outranked candidate with
        a share near 0 down above its boundary and up below the boundary.
    Formula: - sum over i of [w_i log sigmoid(h_i) + log sigmoid(-h_i) / K], h = beta (scores - ref_scores), K the
        number of candidates, w the softmax of ratings / alpha over them. Under `Boundary` an outranked j adds the
        second term again, with 2 h(boundary_j) - h_j in place of h_j, boundary_j as in `alignment_loss`.
    Source: Chen et al. 2024 (arXiv 2402.05369), NCA. To reproduce the paper give `lengths`, or pass summed log-probs.
        With two candidates and alpha near 0 the loss is TRL's `nca_pair`.
    Departures: the constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        beta: factor of a log-ratio, > 0.
        lengths: as in `dpo_loss`.
        alpha: temperature of the ratings, > 0, in the ratings' unit.
        min_rating_gap: used only by the metrics and the constraint; w uses the ratings as they are.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a beta or alpha that is not above 0.
    Edge cases: a group of equal ratings is pushed towards the reference. A group without candidates has loss and
        gradient exactly 0. Gaps of 1e4 between scores stay finite.
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
    up = torch.where(outranked & ~pairs.outranks.any(dim=2), pairs.lower, pairs.higher)
    down = torch.where(outranked, pairs.lower, pairs.scores)
    losses = softplus(values(down))
    if pairs.boundary is not None:
        image = 2 * values(pairs.boundary) - values(pairs.scores)
        losses = losses + torch.where(outranked, softplus(image), 0.0)
    per_candidate = pairs.masked(losses / counts - shares * logsigmoid(values(up)))
    return per_candidate.sum(dim=1), pair_metrics(pairs)
