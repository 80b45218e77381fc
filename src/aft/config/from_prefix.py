"""The section `sample.from_prefix`: completions that continue the beginning of a right chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class FromPrefixConfig:
    """Wrong chains that share their beginning with a right chain (docs/data.md).

    Right chains are cut where a step ends, and the same engine samples how they go on. What then ends wrong becomes a
    negative of the question's group.
    """

    chains: int = field(default=1, metadata={"ge": 1, "le": 1000})
    """Right chains that are cut, per question: the first with different texts."""
    steps: int = field(default=2, metadata={"ge": 1, "le": 1000})
    """Step ends at which a chain is cut, drawn with the run's seed; all, where a chain has fewer."""
    num_samples: int = field(default=2, metadata={"ge": 1, "le": 1000})
    """Continuations sampled from each cut."""
    credit: Literal["step", "chain"] = "step"
    """step: a wrong continuation is scored behind the cut alone (its `response_mask`); chain: it is scored whole, with
    the beginning that it shares with the right chain."""

    @property
    def places(self) -> int:
        """Most places of a question's chains from which it is continued."""
        return self.chains * self.steps
