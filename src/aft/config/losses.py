"""The sections `align.loss` and `align.loss.constraint`: one class for each loss and constraint of `aft.losses`."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True)
class NoConstraint:
    """Eq 6 and 14: nothing limits how far a negative is pushed."""

    name: Literal["none"]


@dataclass(frozen=True)
class DetachedConstraint:
    """Eq 7, 12 and 13: no gradient reaches the lower-rated score."""

    name: Literal["detached"]
    lowest_only: bool = False
    """Detach only the lowest-rated of a group (RDC2) instead of every lower one (RDC1)."""


@dataclass(frozen=True)
class BoundaryConstraint:
    """Eq 8 and 11: a negative is pushed down only as far as a boundary below the worst positive."""

    name: Literal["boundary"]
    beta: float = 0.15
    """Distance of the boundary below the worst better-rated score, in nats per token (paper's grid: 0 … 0.5)."""
    detach_target: bool = True
    """The boundary term's target is a constant*, as in the paper's gradient (Eq 9)."""
    mirror: bool = False
    """For PRO and DPO: a term that balances their own push at the boundary, where the alignment loss's does not."""


Constraint = NoConstraint | DetachedConstraint | BoundaryConstraint


@dataclass(frozen=True, kw_only=True)
class RankingTerm:
    """What every loss on a question's candidates has, beside its `name`. A subclass is a loss that YAML can name."""

    if TYPE_CHECKING:
        name: str  # no field here: each loss puts its own behind the shared keys
    constraint: Constraint = field(default_factory=lambda: NoConstraint(name="none"))
    """none, detached or boundary. Beyond the alignment loss, RRHF detached and PRO detached they are ours."""
    weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of the term beside L_VFT (paper: 1)."""
    reduction: Literal["mean", "mean_with_pair", "sum"] = "mean"
    """Over the step's groups: mean of all*, mean of those that have a pair, or sum."""
    min_rating_gap: float = field(default=0.0, metadata={"ge": 0.0})
    """One candidate outranks another if its rating is higher by more than this; 0: equal ratings give no pair*."""


@dataclass(frozen=True, kw_only=True)
class AlignmentLoss(RankingTerm):
    """L_A: the paper's alignment loss."""

    name: Literal["alignment"] = "alignment"
    constraint: Constraint = field(default_factory=lambda: BoundaryConstraint(name="boundary"))
    """none (Eq 6, 14), detached (Eq 7, 12, 13) or boundary (Eq 8, 11)."""


@dataclass(frozen=True, kw_only=True)
class RrhfLoss(RankingTerm):
    """RRHF (Eq 18): a hinge on every pair."""

    name: Literal["rrhf"]
    normalisation: Literal["paper", "reference_code"] = "paper"
    """Scores: summed log-probs by the response's length, or, as in RRHF's code, by the padded length of its group."""

    @property
    def logps(self) -> str:
        """What the loss compares."""
        return "padded" if self.normalisation == "reference_code" else "mean"

    def problems(self) -> list[str]:
        """What its keys must have in common."""
        if self.normalisation == "reference_code" and isinstance(self.constraint, BoundaryConstraint):
            return [
                "constraint.name: boundary, which is in nats per token; normalisation: reference_code has no such unit"
            ]
        return []


@dataclass(frozen=True, kw_only=True)
class ProLoss(RankingTerm):
    """PRO (Eq 20, 21): each candidate against all that it outranks."""

    name: Literal["pro"]
    dynamic_temperature: bool = True
    """Weigh scores by rating gaps (τ); false: τ = 1 (paper, Table 10)."""
    normalisation: Literal["paper", "reference_code"] = "paper"
    """What a candidate is divided by: all that it outranks, or, as in PRO's code, equals that come later as well."""

    def problems(self) -> list[str]:
        """What its keys must have in common."""
        if self.normalisation == "paper":
            return []
        found = (
            [] if self.dynamic_temperature else ["dynamic_temperature: must be true with normalisation: reference_code"]
        )
        return found + (["min_rating_gap: must be 0 with normalisation: reference_code"] if self.min_rating_gap else [])


@dataclass(frozen=True, kw_only=True)
class DpoLoss(RankingTerm):
    """DPO in its ranking form (Eq 16); the reference model is the one that this stage starts from."""

    name: Literal["dpo"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """DPO's temperature on log-ratios; not the boundary's beta."""
    logps: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (the paper's form), or summed over the response (DPO's and Plackett-Luce's own)."""


@dataclass(frozen=True, kw_only=True)
class SimpoLoss(RankingTerm):
    """SimPO: a logistic loss on every pair's margin, without a reference model."""

    name: Literal["simpo"]
    beta: float = field(default=2.0, metadata={"gt": 0.0})
    """Factor of a pair's difference in score."""
    gamma: float = field(default=0.5, metadata={"ge": 0.0})
    """Margin by which beta times that difference must be above 0 (TRL: simpo_gamma)."""


@dataclass(frozen=True, kw_only=True)
class OrpoLoss(RankingTerm):
    """ORPO's odds-ratio term on every pair; its factor (TRL: beta) is `weight`."""

    name: Literal["orpo"]


@dataclass(frozen=True, kw_only=True)
class IpoLoss(RankingTerm):
    """IPO: draws every pair's difference in log-ratio to 1 / (2 beta)."""

    name: Literal["ipo"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Strength of the hold on the reference model."""
    logps: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (its authors' choice, and TRL's), or summed over the response."""


@dataclass(frozen=True, kw_only=True)
class KtoLoss(RankingTerm):
    """KTO: each candidate by itself is desirable or not, against a fixed reference point."""

    name: Literal["kto"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of a log-ratio."""
    reference_point: float = 0.0
    """The log-ratio that counts as no change (KTO's z0; 0: APO-zero), in the unit of `logps`."""
    desirable_above: float | None = None
    """A candidate is desirable if its rating is above this; null: 0.5, for ratings of 0 and 1, and no others."""
    desirable_weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of desirable candidates."""
    undesirable_weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of the others."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (KTO's own)."""


@dataclass(frozen=True, kw_only=True)
class NcaLoss(RankingTerm):
    """NCA: noise-contrastive, over all candidates of a question at once."""

    name: Literal["nca"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of a log-ratio."""
    alpha: float = field(default=0.1, metadata={"gt": 0.0})
    """Temperature of the ratings, in their unit: near 0 only the best-rated are pulled up."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (NCA's own)."""


if TYPE_CHECKING:
    RankingLoss = RankingTerm
else:  # every loss above, so that a new one is allowed in YAML without an entry here
    RankingLoss = functools.reduce(operator.or_, RankingTerm.__subclasses__())
