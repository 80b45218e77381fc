"""Losses that compare the candidates of a group: `loss(scores, ratings, ...)` -> per-group losses and metrics.

Every loss takes every constraint. The tables map the names used in a config to functions and constraints.
"""

from __future__ import annotations

from collections.abc import Callable

from .alignment import alignment_loss
from .dpo import dpo_loss
from .pairs import (
    STATISTICS,
    Boundary,
    Constraint,
    Detached,
    Unconstrained,
    metrics_from_statistics,
    pair_statistics,
)
from .pro import pro_loss
from .rrhf import rrhf_loss

LOSSES: dict[str, Callable] = {
    "alignment": alignment_loss,
    "rrhf": rrhf_loss,
    "pro": pro_loss,
    "dpo": dpo_loss,
}

# These take `ref_scores`, the scores under the frozen reference model, as their second argument.
REFERENCE_LOSSES = frozenset({"dpo"})

CONSTRAINTS: dict[str, type] = {
    "none": Unconstrained,
    "detached": Detached,
    "boundary": Boundary,
}

__all__ = [
    "CONSTRAINTS",
    "LOSSES",
    "REFERENCE_LOSSES",
    "STATISTICS",
    "Boundary",
    "Constraint",
    "Detached",
    "Unconstrained",
    "alignment_loss",
    "dpo_loss",
    "metrics_from_statistics",
    "pair_statistics",
    "pro_loss",
    "rrhf_loss",
]
