"""Turns a `loss` section of the configuration into the trainer's objective."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

from ..config.losses import Constraint, ControlledConstraint, ProLoss, RankingLoss
from ..config.schema import AlignConfig
from ..losses import CONSTRAINTS, LOSSES, REFERENCE_LOSSES
from ..training.objective import Control, Objective


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
    constraint, takes = make_constraint(section.constraint)
    control = None
    if isinstance(section.constraint, ControlledConstraint):
        keys = section.constraint
        control = Control(keys.beta, keys.rate, keys.lowest, keys.highest)
    return Objective(
        vft_reduction=vft_reduction,
        loss=functools.partial(function, **own),
        constraint=constraint,
        constraint_takes=takes,
        control=control,
        min_rating_gap=section.min_rating_gap,
        weight=section.weight,
        reduction=section.reduction,
        zero_without_pair=section.needs_pairs and not constant,
        needs_reference=section.name in REFERENCE_LOSSES,
        logps=getattr(section, "logps", "mean"),
    )


def make_constraint(section: Constraint) -> tuple[Any, frozenset[str]]:
    """The constraint that a `constraint` section describes, and the arguments that it takes for every batch.

    With such arguments the constraint is a function of them.
    """
    kind = CONSTRAINTS[section.name]
    fields = {field.name for field in dataclasses.fields(kind)}
    own = {key: value for key, value in dataclasses.asdict(section).items() if key in fields}
    takes = fields & {"initial_scores", "spread"}
    if getattr(section, "logps", "mean") == "sum":
        takes |= {"lengths"}
    if isinstance(section, ControlledConstraint):
        own.pop("beta")
        takes |= {"beta"}
    bound = functools.partial(kind, **own)
    return (bound, frozenset(takes)) if takes else (bound(), frozenset())


def takes_initial_scores(align: AlignConfig) -> bool:
    """Whether a method's training needs its candidates' scores before training."""
    if align.loss is None:
        return False
    wanted = align.drift or align.stop_on_collapse is not None or align.loss.name in REFERENCE_LOSSES
    _, takes = make_constraint(align.loss.constraint)
    return wanted or isinstance(align.loss.constraint, ControlledConstraint) or "initial_scores" in takes
