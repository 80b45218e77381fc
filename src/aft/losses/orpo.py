"""ORPO's odds-ratio term: a logistic loss on every pair's difference in log-odds."""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, log_one_plus_sum, lower_minus_higher, pair_metrics

# the odds of a response with probability 1 are infinite
_HIGHEST_SCORE = -1e-6


def orpo_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """ORPO's odds-ratio loss per group, without its likelihood term: small once the odds follow the ratings.

    Effect: pushes i up and j down for each pair, harder where their probabilities are high; never stops by itself.
        `Detached` never pushes j down. `Boundary` pushes j down above its boundary and up below the boundary.
    Formula: mean over pairs i above j of log(1 + exp(o_j - o_i)), o = s - log(1 - exp(s)). Under `Boundary` the
        logarithm also holds the same exponential with 2 o(boundary_j) - o_j in place of o_j, boundary_j as in
        `alignment_loss`.
    Source: Hong et al. 2024 (arXiv 2403.07691), Eq 7; with two candidates the loss is the paper's. The caller applies
        the paper's factor of this term, TRL's `beta`: `align.loss.weight`.
    Departures: a mean over all pairs of a group; the paper has one pair per prompt. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`. Scores are means of
            log-probs: not above 0.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. A
        score above -1e-6 counts as -1e-6 and gets no gradient from the odds. Gaps of 1e4 between scores stay finite.
    """
    pairs = compare_candidates("orpo_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    terms = pairs.log_terms(lower_minus_higher, values=_log_odds)
    return pairs.mean(log_one_plus_sum(torch.stack(terms, dim=-1))), pair_metrics(pairs)


def _log_odds(scores: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(scores)."""
    scores = scores.clamp(max=_HIGHEST_SCORE)
    return scores - torch.log(-torch.expm1(scores))
