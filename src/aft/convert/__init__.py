"""Converts groups to data sets of other tools, and preference sets of other tools to groups."""

from .pairs import SELECTIONS, outranking_pairs, select_pairs
from .preferences import Imported, preference_groups
from .rows import (
    COMPLETIONS,
    Prompts,
    Selection,
    completion_rows,
    preference_rows,
    ranking_rows,
    unpaired_rows,
)

__all__ = [
    "COMPLETIONS",
    "SELECTIONS",
    "Imported",
    "Prompts",
    "Selection",
    "completion_rows",
    "outranking_pairs",
    "preference_groups",
    "preference_rows",
    "ranking_rows",
    "select_pairs",
    "unpaired_rows",
]
