"""Stage 2b's ratings that are not binary: from a file, a judge or the user's function."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..config.ratings import GIVEN, BinaryRatings, FileRatings, FunctionRatings, JudgeRatings, Ratings
from ..endpoint import Endpoint
from ..errors import AftError, ConfigError, DataError, nearest
from ..json_files import iter_json_lines, require
from ..markdown import aligned, plain
from ..own_code import OWN_ERRORS, describe_error, load_module
from ..progress import Progress, say
from ..records import Candidate, Completion, Group
from .judge.cache import ReplyCache
from .judge.judge import Asking, Judge, JudgeCounts
from .judge.prompt import read_template, render
from .labels import CandidateKey
from .rating_sources import judge_model, rating_file

# (key of the candidate, its group, the candidate)
Keyed = tuple[CandidateKey, Group, Candidate]


@dataclasses.dataclass
class Rated:
    """Ratings by candidate, and counts from rating (JSON). A candidate may have no rating."""

    ratings: dict[CandidateKey, float]
    facts: dict[str, Any]


def rate_groups(
    section: Ratings, groups: Sequence[Group], completions: Sequence[Completion], *, seed: int, cache: Path
) -> Rated | None:
    """Rates the groups' candidates with the section's source. Returns None if ratings are binary.

    Args:
        completions: all of the seed, including the pool's and duplicates: a ratings file may have lines for them.
        cache: folder of a judge's replies.
    """
    if isinstance(section, BinaryRatings):
        return None
    candidates = [((group.question_id, item.index), group, item) for group in groups for item in group.candidates]
    if isinstance(section, FileRatings):
        path = rating_file(section, seed)
        return _rate_by_file(path, candidates, read_ratings(path, groups, completions), section.missing)
    if isinstance(section, FunctionRatings):
        return Rated(_rate_by_function(section, candidates), {})
    return _rate_by_judge(section, candidates, cache)


def describe_rated(groups: Sequence[Group], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts with the lowest and highest rating and each label's mean.

    Equal means of right and wrong completions show a useless judge.
    """
    by_label: dict[str, list[float]] = {}
    for group in groups:
        for candidate in group.candidates:
            by_label.setdefault(candidate.label, []).append(candidate.rating)
    every = [rating for ratings in by_label.values() for rating in ratings]
    return {
        **facts,
        "lowest": min(every, default=None),
        "highest": max(every, default=None),
        "mean": {label: fmean(ratings) for label, ratings in sorted(by_label.items())},
    }


def facts_table(facts: Mapping[str, Any]) -> str:
    """Returns the facts as a Markdown table."""
    rows = []
    for key, value in facts.items():
        name = key.replace("_", " ")
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        rows += [(f"{name}: {label}" if label else name, plain(entry)) for label, entry in inner]
    return aligned(("ratings", "value"), rows)


def describe_lacking(facts: Mapping[str, Any], folder: Path, config: Path) -> str:
    """Returns how to request the ratings that a judge did not give. Empty if none is missing."""
    partial, unrated = facts.get("partial", 0), facts.get("unrated", 0)
    if not partial and not unrated:
        return ""
    command = f"rm -r {shlex.quote(str(folder))} && aft-label --config {shlex.quote(str(config))}"
    return (
        f"{partial:,} candidates were rated by fewer replies than asked for, and {unrated:,} by none; that stays so."
        f" To ask for what is missing, and for nothing else, again: {command}"
    )


def name_candidate(key: CandidateKey) -> str:
    """Returns a candidate's name for messages."""
    question_id, index = key
    return f"{'the reference' if index is None else f'completion {index}'} of question '{question_id}'"


def _and_others(keys: Sequence[CandidateKey]) -> str:
    return name_candidate(keys[0]) + (f" and {len(keys) - 1:,} more" if len(keys) > 1 else "")


# ---- a file ----


def read_ratings(path: Path, groups: Sequence[Group], completions: Sequence[Completion]) -> dict[CandidateKey, float]:
    """Reads the ratings in a JSONL file, by candidate. Raises `DataError` with file and line if a line is wrong.

    A line has `question_id`, `index` (null: the reference) and `rating`. It may have `completion`, which must equal the
    candidate's text. So ratings that belong to other samples are rejected.
    """
    texts: dict[CandidateKey, str] = {(item.question_id, item.index): item.completion for item in completions}
    texts |= {(group.question_id, None): group.reference for group in groups if group.reference is not None}
    questions = {group.question_id for group in groups} | {completion.question_id for completion in completions}
    ratings: dict[CandidateKey, float] = {}
    lines: dict[CandidateKey, int] = {}
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        key = (require(value, "question_id", str, where), require(value, "index", (int, type(None)), where))
        rating = require(value, "rating", (int, float), where)
        if not abs(rating) <= sys.float_info.max:  # NaN compares false
            raise DataError(f"{where}: 'rating' must be finite, got {rating}")
        if key not in texts:
            raise DataError(f"{where}: {_describe_unknown(key, questions, texts)}")
        if key in lines:
            raise DataError(f"{where}: {name_candidate(key)} is rated again, first in line {lines[key]}")
        if "completion" in value and require(value, "completion", str, where) != texts[key]:
            raise DataError(f"{where}: 'completion' is not the text of {name_candidate(key)}: another sample was rated")
        ratings[key], lines[key] = float(rating), line
    return ratings


