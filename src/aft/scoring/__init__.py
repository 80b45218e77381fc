"""The log-probs that a model gives to responses, each question computed once: all that your own loop needs."""

from .forward import enable_scoring
from .layouts import choose_layout
from .packing import Batch, Entry, Item, pack
from .responses import Scores, as_groups, candidate_scores, score_candidates, score_responses, to_device

__all__ = [
    "Batch",
    "Entry",
    "Item",
    "Scores",
    "as_groups",
    "candidate_scores",
    "choose_layout",
    "enable_scoring",
    "pack",
    "score_candidates",
    "score_responses",
    "to_device",
]
