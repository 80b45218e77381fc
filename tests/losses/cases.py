"""Seeded groups, the constraints by name, and every loss behind one signature: what the tests of the losses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import reference_losses as reference
from aft.losses import (
    LOSSES,
    REFERENCE_LOSSES,
    Balanced,
    Boundary,
    Constraint,
    Detached,
    Floor,
    PassRate,
    PositiveFloor,
    Tapered,
    Unconstrained,
    pro_loss,
)

BETA = 0.2
SPREAD = 0.3
WEIGHT = 2.0
FIXED: dict[str, Constraint] = {
    "none": Unconstrained(),
    "detached": Detached(),
    "lowest_only": Detached(lowest_only=True),
    "boundary": Boundary(beta=BETA),
    "mirror": Boundary(beta=BETA, mirror=True),
}


def at_start(refs: Tensor) -> tuple[Tensor, Tensor]:
    """Some scores before training, and lengths, one each for every slot: functions of the reference scores."""
    return 1.2 * refs + 0.15, (4 - 6 * refs.nan_to_num(0, 0, 0)).round()


def _since_start(kind: type, refs: Tensor, lengths: bool = False) -> Constraint:
    initial, counted = at_start(refs)
    return kind(initial_scores=initial, lengths=counted if lengths else None)


FROM_START: dict[str, Callable[[Tensor], Constraint]] = {
    "tapered": lambda refs: _since_start(Tapered, refs),
    "tapered_sum": lambda refs: _since_start(Tapered, refs, True),
    "pass_rate": lambda refs: _since_start(PassRate, refs),
    "pass_rate_sum": lambda refs: _since_start(PassRate, refs, True),
    "balanced": lambda refs: _since_start(Balanced, refs),
    "balanced_sum": lambda refs: _since_start(Balanced, refs, True),
    "floor": lambda refs: Floor(initial_scores=at_start(refs)[0], spread=SPREAD),
    "positive_floor": lambda refs: PositiveFloor(initial_scores=at_start(refs)[0], weight=WEIGHT),
}
CONSTRAINTS: dict[str, Any] = {**FIXED, **FROM_START}
VARIANTS: dict[str, dict[str, Any]] = {
    "pro_without_temperature": {"dynamic_temperature": False},
    "pro_reference_code": {"normalisation": "reference_code"},
}
LOSS_NAMES = (*LOSSES, *VARIANTS)
# these act on a candidate whatever it is compared with
UNPAIRED = ("kto", "nca", "topr", "asymre")
# these ask which candidates are right
THRESHOLD = ("kto", "nft", "topr")
# the boundary turns their push on a wrong candidate around, without a change of its strength
FOLDED = ("kto", "nft", "topr", "simper", "asymre")


def random_groups(seed: int, kind: str = "ranking", shape: tuple[int, int] = (6, 7)) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, ratings, candidate_mask) in float64 with ties; padding slots hold nan and infinities."""
    generator = torch.Generator().manual_seed(seed)
    scores = -1.5 * torch.rand(shape, generator=generator, dtype=torch.float64)
    levels = 2 if kind == "binary" else 4
    ratings = torch.randint(levels, shape, generator=generator).double()
    if kind == "ranking":
        ratings = ratings * 0.75
    candidate_mask = torch.rand(shape, generator=generator) > 0.25
    candidate_mask[0] = True  # one group without padding
    garbage = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30], dtype=torch.float64)
    scores = torch.where(candidate_mask, scores, garbage[torch.randint(4, shape, generator=generator)])
    ratings = torch.where(candidate_mask, ratings, garbage[torch.randint(4, shape, generator=generator)])
    return scores, ratings, candidate_mask


def ref_scores_for(scores: Tensor) -> Tensor:
    """Some fixed reference scores, one per slot; the same slot gets the same number in any batch."""
    slots = torch.arange(scores.shape[1], dtype=scores.dtype, device=scores.device)
    return (-0.5 - 0.4 * torch.sin(3 * slots)).expand_as(scores).clone()


def run_loss(
    name: str, scores: Tensor, ratings: Tensor, candidate_mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """The named loss. `refs`, by default `ref_scores_for(scores)`, go to a loss that has a reference.

    A constraint of `FROM_START` compares with what `at_start` makes of `refs`.
    """
    options["candidate_mask"] = candidate_mask
    if "refs" not in options and scores.ndim == 2:
        options["refs"] = ref_scores_for(scores.detach())
    refs = options.pop("refs", None)
    if name in REFERENCE_LOSSES and "ref_scores" not in options:
        options["ref_scores"] = refs
    if callable(options.get("constraint")):
        options["constraint"] = options["constraint"](refs)
    if name in THRESHOLD:
        options.setdefault("desirable_above", 0.5)
    if name in VARIANTS:
        return pro_loss(scores, ratings, **VARIANTS[name], **options)
    return LOSSES[name](scores, ratings, **options)


def run_reference(
    name: str,
    constraint: str,
    scores: list[float],
    ratings: list[float],
    ref_scores: list[float],
    stopped: list[float],
    min_gap: float = 0.0,
) -> float:
    """The named loss of one group without padding, by the slow reference."""
    initial, lengths = at_start(torch.tensor(ref_scores, dtype=torch.float64))
    compared = {"start": initial.tolist(), "lengths": lengths.tolist(), "spread": SPREAD, "weight": WEIGHT}
    rule = reference.Rule(constraint, **compared, min_gap=min_gap, ratings=ratings, stopped=stopped)
    rest = (ratings, stopped, rule, BETA, min_gap)
    if name in REFERENCE_LOSSES:
        return getattr(reference, name)(scores, ref_scores, *rest)
    if name == "pro_without_temperature":
        return reference.pro(scores, *rest, dynamic_temperature=False)
    return getattr(reference, name)(scores, *rest)


def gradient_of(name: str, scores: Tensor, ratings: Tensor, *args: Any, **options: Any) -> Tensor:
    """Gradient of the summed loss with respect to a copy of the scores."""
    scores = scores.clone().requires_grad_()
    run_loss(name, scores, ratings, *args, **options)[0].sum().backward()
    assert scores.grad is not None
    return scores.grad
