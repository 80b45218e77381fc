"""The constraints: what limits how far a loss lowers the candidates that others outrank.

Axes: `B` questions in the batch, `G` candidate slots per question. A constraint is a value that any loss takes. A
constraint that compares scores with those before training carries these scores, so it belongs to one batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unconstrained:
    """Push every negative down without end (Eq 6, Eq 14)."""


@dataclass(frozen=True, kw_only=True)
class Detached:
    """Stop the gradient of a score as the lower of a pair (Eq 7, Eq 12; `lowest_only`: Eq 13).

    `lowest_only` detaches only the lowest-rated candidates of the group: those that outrank no other.
    """

    lowest_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Push a negative down above its boundary and up below the boundary (Eq 8, Eq 11).

    The boundary of candidate j is the lowest score among the candidates that outrank j, minus `beta`. `beta` is any
    finite number in the scores' unit, nats per token for means; the paper searches -0.8 to 0.8. It may be a 0-dim
    tensor, which is not read, so that a beta that changes during training stays on the device. `detach_target` treats
    the target T = 2 boundary - s_i of the boundary term as a constant, as the paper's gradient (Eq 9) does.

    The alignment loss's own term is exp(s_j - s_i). Its boundary term exp(T - s_j) is the own term with the mirror
    image 2 boundary - s_j in place of s_j, so the two pushes cancel at the boundary. The own terms of PRO and DPO have
    another slope, so exp(T - s_j) does not balance them. DPO's own term with a beta of 0.1 pushes less than
    exp(T - s_j) until the negative lies far above its positive. `mirror` gives PRO and DPO the mirror image of their
    own term. The other losses always use the mirror image.
    """

    beta: float | Tensor = 0.15
    detach_target: bool = True
    mirror: bool = False

    def __post_init__(self) -> None:
        _check_number("Boundary", "beta", self.beta)


@dataclass(frozen=True, kw_only=True, eq=False)
class SinceStart:
    """Base of the constraints that compare a candidate's score with its score before training.

    `initial_scores` (B, G), nats per token, are the scores before training. `lengths` (B, G), tokens of each candidate:
    if given, ratios are of whole responses, exp(n_j (s_j - s_j0)); None: of means, exp(s_j - s_j0). No gradient flows
    through either. Padding slots may hold anything.
    """

    initial_scores: Tensor
    lengths: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Tapered(SinceStart):
    """Push a negative down in proportion to min(1, rho_j), rho_j its probability over that before training.

    Property: the push fades as the negative becomes unlikely, and never exceeds that of `Unconstrained`.
    Source: TOPR (Le Roux et al. 2025, arXiv 2503.14286), which tapers the ratio of whole responses: give `lengths`.
        With means the push fades much as in SimPER (2502.00883).
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class PassRate(SinceStart):
    """Push a negative down in proportion to q rho_j / (1 - q rho_j), rho_j as in `Tapered` and at most 1.

    q is the share of the group's candidates that outrank j (binary feedback: the group's share of positives), clamped
    to [0.02, 0.98].
    Property: the push is strong where most chains are right, weak where few are, and ends as j fades. At the start it
    is q / (1 - q) of `Unconstrained`'s.
    Source: NFT (Chen et al. 2025, arXiv 2505.18116): the gradient of its implicit negative policy. NFT's ratios are per
        token; `lengths` gives those of whole responses. Departures: rho_j counts as 1 above 1, so that the push is
        finite. NFT bounds its denominator there, and the push goes on growing. NFT also weighs a question by 1 - q,
        so that its push is q at the start; this one is up to 49 times that of `Unconstrained`.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Balanced(SinceStart):
    """Push a negative down only while it has fallen by less than the candidates that outrank it have risen.

    Pushes j while s_j - s_j0 > 1e-3 - min over i above j of (s_i - s_i0). `lengths` multiply the differences and the
    1e-3, without which rounding would decide at the start, where all differences are 0.
    Property: the push on j stops as soon as j has moved further than the positive that has risen least. While that
    positive lies below its start, j is pushed only if j has risen by more than it has fallen.
    Source: BPO (arXiv 2506.03557), which optimises the smaller of the two gains; as a gate the rule is ours.
    """


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A boundary that stands still: the mean score before training of the group's negatives, minus `spread`.

    Pushes a negative down above that boundary and up below it, as `Boundary` does with its mirror image. `spread`, nats
    per token, is the standard deviation of all negatives' scores before training (`spread_of_negatives`).
    Property: no constant to choose, and no push moves the boundary. Source: ours.
    """

    initial_scores: Tensor
    spread: float | Tensor

    def __post_init__(self) -> None:
        _check_number("Floor", "spread", self.spread, least=0.0)


@dataclass(frozen=True, kw_only=True)
class PositiveFloor:
    """Hold the positives at their scores before training; do not limit the push on negatives.

    While a candidate that outranks another scores below its start, its gradient as the higher of a pair is 1 + `weight`
    times as large. The value of the loss stays.
    Source: DPOP (Pal et al. 2024, arXiv 2402.13228). Departure: DPOP's penalty lies inside the sigmoid, so that it
        also makes the push on the negative harder. As a factor of the gradient it means the same under every loss.
    """

    initial_scores: Tensor
    weight: float = 5.0

    def __post_init__(self) -> None:
        _check_number("PositiveFloor", "weight", self.weight, least=0.0)


Constraint = Unconstrained | Detached | Boundary | Tapered | PassRate | Balanced | Floor | PositiveFloor

UNCONSTRAINED = Unconstrained()


def controlled_beta(beta: Tensor, drift: Tensor, *, rate: float, lowest: float = 0.0, highest: float = 0.8) -> Tensor:
    """The next beta of a `Boundary` that follows the positives: beta + rate times drift, within [lowest, highest].

    `drift`, 0-dim, is the mean change in score of a step's positives since training began, nats per token. While the
    positives lie above their start, negatives may be pushed further; while they lie below it, less far. So
    highest - beta >= 0 is the dual variable of "positives must not become less likely", moved by steps of size `rate`.
    A drift that is nan (a step without positives) changes nothing. Reads nothing from the device.
    Source: ours. 0.8 is the largest beta of the paper's search.
    """
    moved = (beta + rate * drift.detach().to(beta)).clamp(lowest, highest)
    return torch.where(torch.isnan(moved), beta, moved)


def _check_number(constraint: str, name: str, value: float | Tensor, least: float = -math.inf) -> None:
    if isinstance(value, Tensor):
        if value.ndim or not value.dtype.is_floating_point:
            shape, dtype = tuple(value.shape), value.dtype
            raise ValueError(f"{constraint}: {name} must be a number or a 0-dim float tensor, got {shape} of {dtype}")
    elif not (math.isfinite(value) and value >= least):
        bound = "" if least == -math.inf else f" and >= {least:g}"
        raise ValueError(f"{constraint}: {name} must be finite{bound}, got {value}")
