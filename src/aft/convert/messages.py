"""Reads a row of a TRL preference set into question, chosen and rejected.

The prompt can be explicit or implicit, and each column can be text or messages.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from ..errors import ConfigError, DataError, nearest
from ..json_files import require, require_messages
from ..prompts import PLACEHOLDER, render_prompt

Messages = list[tuple[str, str]]
"""(role, content) of each turn."""

TEXT, CONVERSATION = "text", "conversation"
SCORE_COLUMNS = ("score_chosen", "score_rejected")
_NOTHING: tuple[Any, ...] = (None, "", [], {})
COLUMNS = ("prompt", "chosen", "rejected", "question_id")


class Unusable(DataError):
    """A row is well-formed but does not fit into a group. `reason` is short: unusable rows are counted by it."""

    def __init__(self, reason: str, where: str, detail: str) -> None:
        super().__init__(f"{where}: {reason}: {detail} (--skip-unusable leaves such out and counts them)")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Preference:
    """One row of a preference set. `where` is its location, for error messages.

    `scores` and `question_id` are None if the row has none. `unread`: non-empty keys of its messages, except role and
    content.
    """

    where: str
    kind: str
    question: str
    system: str | None
    chosen: str
    rejected: str
    scores: tuple[float, float] | None
    question_id: str | None
    unread: frozenset[str]


def read_preference(row: dict[str, Any], where: str, template: str, *, with_scores: bool) -> Preference | None:
    """Returns the preference in a row.

    Returns None if chosen and rejected are equal texts and no prompt is given: the end of the prompt cannot be found.
    Raises `DataError` if the row is malformed, and `Unusable` if it does not fit into a group.
    """
    kinds = {key: _kind(row, key, where) for key in ("chosen", "rejected")}
    if "prompt" in row:
        kinds["prompt"] = _kind(row, "prompt", where)
    if kinds["chosen"] != kinds["rejected"] or (kinds["chosen"] == TEXT and CONVERSATION in kinds.values()):
        found = ", ".join(f"'{key}' is a {kind}" for key, kind in kinds.items())
        raise DataError(f"{where}: {found}; expected all texts, or all lists of messages")
    system = None
    if kinds["chosen"] == TEXT:
        if "prompt" not in row and row["chosen"] == row["rejected"]:
            return None
        prompt, chosen, rejected = _texts(row)
    else:
        system, prompt, chosen, rejected = _conversation(row, kinds, where)
    return Preference(
        where=where,
        kind=kinds["chosen"],
        question=question_of(prompt, template, where),
        system=system,
        chosen=chosen,
        rejected=rejected,
        scores=_scores(row, where) if with_scores else None,
        question_id=require(row, "question_id", str, where) if "question_id" in row else None,
        unread=_unread(row),
    )


def question_of(prompt: str, template: str, where: str) -> str:
    """Returns the part of a prompt at the place of `{question}` in `template`.

    Raises `DataError` if the prompt does not fit the template.
    """
    render_prompt("", template)  # raises an error if the template is invalid
    before, _, after = template.partition(PLACEHOLDER)
    if PLACEHOLDER in after:
        raise ConfigError(f"--template: {PLACEHOLDER} must occur once to be found in a prompt, got {template!r}")
    if len(prompt) < len(before) + len(after) or not (prompt.startswith(before) and prompt.endswith(after)):
        raise DataError(f"{where}: the prompt is not as --template {template!r} makes it: {prompt[:80]!r}")
    return prompt[len(before) : len(prompt) - len(after)]


def _kind(row: dict[str, Any], key: str, where: str) -> str:
    if key not in row:
        found = f"{where}: missing '{key}' (the row has {', '.join(map(repr, row)) or 'nothing'})."
        raise DataError(found + nearest(key, row))
    require(row, key, (str, list), where)
    return TEXT if isinstance(row[key], str) else CONVERSATION


def _texts(row: dict[str, Any]) -> tuple[str, str, str]:
    """Returns (prompt, chosen, rejected). As in TRL, an implicit prompt is the common prefix of both texts."""
    chosen, rejected = row["chosen"], row["rejected"]
    if "prompt" in row:
        return row["prompt"], chosen, rejected
    size = _common(chosen, rejected)
    # as in TRL, a space before the first difference belongs to the completions
    size -= size > 0 and chosen[size] != rejected[size] and chosen[size - 1] == " "
    return chosen[:size], chosen[size:], rejected[size:]


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Returns the length of the common prefix of two sequences. The last item of each is not compared."""
    pairs = zip(one[:-1], other[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _conversation(row: dict[str, Any], kinds: dict[str, str], where: str) -> tuple[str | None, str, str, str]:
    """Returns (system, prompt, chosen, rejected) of a row with messages."""
    chosen, rejected = _messages(row, "chosen", where), _messages(row, "rejected", where)
    if kinds.get("prompt") == CONVERSATION:
        prompt = _messages(row, "prompt", where)
    else:
        size = _common(chosen, rejected)
        prompt, chosen, rejected = chosen[:size], chosen[size:], rejected[size:]
    system = prompt[0][1] if prompt and prompt[0][0] == "system" else None
    turns = prompt[1:] if system is not None else prompt
    if [role for role, _ in turns] != ["user"]:
        raise Unusable("a prompt of other turns than one user's", where, f"it has {_roles(turns)}")
    for key, messages in (("chosen", chosen), ("rejected", rejected)):
        if [role for role, _ in messages] != ["assistant"]:
            raise Unusable("a completion of other turns than one assistant's", where, f"'{key}' has {_roles(messages)}")
    if kinds.get("prompt") == TEXT and row["prompt"] != turns[0][1]:
        raise DataError(f"{where}: 'prompt' is a text, and not that of the user's turn in 'chosen' and 'rejected'")
    return system, turns[0][1], chosen[0][1], rejected[0][1]


def _roles(messages: Messages) -> str:
    return ", ".join(role for role, _ in messages) or "none"


def _messages(row: dict[str, Any], key: str, where: str) -> Messages:
    for position, message in enumerate(row[key]):
        if isinstance(message, dict) and message.get("tool_calls"):  # content may be missing or incomplete
            raise Unusable("a message that calls tools", where, f"{key}[{position}] has 'tool_calls'")
    return require_messages(row, key, where)


def _unread(row: dict[str, Any]) -> frozenset[str]:
    """Returns the keys of a row's messages, except role and content.

    Empty values do not count: tables fill missing keys with them.
    """
    columns = [row[key] for key in ("prompt", "chosen", "rejected") if isinstance(row.get(key), list)]
    found = {
        key for messages in columns for message in messages for key, value in message.items() if value not in _NOTHING
    }
    return frozenset(found - {"role", "content"})


def _scores(row: dict[str, Any], where: str) -> tuple[float, float] | None:
    """Returns both scores of a row, or None if the row has neither."""
    if not any(key in row for key in SCORE_COLUMNS):
        return None
    better, worse = (require(row, key, (int, float), where) for key in SCORE_COLUMNS)
    for key, score in zip(SCORE_COLUMNS, (better, worse), strict=True):
        if not abs(score) <= sys.float_info.max:  # NaN compares false
            raise DataError(f"{where}: '{key}' must be finite, got {score}")
    return float(better), float(worse)
