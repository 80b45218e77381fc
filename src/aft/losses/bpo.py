"""BPO: a logistic loss on the smaller of a pair's two gains: what the right chain rose, and what the wrong one fell."""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, log_one_plus_sum, pair_metrics
from .reference import log_ratios


def bpo_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    beta: float = 0.1,
    alpha: float = 1.0,
    lengths: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """BPO loss per group: small once each candidate has risen, and all that it outranks have fallen as far.

    Effect: for each pair, pushes only what lags behind: j down until alpha times its fall is i's rise, i up beyond
        that. So a wrong candidate is pushed only as far as the right ones have risen. `Detached` never pushes j down;
        i is then pushed up no further than j has fallen by itself. `Boundary` pushes j down above its boundary and up
        below the boundary.
    Formula: mean over pairs i above j of log(1 + exp(-min(h_i, -alpha h_j))), h = beta (scores - ref_scores). Under
        `Boundary` the logarithm also holds the same exponential with 2 h(boundary_j) - h_j in place of h_j, boundary_j
        as in `alignment_loss`.
    Source: Sun et al. 2025 (arXiv 2506.03557), its logistic form. To reproduce the paper give `lengths`, or pass summed
        log-probs; with two candidates the loss is then the paper's.
    Departures: a mean over all pairs of a group; the paper has one pair per prompt. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        beta: factor of a log-ratio, > 0.
        alpha: the paper's gap adaptor, > 0 and <= 1. Below 1 a wrong candidate may fall further than the right rise.
        lengths: as in `dpo_loss`.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a bad beta or alpha.
    Edge cases: where both gains are equal, each side gets half of the push. In the first step, rounding
        decides which of two equal gains is the smaller. A group without
        any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. Gaps of 1e4 between scores
        stay finite.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"bpo_loss: alpha must be > 0 and <= 1, got {alpha}")
    pairs = compare_candidates("bpo_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("bpo_loss", pairs, ref_scores, beta, lengths)
    terms = pairs.log_terms(lambda lower, higher: torch.maximum(-higher, alpha * lower), values=values)
    return pairs.mean(log_one_plus_sum(torch.stack(terms, dim=-1))), pair_metrics(pairs)
