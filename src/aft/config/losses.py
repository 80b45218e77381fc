"""The sections `align.loss` and `align.loss.constraint`: one class for each loss and constraint of `aft.losses`."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal


@dataclass(frozen=True)
class NoConstraint:
    """Eq 6 and 14: no limit on how far a negative's score is lowered."""

    name: Literal["none"]


@dataclass(frozen=True)
class DetachedConstraint:
    """Eq 7, 12 and 13: no gradient reaches the lower-rated score."""

    name: Literal["detached"]
    lowest_only: bool = False
    """true: no gradient reaches only the lowest-rated candidates of a group (RDC2); false: RDC1."""


@dataclass(frozen=True)
class BoundaryConstraint:
    """Eq 8 and 11: a negative's score is lowered only to a boundary below the worst positive's score."""

    name: Literal["boundary"]
    beta: float = 0.15
    """Distance of the boundary below the worst better-rated score, in nats per token (paper's grid: 0 … 0.5)."""
    detach_target: bool = True
    """The boundary term's target is a constant*, as in the paper's gradient (Eq 9)."""
    mirror: bool = False
    """For PRO and DPO: use a boundary term that cancels their own gradient at the boundary; the alignment loss's term
    does not."""


@dataclass(frozen=True)
class TaperedConstraint:
    """The push on a negative is times min(1, rho), rho its probability over that before training (TOPR)."""

    name: Literal["tapered"]
    logps: Literal["mean", "sum"] = "sum"
    """rho of whole responses (sum; TOPR's own), or of means per token (mean)."""


@dataclass(frozen=True)
class PassRateConstraint:
    """The push on a negative is times q rho / (1 - q rho), q the share of better-rated candidates (NFT)."""

    name: Literal["pass_rate"]
    logps: Literal["mean", "sum"] = "sum"
    """rho of whole responses (sum), or of means per token (mean); NFT's own is per token."""


@dataclass(frozen=True)
class BalancedConstraint:
    """A negative is pushed only while it has fallen by less than every better-rated candidate has risen (BPO)."""

    name: Literal["balanced"]
    logps: Literal["mean", "sum"] = "mean"
    """Rises and falls of means per token (mean), or of whole responses (sum; BPO's own)."""


@dataclass(frozen=True)
class FloorConstraint:
    """A boundary that stands still: the mean score before training of a group's negatives, minus the spread of all."""

    name: Literal["floor"]


@dataclass(frozen=True)
class PositiveFloorConstraint:
    """Better-rated candidates below their score before training weigh more (DPOP); no limit on negatives."""

    name: Literal["positive_floor"]
    weight: float = field(default=5.0, metadata={"ge": 0.0})
    """Their gradient is 1 + weight times as large (DPOP's lambda)."""


@dataclass(frozen=True)
class ControlledConstraint:
    """`boundary` with a beta that rises while the positives rise and falls while they lie below their start."""

    name: Literal["controlled"]
    beta: float = 0.15
    """The first beta, in nats per token."""
    rate: float = field(default=0.5, metadata={"gt": 0.0})
    """Change of beta in a step, per nat per token of the positives' mean drift*. With a drift of 0.01, 50 steps move
    beta by 0.25."""
    lowest: float = 0.0
    """Least beta. 0: a negative is never pushed further than to the lowest better-rated candidate."""
    highest: float = 0.8
    """Greatest beta (paper's search: 0.8)."""
    detach_target: bool = True
    """See `boundary`."""
    mirror: bool = False
    """See `boundary`."""

    def problems(self) -> list[str]:
        """Returns the problems between this section's keys."""
        if self.lowest > self.highest:
            return [f"lowest: {self.lowest:g} is above highest, {self.highest:g}"]
        if self.lowest <= self.beta <= self.highest:
            return []
        return [f"beta: must lie between lowest ({self.lowest:g}) and highest ({self.highest:g}), got {self.beta:g}"]


Constraint = (
    NoConstraint
    | DetachedConstraint
    | BoundaryConstraint
    | TaperedConstraint
    | PassRateConstraint
    | BalancedConstraint
    | FloorConstraint
    | PositiveFloorConstraint
    | ControlledConstraint
)


