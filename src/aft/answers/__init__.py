"""The final answer out of a completion, and when two answers are the same. Labelling and evaluation both use this.

A completion is whatever a model wrote, so nothing here evaluates text, raises on it, or takes more than linear time.
"""

from .choices import AMBIGUOUS, LETTERS, NOT_AN_OPTION, extract_choice
from .latex import EMPTY_BOX, NO_BOX, OPEN_BOX, extract_boxed, latex_equal
from .markers import (
    NO_MARKER,
    NO_TEXT,
    Extraction,
    extract_after_marker,
    extract_text,
    normalise_text,
    texts_equal,
)
from .numbers import NOT_A_NUMBER, extract_number, format_number, normalise_number, numbers_equal

__all__ = [
    "AMBIGUOUS",
    "EMPTY_BOX",
    "LETTERS",
    "NOT_AN_OPTION",
    "NOT_A_NUMBER",
    "NO_BOX",
    "NO_MARKER",
    "NO_TEXT",
    "OPEN_BOX",
    "Extraction",
    "extract_after_marker",
    "extract_boxed",
    "extract_choice",
    "extract_number",
    "extract_text",
    "format_number",
    "latex_equal",
    "normalise_number",
    "normalise_text",
    "numbers_equal",
    "texts_equal",
]
