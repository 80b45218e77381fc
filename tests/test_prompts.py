from __future__ import annotations

import re

import pytest

from aft.errors import ConfigError
from aft.prompts import chat_messages, render_prompt

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
