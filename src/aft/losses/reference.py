"""Log-ratios to a frozen reference model: what the losses with a reference compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .candidates import length_factors
from .pairs import Pairs, Values, check_shape


def log_ratios(function: str, pairs: Pairs, ref_scores: Tensor, beta: float, lengths: Tensor | None) -> Values:
    """A function from scores (B, G) to beta (scores - ref_scores), times `lengths` if given.

    No gradient reaches the reference. Raises `ValueError`, which names `function`, on a wrong shape or dtype, a beta
    that is not finite and above 0, or a gradient that only the reference requires.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"{function}: beta must be finite and > 0, got {beta}")
    check_shape(function, "ref_scores", ref_scores, pairs.scores)
    if torch.is_grad_enabled() and ref_scores.requires_grad and not pairs.scores.requires_grad:
        raise ValueError(
            f"{function}: ref_scores require a gradient and scores do not; were scores and ref_scores exchanged?"
        )
    reference = pairs.masked(ref_scores.detach())
    factors = beta * length_factors(function, pairs, lengths)
    return lambda scores: factors * (scores - reference)
