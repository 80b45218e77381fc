"""SimPO: a logistic loss on every pair's difference in score, with a margin and without a reference model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, log_one_plus_sum, pair_metrics


def simpo_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    beta: float = 2.0,
    gamma: float = 0.5,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """SimPO loss per group: small once each candidate scores above all it outranks by a margin of gamma / beta.

    Effect: pushes i up and j down equally for each pair, less the further s_i - s_j is past the margin; never stops by
        itself. `Detached` never pushes j down. `Boundary` pushes j down above its boundary and up below the boundary.
    Formula: mean over pairs i above j of log(1 + exp(gamma - beta (s_i - s_j))). Under `Boundary` the logarithm also
        holds the same exponential with 2 boundary_j - s_j in place of s_j, boundary_j as in `alignment_loss`.
    Source: Meng et al. 2024 (arXiv 2405.14734), Eq 6; with two candidates the loss is the paper's.
    Departures: a mean over all pairs of a group; the paper has one pair per prompt. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`.
        beta: factor of the difference in score, > 0.
        gamma: margin, >= 0, in the unit of beta times a score; TRL's `simpo_gamma`.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a bad beta or gamma.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. Gaps
        of 1e4 between scores stay finite.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"simpo_loss: beta must be finite and > 0, got {beta}")
    if not 0 <= gamma < math.inf:
        raise ValueError(f"simpo_loss: gamma must be finite and >= 0, got {gamma}")
    pairs = compare_candidates("simpo_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    terms = pairs.log_terms(lambda lower, higher: gamma + lower - higher, values=lambda scores: beta * scores)
    return pairs.mean(log_one_plus_sum(torch.stack(terms, dim=-1))), pair_metrics(pairs)
