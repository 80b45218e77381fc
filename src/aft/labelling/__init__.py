"""Right, wrong or rated: from completions to groups."""

from .labels import Counts, label_completions, replace_ratings

__all__ = ["Counts", "label_completions", "replace_ratings"]
