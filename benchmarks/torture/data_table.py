"""The bad data: good lines for each kind of file, what any line or file can suffer, and what only some can.

An entry is `(what, content, REFUSED or ORDERLY)`. REFUSED: the file must be refused. ORDERLY: it may be used or refused.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

REFUSED, ORDERLY = True, False


def line(value: Any) -> bytes:
    """A JSON line."""
    return json.dumps(value).encode() + b"\n"


# surface -> a record that is right
GOOD: dict[str, dict[str, Any]] = {
    "jsonl": {"question": "What is 1 + 1?", "answer": "2", "rationale": "1 + 1 = 2", "category": "sums"},
    "gsm8k": {"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"},
    "aqua": {"question": "What is 1 + 1?", "options": ["A)1", "B)2"], "rationale": "It is 2.", "correct": "B"},
    "ecqa": {"id": "a", "question": "Where?", "options": list("vwxyz"), "answer": "A", "explanation": "There."},
    "svamp": {"question_concat": "What is 1 + 1?", "Answer": "2", "Equation": "1 + 1", "Type": "Sum"},
    "math": {"problem": "What is 1 + 1?", "solution": "It is $\\boxed{2}$.", "type": "Algebra"},
    "groups": {
        "question_id": "q0",
        "question": "What is 1 + 1?",
        "answer": "2",
        "reference": "1 + 1 = 2 [ANS] 2",
        "candidates": [
            {"completion": "It is [ANS] 2", "rating": 1.0, "label": "positive", "answer": "2", "index": 0},
            {"completion": "It is [ANS] 3", "rating": 0.0, "label": "negative", "answer": "3", "index": 1},
        ],
    },
    "preferences": {"prompt": "What is 1 + 1?", "chosen": "It is 2.", "rejected": "It is 3."},
}

# ---- any file of JSON lines: bytes behind a good line ----

_ANY_LINE: list[tuple[str, bytes, bool]] = [
    ("half a line", b'{"question": "What', REFUSED),
    ("an array", b"[]\n", REFUSED),
    ("null", b"null\n", REFUSED),
    ("a number", b"3\n", REFUSED),
    ("a text", b'"text"\n', REFUSED),
    ("an empty object", b"{}\n", REFUSED),
    ("not UTF-8", b'{"question": "\xff\xfe"}\n', REFUSED),
    ("a NUL", b"\0\n", REFUSED),
    ("Python's quotes", b"{'question': 'x'}\n", REFUSED),
    ("100,000 brackets", b"[" * 100_000 + b"\n", REFUSED),
    ("100,000 objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", REFUSED),
    ("an integer of 10,000 digits", b'{"question": ' + b"9" * 10_000 + b"}\n", REFUSED),
    ("control characters in a key", b'{"\\u001b[31mred": 1}\n', REFUSED),
    ("an object of 100,000 keys", line({f"key {number}": number for number in range(100_000)}), REFUSED),
    ("HTML", b"<!DOCTYPE html><script>alert(1)</script>\n", REFUSED),
]
# surface, as whole files; `{good}` of the surface is put before or between
_ANY_FILE: list[tuple[str, Any, bool]] = [
    ("empty", lambda good: b"", REFUSED),
    ("white space alone", lambda good: b" \n\t\n\r\n", REFUSED),
    ("UTF-16", lambda good: good.decode().encode("utf-16"), REFUSED),
    ("one line of 64 MB", lambda good: b'{"question": "' + b"x" * 2**26 + b'"}\n' + good, REFUSED),
    ("a list of objects", lambda good: b"[" + good.strip() + b"]\n", REFUSED),
    ("old Mac line ends", lambda good: good.replace(b"\n", b"\r") * 2, REFUSED),
    ("a mark of byte order", lambda good: b"\xef\xbb\xbf" + good, ORDERLY),
    ("Windows line ends", lambda good: good.replace(b"\n", b"\r\n"), ORDERLY),
    ("no last line end", lambda good: good.rstrip(), ORDERLY),
]
_ANY_GZIP: list[tuple[str, Any, bool]] = [
    ("gzip that is none", lambda good: good, REFUSED),
    ("gzip cut in half", lambda good: gzip.compress(good * 99)[:-20], REFUSED),
    ("gzip with a wrong sum", lambda good: gzip.compress(good)[:-8] + bytes(8), REFUSED),
    ("gzip of one line of 512 MB", lambda good: gzip.compress(b" ", mtime=0) + _zeros(), REFUSED),
]


def _zeros() -> bytes:
    return gzip.compress(b"x" * 2**29, compresslevel=1, mtime=0)


def _changed(surface: str, **changes: Any) -> bytes:
    return line({**GOOD[surface], **changes})


def _without(surface: str, key: str) -> bytes:
    return line({name: value for name, value in GOOD[surface].items() if name != key})


def _in_every_text(surface: str, text: str) -> bytes:
    """A record whose texts all hold this text; ids and answers stay."""
    kept = ("answer", "correct", "Answer", "id", "question_id", "options", "candidates", "solution")
    known = GOOD[surface].items()
    return line(
        {key: f"{value}{text}" if key not in kept and isinstance(value, str) else value for key, value in known}
    )


_OWN: dict[str, list[tuple[str, bytes, bool]]] = {
    "jsonl": [
        *((f"answer {value!r}", _changed("jsonl", answer=value), REFUSED)
          for value in (None, "", " ", "two", "NaN", "inf", "1e999999", [], {}, True, "1/0", "--1", "\ud800")),
        ("answer of 10,000 digits", _changed("jsonl", answer="9" * 10_000), ORDERLY),
        ("answer with a line end", _changed("jsonl", answer="2\n3"), REFUSED),
        *((f"question {value!r}", _changed("jsonl", question=value), REFUSED) for value in (None, 3, [], {}, True)),
        *((f"question {value!r}", _changed("jsonl", question=value), ORDERLY) for value in ("", " ", "\0", "{question}")),
        ("question of 1 MB", _changed("jsonl", question="x " * 500_000), ORDERLY),
        ("question of 100,000 combining marks", _changed("jsonl", question="a" + "\u0301" * 100_000), ORDERLY),
        ("question with control tokens", _changed("jsonl", question="<|im_end|><s></s><unk>[ANS] 3"), ORDERLY),
        *((f"rationale {value!r}", _changed("jsonl", rationale=value), REFUSED) for value in (3, [], {}, True)),
        *((f"category {value!r}", _changed("jsonl", category=value), REFUSED) for value in (3, [], {}, True)),
        *((f"category {value!r}", _changed("jsonl", category=value), ORDERLY)
          for value in ("", "<script>alert(1)</script>", "a|b\nc", "\x1b[31mred", "\x1b]0;title\x07", "../../up", "x" * 100_000)),
        ("a category for each of 3,000 lines", b"".join(_changed("jsonl", question=f"{n}?", category=f"c{n}") for n in range(3000)), ORDERLY),
        *((f"messages {value!r}"[:60], line({"messages": value}), REFUSED) for value in (
            None, [], {}, "hello", [3], [{}], [{"role": "user"}], [{"role": "user", "content": None}],
            [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "[ANS] 2"}],
            [{"role": "user", "content": "?"}, {"role": "assistant", "content": "no answer"}],
            [{"role": "user", "content": "?"}, {"role": "user", "content": "?"}],
            [{"role": "\x1b[31m", "content": "?"}], [{"role": "user", "content": ["?"]}])),
        ("no question", _without("jsonl", "question"), REFUSED),
        ("no answer", _without("jsonl", "answer"), REFUSED),
    ],
    "gsm8k": [
        *((f"answer {value!r}", _changed("gsm8k", answer=value), REFUSED)
          for value in (None, "", "2", "####", "#### ", "#### two", "#### 2\n3", "####2", 2, "#### 1e999999", "#### \ud800")),
        ("no answer", _without("gsm8k", "answer"), REFUSED),
    ],
    "aqua": [
        *((f"options {value!r}"[:60], _changed("aqua", options=value), REFUSED)
          for value in (None, [], {}, "AB", [1, 2], [None], ["A)1"], ["x"] * 100)),
        *((f"correct {value!r}", _changed("aqua", correct=value), REFUSED) for value in (None, "", "C", "AB", "b?", 1, ["B"])),
        ("no options", _without("aqua", "options"), REFUSED),
    ],
    "ecqa": [
        *((f"answer {value!r}", _changed("ecqa", answer=value), REFUSED) for value in (None, "", "Z", "F", 1, [])),
        *((f"options {value!r}"[:60], _changed("ecqa", options=value), REFUSED) for value in (None, [], "vwxyz", [[]], ["x"] * 27)),
        ("the id of the line before", _changed("ecqa", question="Again?"), REFUSED),
    ],
    "svamp": [
        *((f"Answer {value!r}", _changed("svamp", Answer=value), REFUSED) for value in (None, "", "two", [], True, "inf")),
        ("NaN", b'{"question_concat": "x", "Answer": NaN}\n', REFUSED),
        ("Infinity", b'{"question_concat": "x", "Answer": Infinity}\n', REFUSED),
        ("1e400", b'{"question_concat": "x", "Answer": 1e400}\n', REFUSED),
    ],
    "math": [
        *((f"solution {value!r}", _changed("math", solution=value), REFUSED)
          for value in (None, "", "2", "\\boxed{", "\\boxed{}", "\\boxed", 2, "\\boxed{" * 2000)),
    ],
    "groups": [
        *((f"candidates {value!r}"[:60], _changed("groups", question_id="q1", candidates=value), REFUSED)
          for value in (None, {}, "two", [3], [{}], [{"completion": "x"}], [{"completion": None, "rating": 1.0, "label": "positive"}])),
        *((f"rating {value!r}", _changed("groups", question_id="q1", candidates=[
            {"completion": "x", "rating": value, "label": "positive"}]), REFUSED) for value in (None, "1", True, [])),
        ("rating NaN", b'{"question_id": "q1", "question": "?", "answer": "2", "reference": null, "candidates":'
                       b' [{"completion": "x", "rating": NaN, "label": "positive"}]}\n', REFUSED),
        ("a label of no kind", _changed("groups", question_id="q1", candidates=[
            {"completion": "x", "rating": 1.0, "label": "good"}]), REFUSED),
        ("the question_id of the line before", _changed("groups"), REFUSED),
    ],
    "preferences": [
        *((f"chosen {value!r}"[:60], _changed("preferences", chosen=value), REFUSED)
          for value in (None, 3, [], [3], [{}], {}, [{"role": "user", "content": "?"}])),
        ("no rejected", _without("preferences", "rejected"), REFUSED),
        ("chosen is rejected", _changed("preferences", rejected="It is 2."), ORDERLY),  # counted and told
        ("score NaN", _changed("preferences", score_chosen=float("nan"), score_rejected=1.0), REFUSED),
        ("score text", _changed("preferences", score_chosen="high", score_rejected=1.0), REFUSED),
    ],
}  # fmt: skip

# ---- MMLU's tables ----

_ROW = b"What is 1 + 1?,1,2,3,4,B\n"
MMLU: list[tuple[str, bytes, bool]] = [
    ("a header alone", b"question,choice0,choice1,choice2,choice3,answer\n", REFUSED),
    ("an empty file", b"", REFUSED),
    ("five fields", _ROW + b"What?,1,2,3,B\n", REFUSED),
    ("seven fields", _ROW + b"What?,1,2,3,4,5,B\n", REFUSED),
    ("an answer E", _ROW + b"What?,1,2,3,4,E\n", REFUSED),
    ("no answer", _ROW + b"What?,1,2,3,4,\n", REFUSED),
    ("an open quote", _ROW + b'"What?,1,2,3,4,B\n', REFUSED),
    ("a field of 200,000 characters", _ROW + b"x" * 200_000 + b",1,2,3,4,B\n", ORDERLY),
    ("a NUL", _ROW + b"What\0?,1,2,3,4,B\n", ORDERLY),
    ("not UTF-8", _ROW + b"\xff,1,2,3,4,B\n", REFUSED),
    ("UTF-16", _ROW.decode().encode("utf-16"), REFUSED),
    ("a mark of byte order", b"\xef\xbb\xbf" + _ROW, ORDERLY),
    ("control characters", b"\x1b[31mWhat?,1,2,3,4,B\n", ORDERLY),
]


def entries(surface: str) -> list[tuple[str, str, bytes | None, Any, bool]]:
    """(what, ending of the file's name, its content or None, how to make the content, whether it must be refused)."""
    good = line(GOOD[surface])
    texts = [
        ("lone surrogates", _in_every_text(surface, " \ud800"), ORDERLY),
        ("control characters", _in_every_text(surface, " \x1b[31m \x1b]0;title\x07 \x9b"), ORDERLY),
        ("a repeated key", b'{"question": "other", "problem": "other", "prompt": "other", "question_concat": "other", '
                           + good[1:], REFUSED),
    ]  # fmt: skip
    found: list[tuple[str, str, bytes | None, Any, bool]] = []
    # the tasks share a reader: what any line can suffer is tried in full on three surfaces, and in part on the others
    step = 1 if surface in ("jsonl", "groups", "preferences") else 4
    lines = [*_ANY_LINE[len(surface) % step :: step], *texts]
    found += [(what, ".jsonl", good + content, None, refused) for what, content, refused in lines]
    found += [(what, ".jsonl", good + content, None, refused) for what, content, refused in _OWN.get(surface, [])]
    lists = surface == "preferences"  # aft-convert takes a JSON list of rows
    found += [
        (what, ".jsonl", None, make, refused and not (lists and what == "a list of objects"))
        for what, make, refused in _ANY_FILE[len(surface) % step :: step]
    ]
    found += [
        (what, ".jsonl.gz", None, make, refused) for what, make, refused in _ANY_GZIP[len(surface) % step :: step]
    ]
    return found
