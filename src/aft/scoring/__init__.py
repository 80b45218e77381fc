"""The log-probs that a model gives to responses, each question computed once: all that your own loop needs."""

from .forward import disable_scoring, enable_scoring
from .layouts import Trial, choose_layout, try_layouts
from .packing import Batch, Entry, Item, pack
from .responses import Scores, as_groups, candidate_scores, response_logps, score_candidates, score_responses, to_device

__all__ = [
    "Batch",
    "Entry",
    "Item",
    "Scores",
    "Trial",
    "as_groups",
    "candidate_scores",
    "choose_layout",
    "disable_scoring",
    "enable_scoring",
    "pack",
    "response_logps",
    "score_candidates",
    "score_responses",
    "to_device",
    "try_layouts",
]
