"""The text that a model is given for a question. Applying a chat template takes a tokenizer, and is done elsewhere."""

from __future__ import annotations

import re

from .errors import ConfigError

PLACEHOLDER = "{question}"


def render_prompt(question_text: str, template: str) -> str:
    """`template` with `{question}` replaced by the question; any other brace, in either text, is left as it is."""
    if PLACEHOLDER not in template:
        fields = re.findall(r"\{[^{}]*\}", template)
        found = f"it has {', '.join(fields)} instead" if fields else "the question would not be in the prompt"
        raise ConfigError(f"the prompt template has no {PLACEHOLDER}: got {template!r}, {found}")
    return template.replace(PLACEHOLDER, question_text)


def chat_messages(question_text: str, template: str, system: str | None = None) -> list[dict[str, str]]:
    """The rendered prompt as a user's turn, behind a system turn if `system` is given; for a chat template."""
    messages = [{"role": "user", "content": render_prompt(question_text, template)}]
    return [{"role": "system", "content": system}, *messages] if system else messages
