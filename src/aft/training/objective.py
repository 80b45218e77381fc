"""The loss that a stage minimises: L_VFT plus a term on each question's candidates. Depends on no single loss.

Axes: `B` questions in the batch, `G` candidate slots per question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..losses import Constraint, Unconstrained, displacement_statistics, groups_with_pair, pair_statistics
from ..scoring.packing import Batch

# Values of `vft_reduction` under which each question with a supervised response weighs the same.
PER_QUESTION = ("question_mean", "question_sum")

LossFunction = Callable[..., tuple[Tensor, dict[str, Tensor]]]


@dataclasses.dataclass(frozen=True)
class Control:
    """How a boundary's beta follows the positives' drift: the arguments of `aft.losses.controlled_beta`.

    `beta`: the first value, nats per token.
    """

    beta: float
    rate: float
    lowest: float
    highest: float


@dataclasses.dataclass(frozen=True)
class Objective:
    """L = L_VFT + weight * L_A.

    `vft_reduction`: what L_VFT is a mean of over the step: supervised tokens (token_mean), the token sums of supervised
    responses (token_sum), or one value per question that has some: the mean of its tokens (question_mean), or of the
    token sums of its responses (question_sum).
    `loss`: a function of `aft.losses` with its own arguments bound, for example beta; None: L_VFT alone.
    `constraint`, `min_rating_gap` (in the ratings' unit): which candidates are compared and how. They apply to the
    loss, to the statistics and to the count of groups with a pair. A constraint that differs from batch to batch is a
    function, and `constraint_takes` names its arguments: initial_scores and lengths (B, G), spread and beta (0-dim).
    `measured`: the current spread or beta, on the device. The trainer sets it.
    `control`: how the trainer changes beta; None: not at all.
    `reduction`: mean, mean_with_pair or sum of L_A over the step's groups.
    `zero_without_pair`: the loss of a group without a pair is exactly 0, so a step without a pair has no L_A to log.
    `needs_reference`: the loss takes the scores before training as `ref_scores`.
    `logps`: the loss compares mean log-probs (mean), summed log-probs (sum; the loss also gets `lengths`), or sums
    divided by the group's padded length (padded).
    """

    vft_reduction: str = "token_mean"
    loss: LossFunction | None = None
    constraint: Constraint | Callable[..., Constraint] = dataclasses.field(default_factory=Unconstrained)
    constraint_takes: frozenset[str] = frozenset()
    measured: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    control: Control | None = None
    min_rating_gap: float = 0.0
    weight: float = 1.0
    reduction: str = "mean"
    zero_without_pair: bool = False
    needs_reference: bool = False
    logps: str = "mean"

    @property
    def pairs_only(self) -> bool:
        """Whether only groups with a pair add to L_A."""
        return self.zero_without_pair or self.reduction == "mean_with_pair"

    def supervised_nll(self, seq_logps: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """The negative log-likelihood, 0-dim, of the supervised responses, before L_VFT's division by its count.

        `seq_logps` and `lengths` (N,) as from `score_responses`. Gradient flows to `seq_logps`.
        """
        supervised = batch["supervised"]
        # masked before summing, so that a nan in a response outside L_VFT does not reach L_VFT
        nll = -torch.where(supervised, seq_logps, 0.0)
        if self.vft_reduction not in PER_QUESTION:
            return nll.sum()
        sizes = supervised * (lengths if self.vft_reduction == "question_mean" else 1)
        none = nll.new_zeros(len(batch["candidate_mask"]))
        of_questions = none.index_add(0, batch["questions"], nll)
        sizes_of_questions = none.index_add(0, batch["questions"], sizes.to(nll))
        return (of_questions / sizes_of_questions.clamp(min=1)).sum()

    def of_groups(self, scores: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """The loss (B,) of each group from scores and lengths (B, G); 0 for a group that `reduction` does not count.

        Gradient flows to the scores.
        """
        assert self.loss is not None
        if self.logps == "padded":
            scores = scores * lengths / batch["padded_lengths"].unsqueeze(1)
        options = {"ref_scores": batch["initial_scores"]} if self.needs_reference else {}
        if self.logps == "sum":
            options["lengths"] = lengths
        per_group, _ = self.loss(scores, batch["ratings"], **self._pairing(batch, lengths), **options)
        if self.reduction == "mean_with_pair":
            # some losses, for example KTO, are not 0 for a group without a pair
            per_group = torch.where(self.with_pair(batch), per_group, 0.0)
        return per_group

    def with_pair(self, batch: Batch) -> Tensor:
        """Bool (B,), true for each group with a pair."""
        mask = batch["candidate_mask"]
        return groups_with_pair(batch["ratings"], candidate_mask=mask, min_rating_gap=self.min_rating_gap)

    def statistics(self, scores: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """`pair_statistics` (12,) of the candidates' scores and lengths (B, G)."""
        return pair_statistics(scores, batch["ratings"], **self._pairing(batch, lengths))

    def displacement(self, scores: Tensor, batch: Batch) -> Tensor:
        """`displacement_statistics` (6,) of the candidates' scores (B, G), compared with those before training."""
        return displacement_statistics(
            scores,
            batch["ratings"],
            initial_scores=batch["initial_scores"],
            candidate_mask=batch["candidate_mask"],
            min_rating_gap=self.min_rating_gap,
        )

    def _pairing(self, batch: Batch, lengths: Tensor) -> dict[str, Any]:
        constraint, mask = self.constraint, batch["candidate_mask"]
        if callable(constraint):
            known = {"initial_scores": batch["initial_scores"], "lengths": lengths, **self.measured}
            constraint = constraint(**{name: known[name] for name in self.constraint_takes})
        return {"candidate_mask": mask, "constraint": constraint, "min_rating_gap": self.min_rating_gap}
