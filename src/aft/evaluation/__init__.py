"""What a model is worth: task accuracy, assessment accuracy, perplexity, voting."""

from .accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from .assessment import (
    Assessed,
    assessment_accuracy,
    assessment_counts,
    assessment_lines,
    assessment_metrics,
    describe_scores,
    has_tokens,
    json_scores,
    perplexity,
    pool_metrics,
    question_shares,
    score_lines,
)
from .voting import Tally, pass_at_k, tally, vote_accuracy

__all__ = [
    "Assessed",
    "Tally",
    "assessment_accuracy",
    "assessment_counts",
    "assessment_lines",
    "assessment_metrics",
    "category_accuracy",
    "describe_scores",
    "has_tokens",
    "json_scores",
    "pass_at_k",
    "perplexity",
    "pool_metrics",
    "question_shares",
    "score_lines",
    "self_consistency",
    "tally",
    "task_accuracy",
    "vote_accuracy",
    "vote_lines",
]
