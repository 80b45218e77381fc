"""The result of reading a completion, which every kind of answer has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extraction:
    """The final answer of a completion. If `answer` is None, `reason` says why there is none."""

    answer: str | None
    reason: str | None
