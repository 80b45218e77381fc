"""Losses that compare the candidates of a group: `loss(scores, ratings, ...)` -> per-group losses and metrics.

Every argument but scores and ratings is given by its name. Every loss takes every constraint. `LOSSES` and
`CONSTRAINTS` map the names used in a config to functions and classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from .alignment import alignment_loss
from .asymre import asymre_loss
from .bpo import bpo_loss
from .constraints import (
    Balanced,
    Boundary,
    Constraint,
    Detached,
    Floor,
    PassRate,
    PositiveFloor,
    Tapered,
    Unconstrained,
    controlled_beta,
)
from .displacement import DISPLACEMENT, displacement_statistics, metrics_from_displacement, spread_of_negatives
from .dpo import dpo_loss
from .ipo import ipo_loss
from .kto import kto_loss
from .nca import nca_loss
from .nft import nft_loss
from .orpo import orpo_loss
from .pairs import STATISTICS, groups_with_pair, metrics_from_statistics, pair_statistics
from .pro import pro_loss
from .rrhf import rrhf_loss
from .simper import simper_loss
from .simpo import simpo_loss
from .topr import topr_loss

LOSSES: dict[str, Callable] = {
    "alignment": alignment_loss,
    "rrhf": rrhf_loss,
    "pro": pro_loss,
    "dpo": dpo_loss,
    "simpo": simpo_loss,
    "orpo": orpo_loss,
    "ipo": ipo_loss,
    "kto": kto_loss,
    "nca": nca_loss,
    "nft": nft_loss,
    "topr": topr_loss,
    "simper": simper_loss,
    "bpo": bpo_loss,
    "asymre": asymre_loss,
}

# Losses that take `ref_scores`, the scores under the frozen reference model.
REFERENCE_LOSSES = frozenset(
    name for name, function in LOSSES.items() if "ref_scores" in inspect.signature(function).parameters
)

CONSTRAINTS: dict[str, type] = {
    "none": Unconstrained,
    "detached": Detached,
    "boundary": Boundary,
    "tapered": Tapered,
    "pass_rate": PassRate,
    "balanced": Balanced,
    "floor": Floor,
    "positive_floor": PositiveFloor,
    "controlled": Boundary,
}

__all__ = [
    "CONSTRAINTS",
    "DISPLACEMENT",
    "LOSSES",
    "REFERENCE_LOSSES",
    "STATISTICS",
    "Balanced",
    "Boundary",
    "Constraint",
    "Detached",
    "Floor",
    "PassRate",
    "PositiveFloor",
    "Tapered",
    "Unconstrained",
    "alignment_loss",
    "asymre_loss",
    "bpo_loss",
    "controlled_beta",
    "displacement_statistics",
    "dpo_loss",
    "groups_with_pair",
    "ipo_loss",
    "kto_loss",
    "metrics_from_displacement",
    "metrics_from_statistics",
    "nca_loss",
    "nft_loss",
    "orpo_loss",
    "pair_statistics",
    "pro_loss",
    "rrhf_loss",
    "simper_loss",
    "simpo_loss",
    "spread_of_negatives",
    "topr_loss",
]
