"""The alignment loss of AFT: one function for binary and for ranking feedback, under any constraint."""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import Boundary, Constraint
from .pairs import compare_candidates, log_one_plus_sum, lower_minus_higher, pair_metrics

PAPER_BOUNDARY = Boundary()


def alignment_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = PAPER_BOUNDARY,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Alignment loss per group: small once every candidate scores above all candidates it outranks.

    Effect: pushes i up and j down for each pair where i outranks j, in proportion to exp(s_j - s_i).
        `Unconstrained` never stops pushing j down. `Detached` never pushes j. `Boundary` pushes j down above its
        boundary, not at all at the boundary, and up below the boundary.
    Formula: log(1 + sum over pairs i above j of exp(s_j - s_i)). Under `Boundary` each pair also adds exp(T - s_j) to
        the sum, with boundary_j = (lowest score among the candidates that outrank j) - beta and T = 2 boundary_j - s_i.
    Source: Wang et al. 2023 (arXiv 2309.02144). Binary feedback, ratings in {0, 1}: Eq 6 without constraint, Eq 7 (DCL)
        detached, Eq 8 (BCL) with boundary. Ranking feedback: Eq 14, Eq 12 (RDC1), Eq 13 (RDC2: `lowest_only`),
        Eq 11 (RBC). Binary feedback is the ranking loss with two ratings.
    Departures: none by default. `min_rating_gap`, and `detach_target=False` of `Boundary`, are ours.

    Args:
        scores: (B, G), any float, nats per token. Gradient flows, except where the constraint stops it.
        ratings: (B, G), any real dtype or bool, higher is better, finite. No gradient. Equal ratings make no pair.
        candidate_mask: (B, G), bool, true for a real candidate; None: all true. Padding may hold anything, also nan.
        constraint: a value of `aft.losses.constraints`, for example `Unconstrained()`, `Detached()` or `Boundary()`.
        min_rating_gap: i outranks j if i's rating is higher by more than this gap; >= 0, in the ratings' unit.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: on a wrong shape or dtype, an unknown constraint or a bad gap.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. Gaps
        of 1e4 between scores stay finite. A real candidate with a nan rating makes its group's loss nan.
    """
    pairs = compare_candidates("alignment_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    terms = torch.cat(
        pairs.log_terms(lower_minus_higher, mirror=False), dim=-1
    )  # (B, G, M), M = G, or 2 G with a boundary
    per_group = log_one_plus_sum(terms.flatten(1))  # (B,)
    return per_group, pair_metrics(pairs)
