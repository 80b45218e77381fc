"""The prompt of a question, as text or as chat messages. Applying a chat template needs a tokenizer: not done here."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable

from .errors import ConfigError, nearest

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


CLOCK = "strftime_now"
"""The function by which a chat template asks for the time."""


# What strftime replaces, and what glibc's writes without a leading zero.
_DIRECTIVES = [*(f"%-{letter}" for letter in "dejklmyHIMSUW"), *(f"%{letter}" for letter in "aAbBcCdDeFgGhHIjklmM")]
_DIRECTIVES += [f"%{letter}" for letter in "npPrRStTuUVwWxXyYzZ"]


@functools.lru_cache
def with_clock(chat_template: str, date: str) -> str:
    """The chat template with a `strftime_now` that shows midnight of `date` (YYYY-MM-DD).

    The function is written in the template's own language, because transformers gives a template no function of others.
    """
    midnight = datetime.datetime.fromisoformat(date)
    steps = "".join(
        f" | replace({json.dumps(directive)}, {json.dumps(midnight.strftime(directive))})" for directive in _DIRECTIVES
    )
    # `%%` is a sign, not the beginning of a directive
    shown = f'format | replace("%%", "\\0"){steps} | replace("\\0", "%")'
    # transformers drops the line's end behind a block: the template still begins a line
    return f"{{%- macro {CLOCK}(format) -%}}{{{{ {shown} }}}}{{%- endmacro %}}\n{chat_template}"


def check_template_kwargs(names: Iterable[str], chat_template: str) -> None:
    """Raise `ConfigError` for a name that the text of the chat template does not mention: it would change nothing."""
    mentioned = set(re.findall(r"[^\W\d]\w*", chat_template))
    problems = [
        f"prompt.template_kwargs.{name}: the chat template has no such variable.{nearest(name, mentioned)}"
        for name in names
        if name not in mentioned
    ]
    if problems:
        raise ConfigError(problems)
