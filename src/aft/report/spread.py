"""Numbers with their spread as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..markdown import ABSENT
from ..stats.comparison import normal_estimate
from ..stats.estimate import Estimate
from .columns import estimate
from .measures import Kind, Measure


def amount(value: float | None, kind: Kind, *, brief: bool = False) -> str:
    """A number without its spread; a dash for None."""
    if value is None:
        return ABSENT
    return f"{value * kind.factor:{'+' if kind.signed else ''}.{kind.brief if brief else kind.decimals}f}"


def number(value: Estimate | None, kind: Kind, *, brief: bool = False, alone: str = " (no interval)") -> str:
    """`mean ± sd` over seeds, or `mean [low, high]`, or the mean and `alone` if it has neither."""
    if value is not None and value.infinite:
        return "infinite"
    if value is None or value.mean is None:
        return ABSENT
    text = amount(value.mean, kind, brief=brief)
    if value.sd is not None:
        return f"{text} ± {amount(value.sd, kind, brief=brief).removeprefix('+')}"
    if value.low is not None and value.high is not None:
        return f"{text} [{amount(value.low, kind, brief=brief)}, {amount(value.high, kind, brief=brief)}]"
    return text + alone


def model_number(model: Mapping[str, Any], measure: Measure, *, brief: bool = False) -> str:
    """The cell of a measure for a model of a report. The difference from VFT has its normal interval."""
    found = estimate(model, measure)
    if measure.name == "vs_vft" and found is not None:
        found = normal_estimate(found)
    return number(found, measure.kind, brief=brief)
