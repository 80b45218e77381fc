"""The score metrics that training logs, exact over the micro-batches and ranks of all steps since the last log.

Axes: `B` questions in the batch, `G` candidate slots per question.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import pad

from ..losses import STATISTICS, metrics_from_displacement, metrics_from_statistics
from ..scoring.packing import Batch
from .objective import Objective

_WITHOUT_PAIR = STATISTICS.index("groups_without_pair")


class ScoreLog:
    """Sums the statistics behind the score metrics on the device. Only `metrics` reads them from the device."""

    def __init__(self) -> None:
        self._statistics: Tensor | None = None
        self._displacement: Tensor | None = None

    def note(
        self, objective: Objective, scores: Tensor, lengths: Tensor, batch: Batch, *, drift: bool
    ) -> Tensor | None:
        """Add the scores (B, G) of a batch's candidates. `drift`: also add their difference to the initial scores.

        Returns the batch's `displacement_statistics` (6,), in float64; None without `drift`.
        """
        counted = objective.statistics(scores, lengths, batch).double()
        # an item without candidates (a filler, a lone reference) must not count as a group without a pair
        counted[_WITHOUT_PAIR] -= (~batch["candidate_mask"].any(dim=1)).sum()
        self._statistics = counted if self._statistics is None else self._statistics + counted
        if not drift:
            return None
        counted = objective.displacement(scores, batch).double()
        self._displacement = counted if self._displacement is None else self._displacement + counted
        return counted

    @property
    def sums(self) -> tuple[Tensor | None, Tensor | None]:
        """What has been summed since the last call of `metrics`: statistics and displacement."""
        return self._statistics, self._displacement

    def add(self, sums: tuple[Tensor | None, Tensor | None]) -> None:
        """Add the `sums` of a cut training. Those of an earlier version may lack the last entries."""
        statistics, displacement = sums
        if statistics is not None:
            sums = (pad(statistics, (0, len(STATISTICS) - len(statistics))), displacement)
        self._statistics, self._displacement = (
            before if more is None else more if before is None else before + more
            for before, more in zip(self.sums, sums, strict=True)
        )

    def metrics(self, reduce: Callable[[Tensor], Tensor], steps: int) -> dict[str, float]:
        """The metrics of the `steps` since the last call, without those over nothing.

        `reduce` sums a vector over ranks, so that all ranks return the same.
        """
        if self._statistics is None:
            return {}
        metrics = metrics_from_statistics(reduce(self._statistics).cpu())
        metrics["groups/without_pair"] = metrics["groups/without_pair"] / steps
        if self._displacement is not None:
            metrics.update(metrics_from_displacement(reduce(self._displacement).cpu()))
        self._statistics = self._displacement = None
        found = {name: value.item() for name, value in metrics.items()}
        return {name: value for name, value in found.items() if not math.isnan(value)}
