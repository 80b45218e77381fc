"""DPO's ranking form: compares a candidate's log-ratio to the reference model with those of all it outranks."""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, log_one_plus_sum, lower_minus_higher, mirrors, pair_metrics
from .reference import log_ratios


def dpo_loss(
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
    """DPO ranking loss per group: small once the policy's gain over the reference follows the ratings.

    Effect: pushes i up and every j that i outranks down, in proportion to beta exp(h_j - h_i); never stops by itself.
        `Detached` never pushes j down. `Boundary` adds a term that pushes j up, harder the lower j scores.
    Formula: sum over i of log(1 + sum over j below i of exp(h_j - h_i)), h = beta (scores - ref_scores). Under
        `Boundary` the inner sum also holds exp(T - s_j), T as in `alignment_loss`.
    Source: Wang et al. 2023 (arXiv 2309.02144), Eq 16. With two candidates the loss is DPO's own: -log sigmoid of the
        chosen's h minus the rejected's h. DPO's Plackett-Luce form uses summed log-ratios: give `lengths`, or pass
        `seq_logps` and `ref_seq_logps` in place of the scores.
    Departures: detached and boundary forms are our extensions; the paper analyses DPO but trains none. The boundary
        term is the alignment loss's and has slope 1; the push down has the slope of h. With beta 0.1 on means, the
        boundary term lifts j to 1.8 nats per token above i (boundary 0.15, equal reference scores).
        `Boundary(mirror=True)` uses exp(h(2 boundary_j - s_j) - h_i) instead, which balances at the boundary.

    Args:
        scores: (B, G), any float, nats per token, from the policy; as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`.
        beta: DPO's temperature, > 0, per unit of the scores. The boundary's offset is the `beta` of the constraint.
        lengths: (B, G), tokens of each candidate. If given, h = beta lengths (scores - ref_scores), the log-ratio
            summed over the response; scores, metrics and boundary stay means.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a beta that is not above 0.
    Edge cases: a candidate that outranks no other adds exactly 0; so does a group without any pair, which is counted
        in `groups/without_pair`. Gaps of 1e4 between scores stay finite.
    """
    pairs = compare_candidates("dpo_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("dpo_loss", pairs, ref_scores, beta, lengths)
    terms = pairs.log_terms(lower_minus_higher, values=values, mirror=mirrors(constraint))
    return log_one_plus_sum(torch.cat(terms, dim=-1)).sum(dim=1), pair_metrics(pairs)
