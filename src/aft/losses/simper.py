"""SimPER: each pair's difference in inverse perplexity. No reference model and no constant."""

from __future__ import annotations

from torch import Tensor

from .candidates import folded
from .constraints import UNCONSTRAINED, Constraint
from .pairs import compare_candidates, lower_minus_higher, pair_metrics


def simper_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """SimPER loss per group: small once each candidate has a lower perplexity than all it outranks.

    Effect: pushes i up with strength exp(s_i) and j down with exp(s_j), whatever their difference: the push on a wrong
        candidate fades as it becomes unlikely, and so does the push on a right candidate that is unlikely. `Detached`
        never pushes j down. `Boundary` pushes j up below its boundary, as hard as it would push it down without.
    Formula: mean over pairs i above j of exp(s_j) - exp(s_i). Under `Boundary` j has exp(b) + |exp(s_j) - exp(b)| in
        place of exp(s_j), b = boundary_j as in `alignment_loss`.
    Source: Xiao et al. 2025 (arXiv 2502.00883); with two candidates the loss is the paper's.
    Departures: a mean over all pairs of a group; the paper has one pair per prompt. The constraints are ours.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`. The scores must be means
            over tokens: exp(s) is then the inverse perplexity.

    Returns:
        The loss (B,) in [-1, 1] (with a boundary in [-1, 2]), float32 (float64 for float64 scores), and detached 0-dim
        metrics, as `metrics_from_statistics` defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`.
    Edge cases: a group without any pair has loss and gradient exactly 0 and is counted in `groups/without_pair`. Gaps
        of 1e4 between scores stay finite.
    """
    pairs = compare_candidates("simper_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    lower = pairs.lower.exp()
    if pairs.boundary is not None:
        # a boundary above a probability of 1 acts as one at 1, and must not overflow
        lower = folded(lower, pairs.boundary.clamp(max=0).exp(), pairs)
    terms = lower_minus_higher(lower.unsqueeze(1), pairs.higher.exp().unsqueeze(2))
    return pairs.mean(terms), pair_metrics(pairs)
