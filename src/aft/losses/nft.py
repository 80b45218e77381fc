"""NFT: likelihood of the right chains, and of the wrong ones under an implicit negative policy."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import relu

from .candidates import folded, mean_over_candidates, right_candidates
from .constraints import UNCONSTRAINED, Constraint
from .pairs import PASS_RATES, compare_candidates, pair_metrics
from .reference import log_ratios

# As in the published code, a log-ratio counts up to this many nats. Beyond, the ratio grows along its tangent.
LARGEST_LOG_RATIO = 10.0

QUESTION_WEIGHTS = ("failure_rate", "root_odds", "one")


def nft_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    ref_scores: Tensor,
    candidate_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    desirable_above: float | None = None,
    floor: float = 1.0,
    question_weight: str = "failure_rate",
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """NFT loss per group: small once right candidates are likely, and wrong ones unlikely against the start.

    Effect: pushes each right candidate up with the same strength, and a wrong one down with q R / (1 - q R): hard where
        most candidates are right, and less and less as the wrong one fades. `Detached` never pushes wrong candidates
        down. `Boundary` pushes an outranked wrong candidate up below its boundary, as hard as it would push it down
        without.
    Formula: w(q) times the mean over candidates of -h if right, else of -log((1 - q R) / (1 - q)); h = scores -
        ref_scores, R = exp(h), q the share of right candidates. Below `floor`, the logarithm goes on along its tangent.
        Under `Boundary` an outranked wrong j has f(boundary_j) + |f_j - f(boundary_j)| in place of its term f_j,
        boundary_j as in `alignment_loss`.
    Source: Chen et al. 2025 (arXiv 2505.18116), Eq 8 and 10. q is at least 0.02 and at most 0.98, and h counts up to 10
        in R, as in the published code.
    Departures: the paper has a ratio for each token and samples anew in every round. Here R belongs to the response: of
        means over tokens, or, with `lengths`, of sums (the code's `sequence`), against the scores before training. The
        paper clips the value at the floor and keeps the gradient of what it clips; the tangent has the same gradient. q
        counts all candidates of the group, a reference response among them too. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint: as in `alignment_loss`.
        ref_scores: (B, G), any float, the scores from the frozen reference model. No gradient flows to it.
        lengths: (B, G), tokens of each candidate. If given, h is summed over the response; scores, metrics and boundary
            stay means.
        desirable_above: a candidate is right if its rating is above this. None: 0.5, and every rating must be 0 or 1.
            This check reads from the device, except for boolean ratings.
        floor: the paper's epsilon, > 0. The push on a wrong candidate is at most q R / ((1 - q) floor).
        question_weight: w(q): failure_rate (1 - q, the paper's default), root_odds (the root of (1 - q) / q, as in
            GRPO) or one (1).
        min_rating_gap: used by the metrics and the constraint. A group without a pair adds nothing.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics of the policy's scores, as
        `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; also on a bad floor, weight or threshold, and on ratings other than 0 and 1
            without `desirable_above`.
    Edge cases: a group that is all right or all wrong, or that has no pair, has loss and gradient exactly 0. Gaps of
        1e4 between scores stay finite.
    """
    if not 0 < floor < math.inf:
        raise ValueError(f"nft_loss: floor must be finite and > 0, got {floor}")
    if question_weight not in QUESTION_WEIGHTS:
        allowed = ", ".join(QUESTION_WEIGHTS)
        raise ValueError(f"nft_loss: question_weight must be one of {allowed}, got {question_weight!r}")
    pairs = compare_candidates("nft_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    values = log_ratios("nft_loss", pairs, ref_scores, 1.0, lengths)
    right = right_candidates("nft_loss", ratings, pairs, desirable_above)

    of_right, of_all = right.sum(dim=1, keepdim=True), pairs.real.sum(dim=1, keepdim=True)
    counts = ((of_right > 0) & (of_right < of_all)).squeeze(1) & pairs.outranks.flatten(1).any(dim=1)  # (B,)
    rate = (of_right.to(pairs.scores.dtype) / of_all.clamp(min=1)).clamp(*PASS_RATES)  # (B, 1), the paper's r_q
    weight = {"failure_rate": 1 - rate, "root_odds": ((1 - rate) / rate).sqrt(), "one": torch.ones_like(rate)}[
        question_weight
    ]

    def of_wrong(candidates: Tensor) -> Tensor:
        """The term of a wrong candidate, from scores (B, G). Increases with the scores."""
        log_ratio = values(candidates)
        # Both tangents keep the gradient where a plain clamp would stop it, and values finite.
        ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
        ratio = ratio + math.exp(LARGEST_LOG_RATIO) * relu(log_ratio - LARGEST_LOG_RATIO)
        negative_policy = (1 - rate * ratio) / (1 - rate)
        return relu(floor - negative_policy) / floor - negative_policy.clamp(min=floor).log()

    down = of_wrong(pairs.lower)  # every wrong candidate counts as the lower of a pair
    if pairs.boundary is not None:
        down = folded(down, of_wrong(pairs.boundary), pairs)
    losses = mean_over_candidates(torch.where(right, -values(pairs.higher), down), pairs)
    return losses * weight.squeeze(1) * counts, pair_metrics(pairs)
