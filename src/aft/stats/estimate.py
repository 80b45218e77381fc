"""A mean and its uncertainty: one type for every measured figure, from evaluation to page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .intervals import mean_sd

_SHOWN = ("mean", "value", "sd", "low", "high", "n", "by_seed")


@dataclass(frozen=True)
class Estimate:
    """A mean and its uncertainty, of one evaluation or over the seeds of a run.

    `mean`: None if it is infinite, or was measured on no seed. `sd`: sample standard deviation over seeds.
    `low`, `high`: 95 % interval over questions or chains, where a single value has one. `n`: the questions or chains of
    one evaluation; None over seeds. `beside`: what is kept with the mean, such as `correct`, `skipped` or `infinite`.
    `by_seed`: the estimate of each seed; empty for one evaluation.
    """

    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    by_seed: Mapping[int, Estimate] = field(default_factory=dict)

    @property
    def infinite(self) -> int:
        """How many of the values are infinite, which makes the mean infinite too."""
        return int(self.beside.get("infinite") or 0)

    @property
    def is_measured(self) -> bool:
        """True if there is a mean, finite or infinite."""
        return self.mean is not None or self.infinite > 0

    @classmethod
    def over_seeds(cls, by_seed: Mapping[int, Estimate], *, one_checkpoint: bool = False) -> Estimate | None:
        """Mean and sample standard deviation over seeds; None without any.

        With a single value, its own interval stands in for the deviation. So it does for `one_checkpoint` that all
        seeds share: it gives the same value again and again, and a deviation of 0 would say nothing.
        """
        if not by_seed:
            return None
        measured = [found for found in by_seed.values() if found.mean is not None]
        means = [found.mean for found in measured if found.mean is not None]
        infinite = sum(found.infinite for found in by_seed.values())
        if infinite or not means:
            return cls(None, beside={"infinite": infinite} if infinite else {}, by_seed=by_seed)
        mean, sd = mean_sd(means)
        if len(means) == 1 or (one_checkpoint and sd == 0):
            return cls(mean, low=measured[0].low, high=measured[0].high, by_seed=by_seed)
        return cls(mean, sd, by_seed=by_seed)

    def to_json(self) -> dict[str, Any]:
        """As metrics.json has it (`value`, `low`, `high`, `n`), or over seeds as report.json has it (`mean`, `sd`, …).

        A number of which no `n` is known, such as one that training has logged, is its `value` alone.
        """
        if self.by_seed:
            spread = {"mean": self.mean, "sd": self.sd, "low": self.low, "high": self.high}
            by_seed = {str(seed): found.to_json() for seed, found in self.by_seed.items()}
            return {**spread, **self.beside, "by_seed": by_seed}
        if self.n is None:
            return {"value": self.mean, **self.beside}
        return {"value": self.mean, "low": self.low, "high": self.high, "n": self.n, **self.beside}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Estimate:
        """What `to_json` has written; a key that is absent is None."""
        return cls(
            mean=raw.get("mean", raw.get("value")),
            sd=raw.get("sd"),
            low=raw.get("low"),
            high=raw.get("high"),
            n=raw.get("n"),
            beside={key: value for key, value in raw.items() if key not in _SHOWN},
            by_seed={int(seed): cls.from_json(found) for seed, found in raw.get("by_seed", {}).items()},
        )


def to_json(value: Any) -> Any:
    """Nested mappings and sequences ready for JSON: every `Estimate` in them as its own object."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, (list, tuple)) else value
