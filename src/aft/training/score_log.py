"""What training logs of scores: sums over micro-batches, added over ranks, as metrics of the steps since the last log.

Axes: `B` questions in the batch, `G` candidate slots per question.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..losses import STATISTICS, metrics_from_displacement, metrics_from_statistics
from ..scoring.packing import Batch
from .objective import Objective

_WITHOUT_PAIR = STATISTICS.index("groups_without_pair")


class ScoreLog:
    """Collects the sums behind the metrics of scores, on their device: they are read where they are logged."""

    def __init__(self) -> None:
        self._statistics: Tensor | None = None
        self._displacement: Tensor | None = None

    def note(self, objective: Objective, scores: Tensor, batch: Batch, *, drift: bool) -> None:
        """Add a batch's candidates by their scores (B, G). `drift`: also how far these are from the initial ones."""
        counted = objective.statistics(scores, batch).double()
        # a filler or a lone reference has no candidates: it is no group without a pair
        counted[_WITHOUT_PAIR] -= (~batch["candidate_mask"].any(dim=1)).sum()
        self._statistics = counted if self._statistics is None else self._statistics + counted
        if drift:
            counted = objective.displacement(scores, batch).double()
            self._displacement = counted if self._displacement is None else self._displacement + counted

    def metrics(self, reduce: Callable[[Tensor], Tensor], steps: int) -> dict[str, float]:
        """The metrics of all that was noted since the last call; `reduce` sums a vector over ranks."""
        if self._statistics is None:
            return {}
        metrics = metrics_from_statistics(reduce(self._statistics).cpu())
        metrics["groups/without_pair"] = metrics["groups/without_pair"] / max(steps, 1)
        if self._displacement is not None:
            metrics.update(metrics_from_displacement(reduce(self._displacement).cpu()))
        self._statistics = self._displacement = None
        return {name: value.item() for name, value in metrics.items()}
