"""Extracts the final answer from a completion and compares answers. Labelling and evaluation both use this package.

A completion is untrusted text. No function here evaluates it, raises on it, or takes more than linear time.
"""

from .boxes import EMPTY_BOX, NO_BOX, OPEN_BOX, extract_boxed
from .choices import (
    AMBIGUOUS,
    CONTRADICTION,
    LETTERS,
    NOT_AN_OPTION,
    SAME_TEXT,
    extract_choice,
    read_choice,
)
from .extraction import Extraction
from .latex import extract_latex, latex_equal, normalise_latex
from .lenient import lenient_answer
from .markers import (
    NO_MARKER,
    NO_TEXT,
    extract_after_marker,
    extract_text,
    normalise_text,
    texts_equal,
)
from .numbers import NOT_A_NUMBER, VALUE_WORDS, extract_number, format_number, normalise_number, numbers_equal
from .places import place_of_answer
from .symbolic import SymbolicChecker, math_verify_installed, symbolic_checker

__all__ = [
    "AMBIGUOUS",
    "CONTRADICTION",
    "EMPTY_BOX",
    "LETTERS",
    "NOT_AN_OPTION",
    "NOT_A_NUMBER",
    "NO_BOX",
    "NO_MARKER",
    "NO_TEXT",
    "OPEN_BOX",
    "SAME_TEXT",
    "VALUE_WORDS",
    "Extraction",
    "SymbolicChecker",
    "extract_after_marker",
    "extract_boxed",
    "extract_choice",
    "extract_latex",
    "extract_number",
    "extract_text",
    "format_number",
    "latex_equal",
    "lenient_answer",
    "math_verify_installed",
    "normalise_latex",
    "normalise_number",
    "normalise_text",
    "numbers_equal",
    "place_of_answer",
    "read_choice",
    "symbolic_checker",
    "texts_equal",
]
