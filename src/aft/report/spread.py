"""Numbers with their spread as text, and Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..markdown import ABSENT
from ..stats.intervals import mean_sd


def number(value: Mapping[str, Any] | None, factor: float, decimals: int, *, signed: bool = False) -> str:
    """`mean ± sd` over seeds, or `value [low, high]`, or the value and that it has no interval."""
    if value is not None and value.get("infinite"):
        return "infinite"
    if value is None or value["mean"] is None:
        return ABSENT

    def show(amount: float) -> str:
        return f"{amount * factor:{'+' if signed else ''}.{decimals}f}"

    if value.get("sd") is not None:
        return f"{show(value['mean'])} ± {value['sd'] * factor:.{decimals}f}"
    if value["low"] is not None and value["high"] is not None:
        return f"{show(value['mean'])} [{show(value['low'])}, {show(value['high'])}]"
    return f"{show(value['mean'])} (no interval)"


def spread(values: Sequence[float], factor: float, decimals: int, *, signed: bool = False) -> str:
    """`mean ± sd` of plain values, one for each seed; the value alone if there is one."""
    if not values:
        return ABSENT
    mean, sd = mean_sd(values)
    text = number({"mean": mean, "sd": sd, "low": None, "high": None}, factor, decimals, signed=signed)
    return text.removesuffix(" (no interval)")


def bootstrap(value: Mapping[str, Any] | None) -> str:
    """A paired difference in points with its bootstrap interval."""
    if value is None:
        return ABSENT
    ends = {"low": value["bootstrap_low"], "high": value["bootstrap_high"]}
    return number({"mean": value["mean"], **ends}, 100, 2, signed=True)
