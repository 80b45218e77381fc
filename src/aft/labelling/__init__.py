"""Labels and rates completions, and builds groups of them."""

from .labels import Counts, label_completions, replace_ratings

__all__ = ["Counts", "label_completions", "replace_ratings"]
