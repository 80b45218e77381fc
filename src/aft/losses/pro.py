"""PRO's ranking loss: compares each candidate with all it outranks, with temperatures from the ratings."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .constraints import UNCONSTRAINED, Constraint
from .pairs import Pairs, compare_candidates, log_one_plus_sum, mirrors, pair_metrics

_EPSILON = 1e-10  # as in the published code


def pro_loss(
    scores: Tensor,
    ratings: Tensor,
    *,
    candidate_mask: Tensor | None = None,
    dynamic_temperature: bool = True,
    normalisation: Literal["paper", "reference_code"] = "paper",
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PRO ranking loss per group: the sum over candidates of a softmax loss against all that the candidate outranks.

    Effect: pushes i up and every j that i outranks down, harder where the ratings lie further apart; never stops by
        itself. `Detached` never pushes j down. `Boundary` adds a term that pushes j up, harder the lower j scores.
    Formula: sum over i of log(1 + sum over j below i of exp(tau_ij s_j - tau_i s_i)), tau_ij = rating_i - rating_j and
        tau_i the largest tau_ij; both are 1 without `dynamic_temperature`. Under `Boundary` the inner sum also holds
        exp(T - s_j), T as in `alignment_loss`.
    Source: Wang et al. 2023 (arXiv 2309.02144), Eq 20 and 21; the detached form is its "PRO + DC" (Tables 4 and 10).
    Departures: the boundary form is our extension. The boundary term is the alignment loss's, without temperatures; the
        push down has temperatures. The two balance at the boundary only where the temperatures are 1 (as for ratings in
        {0, 1}). With `Boundary(mirror=True)` the boundary term is exp(tau_ij (2 boundary_j - s_j) - tau_i s_i), which
        always balances the push down.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`. Differences of ratings are
            temperatures, so the unit of the ratings matters.
        dynamic_temperature: temperatures from the ratings (the paper's PRO) or all 1 (its "PRO without tau").
        normalisation: which candidates the softmax of i holds beside i. `paper`: all that i outranks.
            `reference_code`, as in the published code: all later ones when candidates are sorted best first, equals in
            slot order. An equal has temperature 0 and adds exp(-tau_i s_i). The code also adds 1e-10 exp(-tau_i s_i).

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; for an unknown normalisation, and for `reference_code` with temperatures of 1
            or a rating gap, which the published code does not have.
    Edge cases: a candidate that outranks no other adds exactly 0; so does a group without any pair, which is counted
        in `groups/without_pair`. Gaps of 1e4 between scores stay finite. Under `reference_code` a candidate that
        outranks none adds the constant log(1 + n) for n later equals.
    """
    if normalisation not in ("paper", "reference_code"):
        raise ValueError(f"pro_loss: normalisation must be 'paper' or 'reference_code', got {normalisation!r}")
    if normalisation == "reference_code" and not (dynamic_temperature and min_rating_gap == 0):
        raise ValueError("pro_loss: normalisation 'reference_code' needs dynamic temperatures and no min_rating_gap")
    pairs = compare_candidates("pro_loss", scores, ratings, candidate_mask, constraint, min_rating_gap)
    # (B, G, G)
    temperatures = torch.where(pairs.outranks, pairs.rating_gaps if dynamic_temperature else 1.0, 0.0)
    largest = temperatures.amax(dim=2, keepdim=True)  # (B, G, 1)

    def compare(lower: Tensor, higher: Tensor) -> Tensor:
        return temperatures * lower - largest * higher

    terms = pairs.log_terms(compare, mirror=mirrors(constraint))
    if normalisation == "reference_code":
        terms += _terms_of_equals(pairs, largest * pairs.higher.unsqueeze(2))
    per_candidate = log_one_plus_sum(torch.cat(terms, dim=-1))  # (B, G)
    return per_candidate.sum(dim=1), pair_metrics(pairs)


def _terms_of_equals(pairs: Pairs, higher: Tensor) -> list[Tensor]:
    """Log-terms (B, G, G) of later equals and (B, G, 1) of the epsilon. `higher`: tau_i s_i, (B, G, 1)."""
    slots = torch.arange(pairs.scores.shape[1], device=pairs.scores.device)
    equal = (pairs.rating_gaps == 0) & (slots.unsqueeze(1) < slots)  # (B, G, G)
    equal = equal & pairs.real.unsqueeze(2) & pairs.real.unsqueeze(1)
    not_last = (equal | pairs.outranks).any(dim=2, keepdim=True)  # (B, G, 1)
    epsilon = (math.log(_EPSILON) - higher).masked_fill(~not_last, -torch.inf)
    return [(-higher).expand_as(equal).masked_fill(~equal, -torch.inf), epsilon]
