"""Turns a `loss` section of the configuration into the trainer's objective."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

from ..config.losses import Constraint, ProLoss, RankingLoss
from ..losses import CONSTRAINTS, LOSSES, REFERENCE_LOSSES
from ..training.objective import Objective


def make_objective(section: RankingLoss | None, vft_reduction: str) -> Objective:
    """The objective that a `loss` section describes; None: L_VFT alone."""
    if section is None:
        return Objective(vft_reduction=vft_reduction)
    function = LOSSES[section.name]
    # the trainer handles the keys that the function does not take; null means the function's default
    taken = inspect.signature(function).parameters.keys() - {"constraint", "min_rating_gap"}
    own = {key: value for key, value in vars(section).items() if key in taken and value is not None}
    if hasattr(section, "desirable_above"):
        # without a threshold the function would read every batch's ratings; the stage has checked them before
        own.setdefault("desirable_above", 0.5)
    # PRO's published code adds a constant for equal candidates
    constant = isinstance(section, ProLoss) and section.normalisation == "reference_code"
    return Objective(
        vft_reduction=vft_reduction,
        loss=functools.partial(function, **own),
        constraint=make_constraint(section.constraint),
        min_rating_gap=section.min_rating_gap,
        weight=section.weight,
        reduction=section.reduction,
        zero_without_pair=section.needs_pairs and not constant,
        needs_reference=section.name in REFERENCE_LOSSES,
        logps=getattr(section, "logps", "mean"),
    )


def make_constraint(section: Constraint) -> Any:
    """The constraint that a `constraint` section describes."""
    arguments = dataclasses.asdict(section)
    return CONSTRAINTS[arguments.pop("name")](**arguments)
