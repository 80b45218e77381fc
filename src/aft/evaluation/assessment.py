"""Assessment accuracy, perplexity and score statistics from scored chains. No model, no torch.

Definitions: the paper, sections 3 and 5 (arXiv 2309.02144). Scores are means of token log-probs, nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records import POSITIVE, REFERENCE, Candidate, Completion, Group
from ..stats.estimate import Estimate
from ..stats.intervals import mean_sd, one_sided_interval
from .accuracy import mean_with_interval


def has_tokens(chain: Completion | Candidate) -> bool:
    """True if a chain has a token to score. A chain that was cut before its first text has none."""
    if chain.token_ids is not None:
        return bool(chain.token_ids)
    return bool(chain.completion) or not chain.truncated


@dataclass
class Assessed:
    """Right and wrong chains of one question, in the order in which they were sampled, each text once."""

    positives: list[Completion] = field(default_factory=list)
    negatives: list[Completion] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    samples: int = 0

    def add(self, completion: Completion, is_correct: bool, per_label: int) -> None:
        """Count a sample, and keep it if it has a token, its text is new and its side is not full."""
        self.samples += 1
        side = self.positives if is_correct else self.negatives
        if has_tokens(completion) and completion.completion not in self.seen and len(side) < per_label:
            self.seen.add(completion.completion)
            side.append(completion)

    def is_full(self, per_label: int) -> bool:
        """True if both sides have `per_label` chains."""
        return len(self.positives) >= per_label and len(self.negatives) >= per_label


def question_shares(lines: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Question -> share of its (right, wrong) pairs in which the right chain scores higher; None without a pair.

    `lines` have question_id, is_positive and score; a tie counts half.
    """
    questions: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        sides = questions.setdefault(line["question_id"], ([], []))
        sides[0 if line["is_positive"] else 1].append(line["score"])
    shares: dict[str, float | None] = {}
    for question_id, (right, wrong) in questions.items():
        wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in right for n in wrong]
        shares[question_id] = sum(wins) / len(wins) if wins else None
    return shares


def assessment_accuracy(lines: Sequence[Mapping[str, Any]], *, skipped: int) -> Estimate | None:
    """`question_shares` averaged over questions, with a bootstrap interval over questions.

    A question without both kinds has no pair: it is counted in `skipped` beside those given. None if no question has
    a pair.
    """
    shares = question_shares(lines)
    values = [share for share in shares.values() if share is not None]
    skipped += len(shares) - len(values)
    return None if not values else mean_with_interval(values, skipped=skipped)


def assessment_counts(assessed: Mapping[str, Assessed], per_label: int) -> dict[str, int]:
    """How many questions were asked and used, why the others were not, and how many samples it took."""
    used = sum(found.is_full(per_label) for found in assessed.values())
    return {
        "questions": len(assessed),
        "used": used,
        "skipped": len(assessed) - used,
        "too_few_right": sum(len(found.positives) < per_label for found in assessed.values()),
        "too_few_wrong": sum(len(found.negatives) < per_label for found in assessed.values()),
        "samples": sum(found.samples for found in assessed.values()),
    }


def assessment_metrics(
    assessed: Mapping[str, Assessed],
    lines: Sequence[Mapping[str, Any]],
    references: Sequence[Mapping[str, Any]],
    section: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The keys of metrics.json about a model's own chains and the references.

    `lines` and `references` have the scores of both. `section`: the keys of `evaluate.assessment`; None if it is off.
    """
    right = [line["score"] for line in lines if line["is_positive"]]
    wrong = [line["score"] for line in lines if not line["is_positive"]]
    reference = [line["score"] for line in references]
    counts = assessment_counts(assessed, section["per_label"] if section else 0)
    return {
        "assessment_accuracy": assessment_accuracy(lines, skipped=counts["skipped"]) if lines else None,
        "assessment": {**counts, **section} if section else None,
        "perplexity": perplexity(right),
        "perplexity_wrong": perplexity(wrong),
        "perplexity_reference": perplexity(reference),
        "scores": {
            "right": describe_scores(right),
            "wrong": describe_scores(wrong),
            "reference": describe_scores(reference),
        },
    }


def assessment_lines(assessed: Mapping[str, Assessed], lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line per question: what was found, and its share of pairs won (`value`), None if the question was skipped."""
    shares = question_shares(lines)
    return [
        {
            "question_id": question_id,
            "value": shares.get(question_id),
            "right": len(found.positives),
            "wrong": len(found.negatives),
            "samples": found.samples,
        }
        for question_id, found in assessed.items()
    ]


def perplexity(scores: Sequence[float]) -> Estimate | None:
    """Mean over chains of exp(-score), with a 95 % interval over chains on the log scale; None without any.

    Where a float cannot hold it (beyond 709 nats per token, as a collapsed model reaches) the mean is infinite: it is
    then None, because JSON has no infinity, and `infinite` says of how many chains.
    """
    if not scores:
        return None
    values = [_exp(-score) for score in scores]
    infinite = sum(not math.isfinite(value) for value in values)
    if infinite:
        return Estimate(None, n=len(values), beside={"infinite": infinite})
    low, high = one_sided_interval(values)
    return Estimate(mean_sd(values)[0], low=low, high=high, n=len(values), beside={"infinite": 0})


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def describe_scores(scores: Sequence[float]) -> dict[str, Any] | None:
    """Mean, standard deviation and number of the finite scores, and how many are not finite; None without any."""
    if not scores:
        return None
    finite = [score for score in scores if math.isfinite(score)]
    mean, sd = mean_sd(finite) if finite else (None, None)
    return {"mean": mean, "sd": sd, "n": len(finite), "not_finite": len(scores) - len(finite)}


def pool_metrics(lines: Sequence[Mapping[str, Any]], *, questions: int) -> dict[str, Any] | None:
    """Assessment accuracy and scores on a fixed pool of another model's chains."""
    if not lines:
        return None
    absent = questions - len({line["question_id"] for line in lines})
    return {
        "assessment_accuracy": assessment_accuracy(lines, skipped=absent),
        "positive": describe_scores([line["score"] for line in lines if line["is_positive"]]),
        "negative": describe_scores([line["score"] for line in lines if not line["is_positive"]]),
    }


def score_lines(groups: Sequence[Group], scores: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One line per candidate of the groups with the score that a model gives it, in group and slot order."""
    return [
        {
            "question_id": group.question_id,
            "index": candidate.index,
            "is_positive": candidate.label in (POSITIVE, REFERENCE),
            "score": score,
        }
        for group in groups
        for candidate, score in zip(group.candidates, scores.get(group.question_id, ()), strict=True)
    ]


def json_scores(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines with None for a score that is not finite, which JSON cannot hold."""
    return [{**line, "score": line["score"] if math.isfinite(line["score"]) else None} for line in lines]
