"""RRHF's ranking loss: a hinge on every pair."""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics


def rrhf_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """RRHF ranking loss per group: the sum over pairs of how far the lower-rated scores above the higher-rated.

    Effect: for each pair in the wrong order, pushes i up and j down with slope 1; stops once the order is right.
        `Detached` never pushes j down. `Boundary` also pushes j up, with slope 1 per pair, while j is below its
        boundary.
    Formula: sum over pairs i above j of max(0, s_j - s_i), plus max(0, boundary_j - s_j) under `Boundary`, boundary_j
        as in `alignment_loss`.
    Source: Wang et al. 2023 (arXiv 2309.02144), Eq 18; the detached form is the paper's "RRHF + DC" (Table 4).
    Departures: the boundary form is our extension. The boundary counts once per pair, as the hinge does.
        A negative below its boundary is thus pushed as hard as a negative above all candidates that outrank it.
    Published code: divides the sum of a response's log-probs by the padded length of its batch, prompt and padding
        included; a batch is one group. The paper divides by the response's own length. To reproduce the code pass its
        quotients as scores: `align.loss.normalisation: reference_code` does so.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`.

    Returns:
        The loss (B,), nats per token, float32 (float64 for float64 scores), and detached 0-dim metrics, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. At
        equality, s_j = s_i or s_j = boundary_j, the gradient of that hinge is 0.
    """
    pairs = compare_candidates("rrhf_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    hinges = (pairs.lower.unsqueeze(1) - pairs.higher.unsqueeze(2)).relu()  # (B, G, G)
    if pairs.boundary is not None:
        hinges = hinges + (pairs.boundary - pairs.scores).relu().unsqueeze(1)
    per_group = torch.where(pairs.outranks, hinges, 0.0).sum(dim=(1, 2))  # (B,)
    return per_group, pair_metrics(pairs)
