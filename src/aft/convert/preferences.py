"""Converts rows of a TRL preference set to groups. The rows of a prompt become one question with rated candidates."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DataError
from ..prompts import PLACEHOLDER
from ..records import NEGATIVE, POSITIVE, Candidate, Group
from .messages import COLUMNS, CONVERSATION, SCORE_COLUMNS, Preference, Unusable, read_preference
from .order import Contradiction, Losers, Order, count_pairs, order_of

SCORES, ORDER = RATINGS = ("scores", "order")


@dataclasses.dataclass(frozen=True)
class Imported:
    """Imported groups, with counts and the prompt format for a run.

    `unread`: columns that were not read. `unread_keys`: for each key of messages that was not read, the number of rows
    with it. `conversational`: a prompt is a user's turn, after a `system` turn unless `system` is None.
    """

    groups: list[Group]
    counts: dict[str, int]
    unread: list[str]
    unread_keys: dict[str, int]
    conversational: bool
    system: str | None


def preference_groups(
    rows: Iterable[tuple[str, dict[str, Any]]],
    *,
    template: str = PLACEHOLDER,
    ratings: str = SCORES,
    skip_unusable: bool = False,
    name: str = "prompt",
) -> Imported:
    """Returns one group per prompt, in order of first appearance. A group has each distinct completion once.

    Ratings are the rows' scores. Without scores, they are levels of the preference graph (`order_of`). A group's
    highest-rated candidates are labelled positive. No gold answer is known: `answer` is empty.

    Args:
        rows: (location for error messages, row) pairs.
        template: text around the question in the prompts; it is removed.
        ratings: `scores`, or `order` to ignore scores.
        skip_unusable: leave out and count rows that do not fit into a group or contradict others, instead of raising.
        name: prefix of the ids of prompts, before a number. Not used if the rows have a `question_id`.
    Raises: `DataError` with the row's location if a row is malformed, or unusable and not skipped.
    """
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    columns: dict[str, None] = {}
    unread_keys: Counter[str] = Counter()
    preferences = []
    for where, row in rows:
        counts["rows"] += 1
        columns |= dict.fromkeys(row)
        try:
            preference = read_preference(row, where, template, with_scores=ratings == SCORES)
        except Unusable as error:
            if not skip_unusable:
                raise
            skipped[f"rows left out: {error.reason}"] += 1
            continue
        if preference is None:
            counts["equal"] += 1
            continue
        preferences.append(preference)
        unread_keys.update(preference.unread)
    _check_alike(preferences)
    groups = []
    for question_id, members in _by_prompt(preferences, name).items():
        usable, scores = _scored(members, skipped if skip_unusable else None)
        try:
            if usable:
                groups.append(_group(question_id, usable, scores, counts))
        except Unusable as error:
            if not skip_unusable:
                raise
            skipped[f"rows left out: {error.reason}"] += len(usable)
            skipped[f"prompts left out: {error.reason}"] += 1
    read = {*COLUMNS, *(SCORE_COLUMNS if ratings == SCORES else ())}
    return Imported(
        groups=groups,
        counts=_counted(counts, skipped, groups),
        unread=[column for column in columns if column not in read],
        unread_keys=dict(sorted(unread_keys.items())),
        conversational=any(preference.kind == CONVERSATION for preference in preferences[:1]),
        system=next((preference.system for preference in preferences), None),
    )


def _check_alike(preferences: Sequence[Preference]) -> None:
    """Raises `DataError` if rows differ in kind or system turn, or if only some have an id or scores.

    A run has a single prompt style and system turn.
    """
    for preference in preferences[1:]:
        first = preferences[0]
        for what, one, other in (
            ("kind", first.kind, preference.kind),
            ("system turn", first.system, preference.system),
            ("question_id", *(_presence(p.question_id, "question_id") for p in (first, preference))),
            ("score_chosen and score_rejected", *(_presence(p.scores, "scores") for p in (first, preference))),
        ):
            if one != other:
                raise DataError(
                    f"{preference.where}: {what}: {other!r} here, {one!r} in {first.where};"
                    " a set must be of one kind, so convert each apart"
                )


def _presence(value: Any, name: str) -> str:
    return f"no {name}" if value is None else name


def _by_prompt(preferences: Sequence[Preference], name: str) -> dict[str, list[Preference]]:
    """Returns the rows of each prompt, by the id of its group."""
    found: dict[str, list[Preference]] = {}
    ids: dict[str, str] = {}
    for preference in preferences:
        question_id = preference.question_id
        if question_id is None:
            question_id = ids.setdefault(preference.question, f"{name}-{len(ids):06d}")
        members = found.setdefault(question_id, [])
        members.append(preference)
        if members[0].question != preference.question:
            raise DataError(
                f"{preference.where}: another prompt than in {members[0].where}, with the same question_id"
                f" '{question_id}'"
            )
    return found


def _group(
    question_id: str, preferences: Sequence[Preference], scores: dict[str, float], counts: Counter[str]
) -> Group:
    losers: dict[str, dict[str, str]] = {}
    equal = repeated = 0
    for preference in preferences:
        chosen, rejected = preference.chosen, preference.rejected
        if chosen == rejected:
            equal += 1
            continue
        repeated += rejected in losers.setdefault(chosen, {})
        losers[chosen].setdefault(rejected, preference.where)
        losers.setdefault(rejected, {})
    order = _order(question_id, losers)
    ratings = scores or order.levels
    counts["equal"] += equal
    counts["repeated"] += repeated
    counts["prompts without a pair"] += not losers
    counts["candidates"] += len(losers)
    counts["stated"] += order.stated
    counts["implied"] += order.implied - order.stated
    counts["added"] += count_pairs(ratings) - order.implied
    highest = max(ratings.values(), default=0.0)
    candidates = (
        Candidate(text, ratings[text], POSITIVE if ratings[text] == highest else NEGATIVE, index=index)
        for index, text in enumerate(losers)
    )
    return Group(question_id, preferences[0].question, "", None, tuple(candidates))


def _order(question_id: str, losers: Losers) -> Order:
    try:
        return order_of(losers)
    except Contradiction as error:
        steps = "; ".join(
            f"{losers[better][worse]} prefers {_short(better)} to {_short(worse)}" for better, worse in error.pairs
        )
        raise Unusable("its pairs contradict each other", f"prompt '{question_id}'", steps) from None


def _short(text: str, length: int = 30) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def _scored(
    preferences: Sequence[Preference], skipped: Counter[str] | None
) -> tuple[list[Preference], dict[str, float]]:
    """Returns the rows with consistent scores, and the score of each completion. Rows without scores yield no scores.

    An inconsistent row is left out and counted in `skipped`. If `skipped` is None, it raises `Unusable`.
    """
    usable: list[Preference] = []
    scores: dict[str, float] = {}
    for preference in preferences:
        try:
            scores |= _scores_of(preference, scores)
        except Unusable as error:
            if skipped is None:
                raise
            skipped[f"rows left out: {error.reason}"] += 1
        else:
            usable.append(preference)
    return usable, scores


def _scores_of(preference: Preference, known: dict[str, float]) -> dict[str, float]:
    """Returns the scores of a row's completions.

    Raises `Unusable` if they contradict the row's preference or the scores `known` from earlier rows.
    """
    if preference.scores is None or preference.chosen == preference.rejected:
        return {}
    reason, advice = "its scores contradict its pairs", "; --ratings order goes by the pairs alone"
    better, worse = preference.scores
    if better <= worse:
        detail = f"score_chosen {better:g} is not above score_rejected {worse:g}{advice}"
        raise Unusable(reason, preference.where, detail)
    found = {preference.chosen: better, preference.rejected: worse}
    for text, score in found.items():
        if known.get(text, score) != score:
            detail = f"{_short(text)} has the score {score:g} here and {known[text]:g} in an earlier row{advice}"
            raise Unusable(reason, preference.where, detail)
    return found


def _counted(counts: Counter[str], skipped: Counter[str], groups: Sequence[Group]) -> dict[str, int]:
    return {
        "rows": counts["rows"],
        "rows of two equal completions, no pair": counts["equal"],
        "rows that repeat an earlier one": counts["repeated"],
        **dict(sorted(skipped.items())),
        "groups (prompts)": len(groups),
        "groups without a candidate": counts["prompts without a pair"],
        "candidates": counts["candidates"],
        "pairs in the rows": counts["stated"],
        "pairs that follow from these": counts["implied"],
        "pairs that ratings alone add": counts["added"],
    }
