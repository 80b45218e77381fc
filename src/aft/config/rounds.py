"""The section `rounds`: how often a run samples, labels and aligns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

DEFAULT_QUESTIONS = 200  # where `validation_questions` is null


@dataclass(frozen=True)
class RoundsConfig:
    """Repeats sampling, labelling and alignment. `rounds: 3` stands for `rounds: {count: 3}`."""

    SHORT: ClassVar[str] = "count"

    count: int = field(default=1, metadata={"ge": 1, "le": 16})
    """Number of rounds. From round 2 on, each method samples from its own model of the round before."""
    keep: Literal["last", "all"] = "last"
    """Groups that a round is trained on. last: those of its own samples; all: those of all rounds so far, merged by
    question as `label.deduplicate` says."""
    start_from: Literal["last", "base"] = "last"
    """Model that a round's training starts from. last: the method's model of the round before; base: `align.init_from`,
    as in round 1."""
    validation_questions: int | None = field(default=None, metadata={"ge": 0})
    """Number of validation questions that each round's model answers greedily; the best round is the final model; null:
    200, or all if there are fewer; 0: none, and the last round is the final model."""
    patience: int | None = field(default=None, metadata={"ge": 1})
    """Rounds without a new best validation accuracy after which a method's rounds stop; null: all rounds run."""

    def problems(self) -> list[str]:
        """Returns the problems of keys with each other."""
        if self.patience is not None and self.validation_questions == 0:
            return ["patience: needs validation, but validation_questions is 0"]
        return []
