"""TOPR: likelihood of the right chains, and a push on wrong ones that tapers off as they become less likely."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from .candidates import folded, mean_over_candidates, right_candidates
from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics
from .reference import log_ratios


def topr_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    desirable_above: float | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """TOPR loss per group: small once right candidates are likely, and wrong ones unlikely against the start.

    Effect: pushes each right candidate up with strength 1, and a wrong one down with min(1, R): as hard as a right one
        at first, and less and less as it fades. Acts in a group without a pair too. `Detached` never pushes wrong
        candidates down. `Boundary` pushes an outranked wrong candidate up below its boundary, as hard as it would push
        it down without.
    Formula: mean over candidates of -h if right, else of exp(min(h, 0)) + max(h, 0); h = scores - ref_scores and
        R = exp(h), so that the gradient of the wrong one's term is min(1, R). Under `Boundary` an outranked wrong j has
        f(boundary_j) + |f_j - f(boundary_j)| in place of its term f_j, boundary_j as in `alignment_loss`.
    Source: Le Roux et al. 2025 (arXiv 2503.14286), with rewards of 1 and -1. To reproduce the paper give `lengths`, or
        pass summed log-probs.
    Departures: the paper writes the gradient, with the ratio as a constant factor; this term is the function that has
        this gradient. Without `lengths` both the ratio and the push are per token. The paper shifts its rewards by a
        baseline, which weighs right against wrong; `asymre_loss` has one. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        lengths: (B, G), tokens of each candidate. If given, h is summed over the response; scores, metrics and boundary
            stay means.
        desirable_above: a candidate is right if its rating is above this. None: 0.5, and every rating must be 0 or 1.
            This check reads from the device, except for boolean ratings.
        min_rating_gap: used only by the metrics and the constraint.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a bad threshold, and on ratings other than 0 and 1 without
            `desirable_above`.
    Edge cases: a group without candidates has loss and gradient exactly 0. Gaps of 1e4 between scores stay finite.
    """
    pairs = compare_candidates("topr_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("topr_loss", pairs, ref_scores, 1.0, lengths)
    right = right_candidates("topr_loss", ratings, pairs, desirable_above)

    def of_wrong(candidates: Tensor) -> Tensor:
        """The term of a wrong candidate, from scores (B, G). Increases with the scores."""
        log_ratio = values(candidates)
        return log_ratio.clamp(max=0).exp() + relu(log_ratio)

    down = of_wrong(pairs.lower)  # every wrong candidate counts as the lower of a pair
    if pairs.boundary is not None:
        down = folded(down, of_wrong(pairs.boundary), pairs)
    return mean_over_candidates(torch.where(right, -values(pairs.higher), down), pairs), pair_metrics(pairs)
