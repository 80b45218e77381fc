from __future__ import annotations

import datetime
import re

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aft.errors import ConfigError
from aft.prompts import chat_messages, check_template_kwargs, render_prompt, with_clock

TEMPLATE = "Question: {question}\nAnswer:\n"


def test_the_question_stands_where_the_template_says():
    assert render_prompt("What is 2 + 2?", TEMPLATE) == "Question: What is 2 + 2?\nAnswer:\n"


@pytest.mark.parametrize("question", ["a {set} of {0}", "{question}", "{", "100 % \\1 \\g<0> $x", "", "two\nlines "])
def test_a_question_is_put_in_literally(question):
    assert render_prompt(question, TEMPLATE) == "Question: " + question + "\nAnswer:\n"


def test_other_braces_of_the_template_are_left_alone():
    assert render_prompt("Why?", '{"q": "{question}", {x}} {{') == '{"q": "Why?", {x}} {{'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Q: {qestion}", "the prompt template has no {question}: got 'Q: {qestion}', it has {qestion} instead"),
        ("Q:", "the prompt template has no {question}: got 'Q:', the question would not be in the prompt"),
    ],
)
def test_a_template_without_the_question_is_an_error(template, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        render_prompt("Why?", template)


def test_chat_messages():
    user = {"role": "user", "content": "Question: Why?\nAnswer:\n"}
    assert chat_messages("Why?", TEMPLATE) == [user]
    assert chat_messages("Why?", TEMPLATE, system="Be brief.") == [{"role": "system", "content": "Be brief."}, user]


@pytest.mark.parametrize("form", ["%d %b %Y", "%-d. %B", "%%d %%%m", "%A, %H:%M", "day %j", "no directive", "100%"])
@pytest.mark.parametrize("line", ["", "\n", "\n\n", " "])
def test_the_clock_of_a_chat_template_stands_at_midnight_of_the_day(form, line):
    template = with_clock(line + "{% macro m() %}{{ strftime_now(f) }}{% endmacro %}{{ m() }}|", "2026-02-03")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    expected = environment.from_string(line + "{% if f %}{% endif %}").render(f=form)
    shown = environment.from_string(template).render(f=form)
    assert shown == f"{expected}{datetime.datetime(2026, 2, 3).strftime(form)}|"


def test_a_variable_that_a_chat_template_lacks_is_an_error():
    template = "{% if enable_thinking is defined %}think{% endif %}{{ messages[0].content }}"
    check_template_kwargs(["enable_thinking"], template)
    with pytest.raises(ConfigError) as caught:
        check_template_kwargs(["enable_thnkng", "enable"], template)
    assert caught.value.problems == [
        "prompt.template_kwargs.enable_thnkng: the chat template has no such variable. Did you mean 'enable_thinking'?",
        "prompt.template_kwargs.enable: the chat template has no such variable.",
    ]
