"""What a model is worth: task accuracy, assessment accuracy, perplexity, voting."""

from .accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from .assessment import Assessed, assessment_accuracy, perplexity, pool_metrics, question_shares

__all__ = [
    "Assessed",
    "assessment_accuracy",
    "category_accuracy",
    "perplexity",
    "pool_metrics",
    "question_shares",
    "self_consistency",
    "task_accuracy",
    "vote_lines",
]
