"""A line of chat messages as a question: which turns become what, and what a user is told to do about others."""

from __future__ import annotations

import json

import pytest

from aft.errors import DataError
from aft.tasks import make_task

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.fixture
def read(tmp_path):
    """`read(line, ...)` returns the task of one line and its question."""

    def make(line, **arguments):
        path = tmp_path / "mine.jsonl"
        path.write_text(json.dumps(line) + "\n", encoding="utf-8")
        task = make_task("jsonl", train=str(path), **arguments)
        [question] = task.records("train")
        return task, question

    return make


@pytest.mark.parametrize(
    ("line", "arguments", "expected", "response"),
    [
        ({"messages": [user("2+2?"), assistant("2+2=4\n[ANS] 4")]}, {}, ("2+2?", "4", "2+2=4"), "2+2=4\n[ANS] 4"),
        (
            {"messages": [user("2+2?"), assistant("It is 4.\n#### 4.")]},
            {"answer_marker": "####"},
            ("2+2?", "4", "It is 4."),
            "It is 4.\n#### 4",
        ),
        # a marker that is not there is written, with the line's own answer
        ({"messages": [user("2+2?"), assistant("2+2=4")], "answer": 4}, {}, ("2+2?", "4", "2+2=4"), "2+2=4\n[ANS] 4"),
        (
            {"messages": [user("Add."), user("2+2?"), assistant("2+2=4 [ANS] 4")], "answer": "4.0"},
            {},
            ("Add.\n\n2+2?", "4.0", "2+2=4"),
            "2+2=4\n[ANS] 4.0",
        ),
        ({"messages": [user("2+2?")], "answer": 4}, {}, ("2+2?", "4", None), None),
        ({"messages": [user("2+2?"), assistant("[ANS] 4")]}, {}, ("2+2?", "4", None), None),
        (
            {"messages": [user("2+2?"), assistant("So \\boxed{4}.")]},
            {"answer_type": "boxed"},
            ("2+2?", "4", "So \\boxed{4}."),
            "So \\boxed{4}.",
        ),
        (
            {"messages": [user("Which?"), assistant("This.\n[ANS] (B)")], "options": ["x", "y"]},
            {"answer_type": "choice"},
            ("Which?\nOptions:\n(A) x\n(B) y", "B", "This."),
            "This.\n[ANS] (B)",
        ),
        (
            {"messages": [user("Who?"), assistant("She.\n[ANS] Ada Lovelace")]},
            {"answer_type": "text"},
            ("Who?", "Ada Lovelace", "She."),
            "She.\n[ANS] Ada Lovelace",
        ),
        # a question of its own wins, as before
        ({"question": "1+1?", "answer": 2, "messages": "anything"}, {}, ("1+1?", "2", None), None),
    ],
)
def test_the_turns_become_question_rationale_and_answer(read, line, arguments, expected, response):
    task, question = read(line, **arguments)
    assert (question.question, question.answer, question.rationale) == expected
    if response is not None:
        assert task.reference_response(question) == response


ROLES = (
    "expected the user's and then the assistant's. Write earlier turns into the text of the user's turn, or make a line"
    " of each exchange"
)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            {"messages": [SYSTEM, user("2+2?"), assistant("[ANS] 4")]},
            "messages[0] is a system turn; take it out of the file and set prompt.system, which every question gets,"
            " with prompt.chat: true",
        ),
        (
            {"messages": [user("1?"), assistant("1"), user("2+2?"), assistant("[ANS] 4")]},
            f"'messages' has the turns user, assistant, user, assistant; {ROLES}",
        ),
        ({"messages": [assistant("[ANS] 4")]}, f"'messages' has the turns assistant; {ROLES}"),
        (
            {"messages": [user("2+2?"), assistant("2+2=4")]},
            "no 'answer', and the assistant's turn has no answer after '[ANS]' (data.answer_marker): no marker",
        ),
        (
            {"messages": [user("2+2?"), assistant("2+2=4\n[ANS] 4\nShall I go on?")]},
            "the assistant's turn goes on after the answer; the line after '[ANS]' must end it",
        ),
        (
            {"messages": [user("2+2?"), assistant("[ANS] 4")], "answer": 5},
            "'answer' is 5, but the assistant's turn ends with '4'",
        ),
        (
            {"messages": [user("2+2?"), assistant("[ANS] 4")], "rationale": "2+2=4"},
            "'rationale' and an assistant's turn; one of them is the rationale",
        ),
        (
            {"messages": [user("2+2?"), {"role": "assistant", "content": "", "tool_calls": [{}]}], "answer": 4},
            "messages[1] calls tools; a response is text alone",
        ),
        ({"messages": [user("2+2?")]}, "missing 'answer' (the line has 'messages', 'question')"),
        (
            {"messages": [user("2+2?"), {"role": "assistant", "content": None, "tool_calls": [{}]}], "answer": 4},
            "messages[1] calls tools; a response is text alone",
        ),
        (
            {"messages": [{"role": "human", "content": "2+2?"}], "answer": 4},
            "'messages' has the role 'human'; allowed: 'user' and then 'assistant'",
        ),
        (
            {"conversations": [{"from": "human", "value": "2+2?"}]},
            "missing 'question'; 'conversations' is another form of chat messages: write 'messages' with 'role' and"
            " 'content'",
        ),
        (
            {"prompt": "2+2?", "completion": "4"},
            "missing 'question'; set data.question_field: prompt, and data.rationale_field and data.answer_field"
            " likewise",
        ),
        ({"messages": []}, "'messages' has no message"),
        ({"messages": "2+2?"}, "'messages' must be list, got str"),
        ({"messages": ["2+2?"]}, "messages[0]: expected a message with 'role' and 'content', got str"),
        ({"messages": [{"role": "user"}]}, "messages[0]: missing 'content' (the line has 'role')"),
    ],
)
def test_other_lines_are_errors_that_say_what_to_do(read, line, problem):
    with pytest.raises(DataError) as caught:
        read(line)
    assert str(caught.value).partition("mine.jsonl:1: ")[2].startswith(f"{problem}. data.skip_unreadable: true leaves")
