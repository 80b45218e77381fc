"""Log-ratios to a frozen reference model: what DPO, IPO, KTO and NCA compare."""

from __future__ import annotations

import math

from torch import Tensor

from .pairs import Pairs, Values, check_shape


def log_ratios(function: str, pairs: Pairs, ref_scores: Tensor, beta: float, lengths: Tensor | None) -> Values:
    """A function from scores (B, G) to beta (scores - ref_scores), times `lengths` if given.

    No gradient reaches the reference. Raises `ValueError`, which names `function`, on a wrong shape or a beta that is
    not finite and above 0.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"{function}: beta must be finite and > 0, got {beta}")
    check_shape(function, "ref_scores", ref_scores, pairs.scores)
    reference = pairs.masked(ref_scores.detach())
    if lengths is None:
        return lambda scores: beta * (scores - reference)
    check_shape(function, "lengths", lengths, pairs.scores)
    factors = beta * pairs.masked(lengths)
    return lambda scores: factors * (scores - reference)
