"""Reads a line of chat messages as a question and a response: the user's turn, then the assistant's."""

from __future__ import annotations

from typing import Any

from ..errors import DataError
from ..json_files import require_messages

MESSAGES = "messages"


def read_exchange(row: dict[str, Any], where: str) -> tuple[str, str | None]:
    """Returns the user's text and the assistant's, or None where the line ends with the user.

    Consecutive turns of the user are one text, with an empty line between them. Raises `DataError` for other turns.
    """
    given = row[MESSAGES] if isinstance(row[MESSAGES], list) else []
    calls = [place for place, message in enumerate(given) if isinstance(message, dict) and message.get("tool_calls")]
    if calls:
        raise DataError(f"{where}: {MESSAGES}[{calls[0]}] calls tools; a response is text alone")
    turns = require_messages(row, MESSAGES, where)
    if turns[0][0] == "system":
        raise DataError(
            f"{where}: {MESSAGES}[0] is a system turn; take it out of the file and set prompt.system, which every"
            " question gets, with prompt.chat: true"
        )
    roles = [role for role, _ in turns]
    others = sorted({*roles} - {"system", "user", "assistant"})
    if others:
        raise DataError(
            f"{where}: '{MESSAGES}' has the role {', '.join(map(repr, others))}; allowed: 'user' and then 'assistant'"
        )
    response = turns.pop()[1] if roles[-1] == "assistant" else None
    if not turns or any(role != "user" for role, _ in turns):
        raise DataError(
            f"{where}: '{MESSAGES}' has the turns {', '.join(roles)}; expected the user's and then the assistant's."
            " Write earlier turns into the text of the user's turn, or make a line of each exchange"
        )
    return "\n\n".join(text for _, text in turns), response


def split_response(response: str, marker: str, where: str) -> tuple[str, str | None]:
    """Returns the chain and the text after the last `marker`; None where the response has no marker.

    Raises `DataError` if further lines follow the answer: they would be lost.
    """
    chain, found, answer = response.rpartition(marker)
    if not found:
        return response.strip(), None
    if "\n" in answer.strip():
        raise DataError(
            f"{where}: the assistant's turn goes on after the answer; the line after '{marker}' must end it"
        )
    return chain.strip(), answer.strip()