def _describe_unknown(key: CandidateKey, questions: set[str], texts: Mapping[CandidateKey, str]) -> str:
    question_id, index = key
    if question_id not in questions:
        return f"unknown question '{question_id}'; {len(questions):,} are known.{nearest(question_id, questions)}"
    if index is None:
        return f"index null is the reference, but question '{question_id}' has none"
    indices = sorted(known for other, known in texts if other == question_id and known is not None)
    shown = ", ".join(map(str, indices[:20])) + (", …" if indices[20:] else "")
    return f"question '{question_id}' has no completion {index}; its completions: {shown or 'none'}"


def _rate_by_file(path: Path, candidates: Sequence[Keyed], ratings: dict[CandidateKey, float], missing: str) -> Rated:
    wanted = [key for key, _, _ in candidates]
    lacking = [key for key in wanted if key not in ratings]
    if lacking and missing == "error":
        raise DataError(
            f"{path}: no rating for {_and_others(lacking)};"
            " label.ratings.missing=drop leaves such candidates out of their groups"
        )
    used = {key: ratings[key] for key in wanted if key in ratings}
    # unused lines rate duplicates, the pool, or references that are not candidates
    return Rated(used, {"lines": len(ratings), "unused": len(ratings) - len(used)})


# ---- a function ----


def load_function(section: FunctionRatings) -> Callable[..., Any]:
    """Imports the section's function. Raises `ConfigError` if it does not exist or does not accept its arguments."""
    module, _, name = section.function.rpartition(":")
    loaded = load_module(module, "label.ratings.function")
    function: Callable[..., Any] | None = getattr(loaded, name, None)
    if not callable(function):
        known = [other for other, value in vars(loaded).items() if callable(value)]
        raise ConfigError(f"label.ratings.function: {module} has no function '{name}'.{nearest(name, known)}")
    try:
        inspect.signature(function).bind(**dict.fromkeys(GIVEN), **section.arguments)
    except TypeError as error:
        called = ", ".join([*GIVEN, *section.arguments])
        raise ConfigError(f"label.ratings.function: {section.function} is called with {called}: {error}") from None
    except ValueError:
        pass  # a function in C may have no signature to check
    return function


def _rate_by_function(section: FunctionRatings, candidates: Sequence[Keyed]) -> dict[CandidateKey, float]:
    function = load_function(section)
    ratings: dict[CandidateKey, float] = {}
    with Progress(section.function, len(candidates), "candidate") as progress:
        for key, group, candidate in candidates:
            told = f"label.ratings.function: {section.function} for {name_candidate(key)}"
            try:
                rating = function(
                    question=group.question,
                    reference=group.reference,
                    completion=candidate.completion,
                    answer=group.answer,
                    label=candidate.label,
                    **section.arguments,
                )
            except OWN_ERRORS as error:
                raise AftError(f"{told}: {describe_error(error)}") from error
            if not isinstance(rating, numbers.Real):
                raise AftError(f"{told}: expected a number, got {rating!r} ({type(rating).__name__})")
            ratings[key] = _finite(rating, told)
            progress.update()
    return ratings


def _finite(rating: numbers.Real, told: str) -> float:
    try:
        value = float(rating)
    except OverflowError:  # a whole number too large for a float
        value = math.inf
    if not math.isfinite(value):
        raise AftError(f"{told}: must be finite, got {rating}")
    return value


# ---- a judge ----


def _rate_by_judge(section: JudgeRatings, candidates: Sequence[Keyed], folder: Path) -> Rated:
    asking = Asking(
        model=judge_model(section),
        **{name: getattr(section, name) for name in ("num_ratings", "temperature", "max_tokens")},
        **{name: getattr(section, name) for name in ("min_score", "max_score", "retries", "concurrency")},
        longest_outage=section.longest_outage,
    )
    template = read_template(section.prompt)
    prompts = {
        key: render(
            template,
            question=group.question,
            reference=group.reference,
            completion=candidate.completion,
            answer=group.answer,
            min_score=section.min_score,
            max_score=section.max_score,
        )
        for key, group, candidate in candidates
    }
    with ReplyCache(folder) as cache:
        if cache.cut_lines:
            say(f"{folder}: {cache.cut_lines} replies were cut while they were written; they are asked for again")
        judge = Judge(Endpoint.from_environment(section.timeout), cache, asking)
        ratings = judge.rate(prompts)
    lacking = [key for key in prompts if key not in ratings]
    if lacking and section.unrated == "error":
        raise AftError(_describe_unrated(lacking, judge.counts, folder))
    return Rated(ratings, dataclasses.asdict(judge.counts))


def _describe_unrated(lacking: Sequence[CandidateKey], counts: JudgeCounts, folder: Path) -> str:
    reasons = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(counts.failures.items()))
    return (
        f"label.ratings: {counts.model} gave no score to {_and_others(lacking)} (failures of {counts.requests:,}"
        f" requests: {reasons}). All other replies are kept in {folder}, and the same command asks for the rest again;"
        " label.ratings.unrated=drop leaves such candidates out of their groups"
    )
