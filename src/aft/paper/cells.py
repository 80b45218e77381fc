"""A place of a table, and a table of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One place of a table. `values`: measure -> the estimate behind the text, or β."""

    row: tuple[str, ...]
    column: str
    text: str
    paper: str
    run: str
    model: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class TextTable:
    """Headings and rows of text."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
