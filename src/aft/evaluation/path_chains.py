"""The chains behind votes and pass@k: how far right ones differ, their cost, and the entropy of the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..records import Completion
from ..stats.bootstrap import bootstrap_interval
from ..stats.estimate import Estimate


def chain_key(path: Completion) -> tuple[int, ...] | tuple[str, bool]:
    """What makes two paths of a question the same tokens: their ids, or for paths without ids text and truncation."""
    return path.token_ids if path.token_ids is not None else (path.completion, path.truncated)


def chain_lines(
    predictions: Sequence[Mapping[str, Any]],
    paths: Sequence[Completion],
    scores: Mapping[tuple[str, int], float | None],
) -> list[dict[str, Any]]:
    """One line per question, with lists over its paths in the order of `paths`.

    `right`: whether a path's answer is right. `tokens`: how many were sampled. `scores`: mean log-probability of its
    tokens in nats, None where it is not finite or has no token. `distinct_right`: the number of different texts among
    the right paths. `right_pairs_differ`: `pairs_that_differ` of these texts. `entropy`: `path_entropy`.

    Args:
        predictions: those of `grade_all`, one for each path.
        scores: of paths, by question id and index.
    """
    lines: dict[str, dict[str, Any]] = {}
    texts: dict[str, Counter[str]] = {}
    for graded, path in zip(predictions, paths, strict=True):
        question = path.question_id
        empty: dict[str, Any] = {"question_id": question, "right": [], "tokens": [], "scores": []}
        line = lines.setdefault(question, empty)
        score = scores.get((question, path.index))
        line["right"].append(graded["is_correct"])
        line["tokens"].append(path.num_tokens)
        line["scores"].append(score if score is not None and math.isfinite(score) else None)
        if graded["is_correct"]:
            texts.setdefault(question, Counter())[path.completion] += 1
    return [
        {
            **line,
            "distinct_right": len(texts.get(question, ())),
            "right_pairs_differ": pairs_that_differ(texts.get(question, Counter())),
            "entropy": path_entropy(line["scores"], line["tokens"]),
        }
        for question, line in lines.items()
    ]


def pairs_that_differ(counts: Mapping[str, int]) -> float | None:
    """Share of pairs of paths whose texts differ (Simpson's index), from the number of paths of each text.

    Unbiased for any number of paths, so it does not grow with the number of right ones. None below two paths.
    """
    total = sum(counts.values())
    if total < 2:
        return None
    return 1 - sum(count * (count - 1) for count in counts.values()) / (total * (total - 1))


def path_entropy(scores: Sequence[float | None], tokens: Sequence[int]) -> float | None:
    """Entropy of a model's samples for one question, in nats per token: − Σ log-probability / Σ tokens of its paths.

    A Monte Carlo estimate, if the paths were sampled at temperature 1 from all tokens. None if a score is unknown.
    """
    known = [(score, count) for score, count in zip(scores, tokens, strict=True) if score is not None and count]
    if not known or len(known) < len(scores):
        return None
    return -math.fsum(score * count for score, count in known) / sum(count for _, count in known)


def chain_metrics(lines: Sequence[Mapping[str, Any]]) -> dict[str, Estimate | None]:
    """Means over questions of the measures of `chain_lines`, and of sampled tokens of one path, with their intervals.

    A question where a measure is None is left out of its mean and counted as `skipped`.
    """
    return {
        "distinct_right": _over_questions([float(line["distinct_right"]) for line in lines]),
        "right_pairs_differ": _over_known([line["right_pairs_differ"] for line in lines]),
        "entropy": _over_known([line["entropy"] for line in lines]),
        "tokens": _over_questions([fmean(line["tokens"]) for line in lines]),
    }


def _over_known(values: Sequence[float | None]) -> Estimate | None:
    return _over_questions([value for value in values if value is not None], skipped=values.count(None))


def _over_questions(values: Sequence[float], **beside: int) -> Estimate | None:
    if not values:
        return None
    low, high = bootstrap_interval(values)
    return Estimate(fmean(values), low=low, high=high, n=len(values), beside=beside)
