"""Labels and rates completions, and builds groups of them."""

from .labels import BINARY, RATINGS, CandidateKey, Counts, References, label_completions, replace_ratings

__all__ = [
    "BINARY",
    "RATINGS",
    "CandidateKey",
    "Counts",
    "References",
    "label_completions",
    "replace_ratings",
]
