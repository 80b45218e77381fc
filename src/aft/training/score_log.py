"""What training logs of scores: sums over micro-batches, added over ranks, as metrics of the steps since the last log.

Axes: `B` questions in the batch, `G` candidate slots per question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..losses import metrics_from_displacement, metrics_from_statistics
from .objective import DisplacementFunction, StatisticsFunction


class ScoreLog:
    """Collects the sums behind the metrics of scores, and of how far they moved where the scores before are known."""

    def __init__(self, statistics: StatisticsFunction | None, displacement: DisplacementFunction | None) -> None:
        self.statistics, self.displacement = statistics, displacement
        self._statistics: Tensor | None = None
        self._displacement: Tensor | None = None

    def note(self, scores: Tensor, before: Tensor | None, batch: dict[str, Any]) -> None:
        """Add a batch's candidates: their scores (B, G) now and, if known, before training."""
        if self.statistics is None:
            return
        mask = batch["candidate_mask"]
        # a filler has no candidates: it is no group without a pair
        real = mask.any(dim=1)
        arguments = (batch["ratings"][real], mask[real])
        counted = self.statistics(scores[real], *arguments).double()
        self._statistics = counted if self._statistics is None else self._statistics + counted
        if before is not None and self.displacement is not None:
            counted = self.displacement(scores[real], before[real], *arguments).double()
            self._displacement = counted if self._displacement is None else self._displacement + counted

    def metrics(self, reduce: Callable[[Tensor], Tensor], steps: int) -> dict[str, float]:
        """The metrics of all that was noted since the last call; `reduce` sums a vector over ranks."""
        if self._statistics is None:
            return {}
        metrics = metrics_from_statistics(reduce(self._statistics))
        metrics["groups/without_pair"] = metrics["groups/without_pair"] / max(steps, 1)
        if self._displacement is not None:
            metrics.update(metrics_from_displacement(reduce(self._displacement)))
        self._statistics = self._displacement = None
        return {name: value.item() for name, value in metrics.items()}
