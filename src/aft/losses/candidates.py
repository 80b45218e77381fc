"""What the losses on single candidates share: which candidate is right, and a boundary for a loss without pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .pairs import Pairs, check_shape


def right_candidates(function: str, ratings: Tensor, pairs: Pairs, desirable_above: float | None) -> Tensor:
    """Bool (B, G): real candidates with a rating above `desirable_above`.

    None: 0.5, and every rating must be 0 or 1. This check reads from the device, except for boolean ratings.
    Raises `ValueError`, which names `function`, on other ratings without a threshold, or a threshold that is not
    finite.
    """
    if desirable_above is None:
        _check_binary(function, ratings, pairs)
        desirable_above = 0.5
    if not math.isfinite(desirable_above):
        raise ValueError(f"{function}: desirable_above must be finite, got {desirable_above}")
    return pairs.real & (pairs.ratings > desirable_above)


def folded(values: Tensor, at_boundary: Tensor, pairs: Pairs) -> Tensor:
    """`values` (B, G) turned back at the boundary: a loss that lowers them pushes up below the boundary.

    `values` increase with the scores; `at_boundary` (B, G) are the same values of the boundary. A candidate that none
    outranks has no boundary, and its value is unchanged.
    """
    return torch.where(pairs.outranks.any(dim=1), at_boundary + (values - at_boundary).abs(), values)


def length_factors(function: str, pairs: Pairs, lengths: Tensor | None) -> Tensor | float:
    """What turns scores per token into sums: `lengths` (B, G) in the scores' precision, or 1 if they are None.

    Raises `ValueError`, which names `function`, on a wrong shape or dtype.
    """
    if lengths is None:
        return 1.0
    check_shape(function, "lengths", lengths, pairs.scores)
    if lengths.dtype == torch.bool:
        raise ValueError(f"{function}: lengths must be numbers of tokens, got torch.bool; is it the candidate_mask?")
    return pairs.masked(lengths)


def mean_over_candidates(values: Tensor, pairs: Pairs) -> Tensor:
    """Mean of `values` (B, G) over the real candidates of each group, (B,); 0 for a group without candidates."""
    return pairs.masked(values).sum(dim=1) / pairs.real.sum(dim=1).clamp(min=1)


def _check_binary(function: str, ratings: Tensor, pairs: Pairs) -> None:
    """Raise `ValueError` if a real candidate has a rating that is neither 0 nor 1."""
    if ratings.dtype == torch.bool:
        return
    graded = pairs.ratings[(pairs.ratings != 0) & (pairs.ratings != 1)]
    if graded.numel():
        shown = ", ".join(f"{rating:g}" for rating in graded.unique()[:5].tolist())
        raise ValueError(
            f"{function}: desirable_above must be given, as ratings are not 0 and 1 alone; there are also {shown}"
        )
