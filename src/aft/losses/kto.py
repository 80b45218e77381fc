"""KTO: every candidate by itself, desirable or not, against a reference point. Needs no pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .pairs import UNCONSTRAINED, Constraint, check_shape, compare_candidates, pair_metrics


def kto_loss(
    scores: Tensor,
    ref_scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None = None,
    *,
    beta: float = 0.1,
    reference_point: float = 0.0,
    desirable_above: float = 0.5,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """KTO loss per group: small once desirable candidates have gained on the reference and the others have lost.

    Effect: pushes desirable candidates up and the others down, less the further each is from the reference point; also
        in a group without a pair. `Detached` never pushes the others down; `Boundary` also pushes an outranked one up,
        with slope 1, while it is below its boundary.
    Formula: mean over candidates of w_d (1 - sigmoid(h - z)) where the rating is above `desirable_above`, else of
        w_u (1 - sigmoid(z - h)); h = beta (scores - ref_scores), z = beta reference_point. Under `Boundary` with
        max(0, boundary_j - s_j) added, boundary_j as in `alignment_loss`.
    Source: Ethayarajh et al. 2024 (arXiv 2402.01306), Eq 7 and 8. For its numbers pass summed log-probs.
    Departures: their reference point is the batch's estimate of the KL divergence to the reference, from mismatched
        prompts and responses; here it is given. At 0 the loss is TRL's `apo_zero_unpaired`. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient.
        beta: factor of a log-ratio, > 0.
        reference_point: KTO's z0, the log-ratio that counts as no change; in the unit of the scores.
        desirable_above: a candidate is desirable if its rating is above this.
        desirable_weight, undesirable_weight: factors of the two kinds, >= 0.
        min_rating_gap: for the metrics and the boundary alone: this loss compares no candidates.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a number out of its range.
    Edge cases: a group without candidates has loss and gradient exactly 0. Gaps of 1e4 between scores stay finite.
    """
    _check(beta, reference_point, desirable_above, desirable_weight, undesirable_weight)
    pairs = compare_candidates("kto_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    check_shape("kto_loss", "ref_scores", ref_scores, scores)
    ref_scores = pairs.masked(ref_scores.detach())
    desirable = pairs.ratings > desirable_above  # (B, G)
    # an undesirable candidate is the lower one whatever it is compared with
    ratios = torch.where(desirable, pairs.scores, pairs.lower) - ref_scores - reference_point
    values = torch.sigmoid(torch.where(desirable, -ratios, ratios) * beta)
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    per_candidate = pairs.masked(weights * values + pairs.shortfalls())
    return per_candidate.sum(dim=1) / pairs.real.sum(dim=1).clamp(min=1), pair_metrics(pairs)


def _check(beta: float, point: float, threshold: float, *weights: float) -> None:
    if not 0 < beta < math.inf:
        raise ValueError(f"kto_loss: beta must be finite and > 0, got {beta}")
    for name, value in (("reference_point", point), ("desirable_above", threshold)):
        if not math.isfinite(value):
            raise ValueError(f"kto_loss: {name} must be finite, got {value}")
    for name, value in zip(("desirable_weight", "undesirable_weight"), weights, strict=True):
        if not 0 <= value < math.inf:
            raise ValueError(f"kto_loss: {name} must be finite and >= 0, got {value}")
