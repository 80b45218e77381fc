"""A figure against its bar: what the summary table of docs/performance.md shows."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence

from aft.markdown import markdown
from timing import Summary

NOT_MEASURED = "not measured"
_HOLDS = {"≥": operator.ge, "≤": operator.le}


@dataclasses.dataclass(frozen=True)
class Bar:
    """What was measured and what it must reach; `found` is the median that decides, None where it was not measured."""

    measure: str
    sense: str  # one of ≥ and ≤
    bar: float
    found: Summary | None
    pattern: str = "{:.2f}"
    unit: str = "×"

    @property
    def verdict(self) -> str:
        """met, missed or not measured."""
        if self.found is None:
            return NOT_MEASURED
        return "met" if _HOLDS[self.sense](self.found.median, self.bar) else "**missed**"

    def cells(self) -> list[str]:
        """measure, bar, measured, verdict."""
        measured = NOT_MEASURED if self.found is None else self.found.text(self.pattern, self.unit)
        return [self.measure, f"{self.sense} {self.bar:g}{self.unit}", measured, self.verdict]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of figures with their units, all to the left."""
    return markdown(headings, rows, numbers=False)


def bar_table(bars: Sequence[Bar]) -> str:
    """The table of figures against their bars."""
    return table(["measure", "bar", "measured: median (range)", "verdict"], [bar.cells() for bar in bars])
