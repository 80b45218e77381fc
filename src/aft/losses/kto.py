"""KTO: compares each candidate, desirable or not, with a reference point. Needs no pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .candidates import folded, mean_over_candidates, right_candidates
from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, pair_metrics
from .reference import log_ratios


def kto_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    beta: float = 0.1,
    lengths: Tensor | None = None,
    reference_point: float = 0.0,
    desirable_above: float | None = None,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """KTO loss per group: small once desirable candidates have gained over the reference and the others have lost.

    Effect: pushes desirable candidates up and undesirable ones down, also in a group without a pair. The push weakens
        with the distance from the reference point. `Detached` never pushes undesirable candidates down. `Boundary`
        pushes an outranked undesirable candidate down above its boundary and equally hard up below the boundary.
    Formula: mean over candidates of w_d (1 - sigmoid(h - z)) where the rating is above `desirable_above`, else of
        w_u (1 - sigmoid(z - h)); h = beta (scores - ref_scores), z = beta reference_point. Under `Boundary` an
        outranked undesirable candidate j has h(boundary_j) + |h_j - h(boundary_j)| in place of h_j, boundary_j as in
        `alignment_loss`.
    Source: Ethayarajh et al. 2024 (arXiv 2402.01306). To reproduce the paper give `lengths`, or pass summed log-probs.
    Departures: the paper estimates the reference point per batch: the KL divergence to the reference, from mismatched
        prompts and responses. Here the caller gives it. At 0 the loss is TRL's `apo_zero_unpaired`. The constraints are
        ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        beta: factor of a log-ratio, > 0.
        lengths: as in `dpo_loss`.
        reference_point: KTO's z0, the log-ratio that counts as no change; nats, per token or summed as the log-ratios.
        desirable_above: a candidate is desirable if its rating is above this. None: 0.5, and every rating must be 0 or
            1. This check reads from the device, except for boolean ratings.
        desirable_weight, undesirable_weight: factors of the two kinds, >= 0.
        min_rating_gap: used only by the metrics and the boundary: this loss compares no candidates.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a number out of its range, and on ratings other than 0 and 1 without
            `desirable_above`.
    Edge cases: a group without candidates has loss and gradient exactly 0. Gaps of 1e4 between scores stay finite.
    """
    _check(reference_point, desirable_weight, undesirable_weight)
    pairs = compare_candidates("kto_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("kto_loss", pairs, ref_scores, beta, lengths)
    point = beta * reference_point
    desirable = right_candidates("kto_loss", ratings, pairs, desirable_above)

    down = values(pairs.lower)  # every undesirable candidate counts as the lower of a pair
    if pairs.boundary is not None:
        down = folded(down, values(pairs.boundary), pairs)
    losses = torch.sigmoid(torch.where(desirable, point - values(pairs.higher), down - point))
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    return mean_over_candidates(weights * losses, pairs), pair_metrics(pairs)


def _check(point: float, *weights: float) -> None:
    if not math.isfinite(point):
        raise ValueError(f"kto_loss: reference_point must be finite, got {point}")
    for name, value in zip(("desirable_weight", "undesirable_weight"), weights, strict=True):
        if not 0 <= value < math.inf:
            raise ValueError(f"kto_loss: {name} must be finite and >= 0, got {value}")
