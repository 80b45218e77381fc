"""The prompt of a question, as text or as chat messages. Applying a chat template needs a tokenizer: not done here."""

from __future__ import annotations

import re

from .errors import ConfigError

PLACEHOLDER = "{question}"


def render_prompt(question_text: str, template: str) -> str:
    """`template` with `{question}` replaced by the question. Other braces in either text stay as they are."""
    if PLACEHOLDER not in template:
        fields = re.findall(r"\{[^{}]*\}", template)
        found = f"it has {', '.join(fields)} instead" if fields else "the question would not be in the prompt"
        raise ConfigError(f"the prompt template has no {PLACEHOLDER}: got {template!r}, {found}")
    return template.replace(PLACEHOLDER, question_text)


def chat_messages(question_text: str, template: str, system: str | None = None) -> list[dict[str, str]]:
    """The rendered prompt as a user turn for a chat template, after a system turn if `system` is given."""
    messages = [{"role": "user", "content": render_prompt(question_text, template)}]
    return [{"role": "system", "content": system}, *messages] if system else messages
