"""PRO's ranking loss: each candidate against all that it outranks, with temperatures from the ratings."""

from __future__ import annotations

import torch
from torch import Tensor

from .pairs import UNCONSTRAINED, Constraint, compare_candidates, log_one_plus_sum, pair_metrics


def pro_loss(
    scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None = None,
    *,
    dynamic_temperature: bool = True,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PRO ranking loss per group: the sum, over its candidates, of a softmax loss against all that each outranks.

    Effect: pushes i up and every j below it down, harder where the ratings lie further apart; never stops by itself.
        `Detached` never pushes j down; `Boundary` adds a pull that lifts j, stronger the further it falls.
    Formula: sum over i of log(1 + sum over j below i of exp(tau_ij s_j - tau_i s_i)), tau_ij = rating_i - rating_j and
        tau_i the largest tau_ij; both are 1 without `dynamic_temperature`. Under `Boundary` the inner sum also holds
        exp(T - s_j), T as in `alignment_loss`.
    Source: Wang et al. 2023 (arXiv 2309.02144), Eq 20 and 21; the detached form is its "PRO + DC" (Tables 4 and 10).
    Departures: the boundary form is our extension. Its term is the alignment loss's own, without temperatures, so that
        beta stays in nats per token. The pull down keeps PRO's temperatures, so the two need not balance at the
        boundary itself; with temperatures of 1 (also: ratings in {0, 1}) they do.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`. Differences of ratings are
            temperatures here: their unit matters.
        dynamic_temperature: temperatures from the ratings (the paper's PRO) or all 1 (its "PRO without tau").

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`.
    Edge cases: a candidate that outranks no other adds exactly 0; so does a group without any pair, which is counted
        in `groups/without_pair`. Gaps of 1e4 between scores stay finite.
    """
    pairs = compare_candidates("pro_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    lower, higher = pairs.lower.unsqueeze(1), pairs.scores.unsqueeze(2)  # (B, 1, G), (B, G, 1)
    if dynamic_temperature:
        temperatures = torch.where(pairs.outranks, pairs.rating_gaps, 0.0)  # (B, G, G)
        lower = temperatures * lower
        higher = temperatures.amax(dim=2, keepdim=True) * higher
    per_candidate = log_one_plus_sum(pairs.log_terms(lower - higher))  # (B, G)
    return per_candidate.sum(dim=1), pair_metrics(pairs)
