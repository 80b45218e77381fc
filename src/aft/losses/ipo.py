"""IPO: a squared loss that moves every pair's difference in log-ratio to a fixed gap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics
from .reference import log_ratios


def ipo_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    beta: float = 0.1,
    lengths: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """IPO loss per group: small where each pair's gain over the reference differs by 1 / (2 beta).

    Effect: pushes i up and j down until h_i - h_j is 1 / (2 beta), and pushes them together if it is larger.
        `Detached` never pushes j. `Boundary` pushes j towards its boundary.
    Formula: mean over pairs i above j of ((h_i - h_j) - 1 / (2 beta))^2, h = scores - ref_scores. Under `Boundary` each
        pair adds the same square with 2 h(boundary_j) - h_j in place of h_j, boundary_j as in `alignment_loss`.
    Source: Azar et al. 2023 (arXiv 2310.12036), Eq 17; with two candidates the loss is the paper's. Its authors and TRL
        use means over tokens, as `scores` are.
    Departures: a mean over all pairs of a group; the paper has one pair per prompt. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        beta: how strongly the policy is held near the reference (the paper's tau), > 0, per nat.
        lengths: as in `dpo_loss`.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a beta that is not above 0.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`.
    """
    pairs = compare_candidates("ipo_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    # factor 1: IPO's beta does not multiply the log-ratio
    values = log_ratios("ipo_loss", pairs, ref_scores, 1.0, lengths)
    if not 0 < beta < math.inf:
        raise ValueError(f"ipo_loss: beta must be finite and > 0, got {beta}")
    terms = pairs.terms(lambda lower, higher: (higher - lower - 1 / (2 * beta)) ** 2, values=values)
    return pairs.mean(torch.stack(terms).sum(dim=0)), pair_metrics(pairs)