@dataclass(frozen=True, kw_only=True)
class RankingTerm:
    """Keys of every loss on a question's candidates, except `name`. Each subclass is a loss that YAML can name."""

    if TYPE_CHECKING:
        name: str  # not a field here: each loss defines its own `name`
    # False for a loss that trains on a group whose candidates are all rated the same
    needs_pairs: ClassVar[bool] = True
    constraint: Constraint = field(default_factory=lambda: NoConstraint(name="none"))
    """What limits the push on worse-rated candidates. The paper has none, detached and boundary for the alignment
    loss, and `detached` for RRHF and PRO; the others are ours or come from later papers (docs/losses.md)."""
    weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of the term beside L_VFT (paper: 1)."""
    reduction: Literal["mean", "mean_with_pair", "sum"] = "mean"
    """Over the step's groups: mean of all groups*, mean of the groups with a pair, or sum."""
    min_rating_gap: float = field(default=0.0, metadata={"ge": 0.0})
    """One candidate outranks another if its rating is higher by more than this; 0: equal ratings give no pair*."""


@dataclass(frozen=True, kw_only=True)
class AlignmentLoss(RankingTerm):
    """L_A: the paper's alignment loss."""

    name: Literal["alignment"] = "alignment"
    constraint: Constraint = field(default_factory=lambda: BoundaryConstraint(name="boundary"))
    """none (Eq 6, 14), detached (Eq 7, 12, 13), boundary (Eq 8, 11) or one of later papers (docs/losses.md)."""


@dataclass(frozen=True, kw_only=True)
class RrhfLoss(RankingTerm):
    """RRHF (Eq 18): a hinge on every pair."""

    name: Literal["rrhf"]
    normalisation: Literal["paper", "reference_code"] = "paper"
    """Divisor of a response's summed log-probs: its length, or its group's padded length as in RRHF's code."""

    @property
    def logps(self) -> str:
        """Normalisation of the scores that the loss compares."""
        return "padded" if self.normalisation == "reference_code" else "mean"

    def problems(self) -> list[str]:
        """Returns the problems between this section's keys."""
        unitless = isinstance(self.constraint, NoConstraint | DetachedConstraint)
        if self.normalisation == "reference_code" and not unitless:
            name = self.constraint.name
            return [
                f"constraint.name: {name}, which is in nats per token; normalisation: reference_code has no such unit"
            ]
        return []


@dataclass(frozen=True, kw_only=True)
class ProLoss(RankingTerm):
    """PRO (Eq 20, 21): each candidate against all candidates that it outranks."""

    name: Literal["pro"]
    dynamic_temperature: bool = True
    """Scale scores by rating gaps (τ); false: τ = 1 (paper, Table 10)."""
    normalisation: Literal["paper", "reference_code"] = "paper"
    """Denominator of a candidate: the candidates that it outranks. PRO's code also has later candidates of equal
    rating in it."""

    def problems(self) -> list[str]:
        """Returns the problems between this section's keys."""
        if self.normalisation == "paper":
            return []
        found = (
            [] if self.dynamic_temperature else ["dynamic_temperature: must be true with normalisation: reference_code"]
        )
        return found + (["min_rating_gap: must be 0 with normalisation: reference_code"] if self.min_rating_gap else [])


