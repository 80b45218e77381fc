"""PRO's ranking loss: each candidate against all that it outranks, with temperatures from the ratings."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .pairs import UNCONSTRAINED, Constraint, Pairs, compare_candidates, log_one_plus_sum, mirrors, pair_metrics

_EPSILON = 1e-10  # of the published code


def pro_loss(
    scores: Tensor,
    ratings: Tensor,
    candidate_mask: Tensor | None = None,
    *,
    dynamic_temperature: bool = True,
    normalisation: Literal["paper", "reference_code"] = "paper",
    constraint: Constraint = UNCONSTRAINED,
    min_rating_gap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PRO ranking loss per group: the sum, over its candidates, of a softmax loss against all that each outranks.

    Effect: pushes i up and every j below it down, harder where the ratings lie further apart; never stops by itself.
        `Detached` never pushes j down; `Boundary` adds a pull that lifts j, stronger the further it falls.
    Formula: sum over i of log(1 + sum over j below i of exp(tau_ij s_j - tau_i s_i)), tau_ij = rating_i - rating_j and
        tau_i the largest tau_ij; both are 1 without `dynamic_temperature`. Under `Boundary` the inner sum also holds
        exp(T - s_j), T as in `alignment_loss`.
    Source: Wang et al. 2023 (arXiv 2309.02144), Eq 20 and 21; the detached form is its "PRO + DC" (Tables 4 and 10).
    Departures: the boundary form is our extension. Its term is the alignment loss's own, without temperatures; the push
        down keeps them, so the two do not balance at the boundary unless they are 1 (also: ratings in {0, 1}). With
        `Boundary(mirror=True)` the term is exp(tau_ij (2 boundary_j - s_j) - tau_i s_i), and they always do.

    Args:
        scores, ratings, candidate_mask, constraint, min_rating_gap: as in `alignment_loss`. Differences of ratings are
            temperatures here: their unit matters.
        dynamic_temperature: temperatures from the ratings (the paper's PRO) or all 1 (its "PRO without tau").
        normalisation: what a candidate is divided by. `paper`: by all that it outranks. `reference_code`, the published
            code: the candidates stand in a row, best first and equals in slot order, and each is divided by all that
            come later; an equal has temperature 0, so it adds exp(-tau_i s_i). The code adds 1e-10 exp(-tau_i s_i) too.

    Returns:
        The loss (B,), float32 (float64 for float64 scores), and detached 0-dim metrics, as `metrics_from_statistics`
        defines them. The caller reduces over B.
    Raises:
        ValueError: as `alignment_loss`; for an unknown normalisation, and for `reference_code` with temperatures of 1
            or a rating gap, which the published code does not have.
    Edge cases: a candidate that outranks no other adds exactly 0; so does a group without any pair, which is counted
        in `groups/without_pair`. Gaps of 1e4 between scores stay finite. Under `reference_code` equals add constants:
        log(1 + n) for n equals that come later, where a candidate outranks none.
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
        terms += _terms_of_equals(pairs, largest * pairs.scores.unsqueeze(2))
    per_candidate = log_one_plus_sum(torch.cat(terms, dim=-1))  # (B, G)
    return per_candidate.sum(dim=1), pair_metrics(pairs)


def _terms_of_equals(pairs: Pairs, higher: Tensor) -> list[Tensor]:
    """Log-terms (B, G, G) of equals that come later and (B, G, 1) of the epsilon, given tau_i s_i as (B, G, 1)."""
    slots = torch.arange(pairs.scores.shape[1], device=pairs.scores.device)
    equal = (pairs.rating_gaps == 0) & (slots.unsqueeze(1) < slots)  # (B, G, G)
    equal = equal & pairs.real.unsqueeze(2) & pairs.real.unsqueeze(1)
    not_last = (equal | pairs.outranks).any(dim=2, keepdim=True)  # (B, G, 1)
    epsilon = (math.log(_EPSILON) - higher).masked_fill(~not_last, -torch.inf)
    return [(-higher).expand_as(equal).masked_fill(~equal, -torch.inf), epsilon]
