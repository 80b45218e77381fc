"""What a stage minimises: L_VFT plus a term on each question's candidates. Knows no loss by name.

Axes: `B` questions in the batch, `G` candidate slots per question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LossFunction = Callable[..., tuple[Tensor, dict[str, Tensor]]]
StatisticsFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
DisplacementFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Objective:
    """L = L_VFT + weight * L_A. `loss` maps scores, ratings, mask, each (B, G), to losses (B,); None: L_VFT alone.

    With `needs_reference` it takes the scores before training as its second argument. `logps` says whether it compares
    mean log-probs (scores), sums, for which it takes `lengths`, or sums divided by the padded length of the group.
    `with_pair` maps ratings and mask to the groups that hold a pair. `statistics` and, if the scores before training
    are known, `displacement` are the sums behind what is logged.
    """

    vft_reduction: str = "token_mean"
    loss: LossFunction | None = None
    statistics: StatisticsFunction | None = None
    displacement: DisplacementFunction | None = None
    with_pair: Callable[[Tensor, Tensor], Tensor] | None = None
    weight: float = 1.0
    reduction: str = "mean"
    needs_reference: bool = False
    logps: str = "mean"

    def of_groups(self, scores: Tensor, lengths: Tensor, before: Tensor | None, batch: dict[str, Any]) -> Tensor:
        """The loss of each group (B,) from scores and lengths (B, G), and with `needs_reference` the scores before.

        0 for a group that `reduction` does not count.
        """
        assert self.loss is not None and self.with_pair is not None
        ratings, mask = batch["ratings"], batch["candidate_mask"]
        compared = [scores]
        if self.logps == "padded":
            compared = [scores * lengths / batch["padded_lengths"].unsqueeze(1)]
        if before is not None:
            compared.append(before)
        options = {"lengths": lengths} if self.logps == "sum" else {}
        per_group, _ = self.loss(*compared, ratings, mask, **options)
        if self.reduction == "mean_with_pair":
            # some losses act on a group without a pair as well
            per_group = torch.where(self.with_pair(ratings, mask), per_group, 0.0)
        return per_group
