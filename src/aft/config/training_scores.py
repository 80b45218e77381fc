"""The section `evaluate.training_scores`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingScoresConfig:
    """Scores of the chains that an alignment compares, under every evaluated model. report.html shows them."""

    max_questions: int = field(default=25, metadata={"ge": 1})
    """Score the chains of this many first training questions. It costs a pass without gradient over these chains."""