@dataclass(frozen=True, kw_only=True)
class DpoLoss(RankingTerm):
    """DPO in its ranking form (Eq 16). The reference model is the model that this stage starts from."""

    name: Literal["dpo"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of the log-ratios in DPO; not the boundary's beta."""
    logps: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (the paper's form), or summed over the response (DPO's and Plackett-Luce's own)."""


@dataclass(frozen=True, kw_only=True)
class SimpoLoss(RankingTerm):
    """SimPO: a logistic loss on every pair's margin, without a reference model."""

    name: Literal["simpo"]
    beta: float = field(default=2.0, metadata={"gt": 0.0})
    """Factor of a pair's difference in score."""
    gamma: float = field(default=0.5, metadata={"ge": 0.0})
    """Target margin for beta times a pair's difference in score (TRL: simpo_gamma)."""


@dataclass(frozen=True, kw_only=True)
class OrpoLoss(RankingTerm):
    """ORPO's odds-ratio term on every pair. The factor of the term (TRL: beta) is `weight`."""

    name: Literal["orpo"]


@dataclass(frozen=True, kw_only=True)
class IpoLoss(RankingTerm):
    """IPO: moves every pair's difference in log-ratio towards 1 / (2 beta)."""

    name: Literal["ipo"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Strength of the regularisation towards the reference model."""
    logps: Literal["mean", "sum"] = "mean"
    """Log-ratios per token (as in TRL and by IPO's authors), or summed over the response."""


@dataclass(frozen=True, kw_only=True)
class KtoLoss(RankingTerm):
    """KTO: each candidate is desirable or undesirable, compared with a fixed reference point."""

    needs_pairs: ClassVar[bool] = False
    name: Literal["kto"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of a log-ratio."""
    reference_point: float = 0.0
    """The log-ratio that counts as no change (KTO's z0; 0: APO-zero), in the unit of `logps`."""
    desirable_above: float | None = None
    """A candidate is desirable if its rating is above this; null: 0.5, and ratings must be 0 or 1."""
    desirable_weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of desirable candidates."""
    undesirable_weight: float = field(default=1.0, metadata={"ge": 0.0})
    """Factor of undesirable candidates."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (KTO's own)."""


@dataclass(frozen=True, kw_only=True)
class NcaLoss(RankingTerm):
    """NCA: noise-contrastive alignment over all candidates of a question."""

    needs_pairs: ClassVar[bool] = False
    name: Literal["nca"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of a log-ratio."""
    alpha: float = field(default=0.1, metadata={"gt": 0.0})
    """Temperature of the ratings, in the ratings' unit. Near 0, only the best-rated candidates are raised."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (NCA's own)."""


@dataclass(frozen=True, kw_only=True)
class NftLoss(RankingTerm):
    """NFT: wrong candidates count through an implicit negative policy. Groups all right or all wrong are left out."""

    name: Literal["nft"]
    desirable_above: float | None = None
    """A candidate is right if its rating is above this; null: 0.5, and ratings must be 0 or 1."""
    floor: float = field(default=1.0, metadata={"gt": 0.0})
    """Least value of the negative policy (NFT's ε). A smaller one pushes harder where a wrong candidate has risen."""
    question_weight: Literal["failure_rate", "root_odds", "one"] = "failure_rate"
    """A question's weight, q its share of right candidates: failure_rate: 1 − q (NFT's own); root_odds: the root of
    (1 − q) / q, as in GRPO; one: 1."""
    logps: Literal["mean", "sum"] = "mean"
    """Log-ratios per token, or summed over the response. NFT has a ratio for each token."""


@dataclass(frozen=True, kw_only=True)
class ToprLoss(RankingTerm):
    """TOPR: a wrong candidate is pushed with its probability ratio to the start, at most 1."""

    needs_pairs: ClassVar[bool] = False
    name: Literal["topr"]
    desirable_above: float | None = None
    """A candidate is right if its rating is above this; null: 0.5, and ratings must be 0 or 1."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (TOPR's own)."""


@dataclass(frozen=True, kw_only=True)
class SimperLoss(RankingTerm):
    """SimPER: every pair's difference in inverse perplexity. It has no constant and no reference model."""

    name: Literal["simper"]


@dataclass(frozen=True, kw_only=True)
class BpoLoss(RankingTerm):
    """BPO: of every pair, only the side that has moved less from the start is pushed."""

    name: Literal["bpo"]
    beta: float = field(default=0.1, metadata={"gt": 0.0})
    """Factor of a log-ratio."""
    alpha: float = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Gap adaptor: below 1, a wrong candidate may fall further than the right ones rise."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-ratios per token, or summed over the response (BPO's own)."""


@dataclass(frozen=True, kw_only=True)
class AsymreLoss(RankingTerm):
    """AsymRE: each candidate is pushed in proportion to its rating minus a baseline."""

    needs_pairs: ClassVar[bool] = False
    name: Literal["asymre"]
    delta: float = -0.1
    """Distance of the baseline from the group's mean rating, in the ratings' unit. Below 0, right candidates weigh
    more."""
    divide_by_mean: bool = False
    """Divide by the group's mean rating: with `delta: 0`, MaxRL's estimator."""
    logps: Literal["mean", "sum"] = "sum"
    """Log-probs per token, or summed over the response (AsymRE's own)."""


if TYPE_CHECKING:
    RankingLoss = RankingTerm
else:  # the union of all subclasses, so that a new loss needs no entry here
    RankingLoss = functools.reduce(operator.or_, RankingTerm.__subclasses__())
