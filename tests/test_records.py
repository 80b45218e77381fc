"""The files that stages hand to each other: written and read back the same, and every broken line named."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.errors import DataError
from aft.json_files import iter_json_lines, json_line, write_json, write_json_lines
from aft.records import (
    LABELS,
    Candidate,
    Completion,
    Group,
    Prefix,
    Question,
    read_completions,
    read_groups,
    read_questions,
)

TEXT = st.text(max_size=30)
QUESTIONS = st.builds(Question, id=TEXT, question=TEXT, answer=TEXT, rationale=st.none() | TEXT)
COMPLETIONS = st.builds(
    Completion,
    question_id=TEXT,
    index=st.integers(0, 100),
    completion=TEXT,
    truncated=st.booleans(),
    num_tokens=st.integers(0, 512),
    seed=st.integers(0, 2**63),
)
CANDIDATES = st.builds(
    Candidate,
    completion=TEXT,
    rating=st.floats(allow_nan=False, allow_infinity=False),
    label=st.sampled_from(LABELS),
    answer=st.none() | TEXT,
    truncated=st.booleans(),
    index=st.none() | st.integers(0, 100),
)
GROUPS = st.builds(
    Group,
    question_id=TEXT,
    question=TEXT,
    answer=TEXT,
    reference=st.none() | TEXT,
    candidates=st.lists(CANDIDATES, max_size=4).map(tuple),
)


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(
        st.tuples(st.just(read_questions), st.lists(QUESTIONS, max_size=4, unique_by=lambda q: q.id)),
        st.tuples(
            st.just(read_completions), st.lists(COMPLETIONS, max_size=4, unique_by=lambda c: (c.question_id, c.index))
        ),
        st.tuples(st.just(read_groups), st.lists(GROUPS, max_size=4, unique_by=lambda g: g.question_id)),
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, read_and_records):
    read, records = read_and_records
    path = tmp_path_factory.mktemp("records") / "new" / "folder" / "records.jsonl"
    write_json_lines(path, records)
    assert read(path) == records
    assert path.read_bytes().count(b"\n") == len(records)
    assert [file.name for file in path.parent.iterdir()] == ["records.jsonl"]  # no temporary file stays


@pytest.mark.parametrize("text", ["\u2028\u2029\x85\r\x0b", "é ½ 漢", '"\\', "\x00"], ids=ascii)
def test_unusual_text_survives(tmp_path, text):
    write_json_lines(tmp_path / "q.jsonl", [Question("1", text, "2")])
    assert read_questions(tmp_path / "q.jsonl") == [Question("1", text, "2")]


@pytest.mark.parametrize("name", ["question", "answer", "rationale"])
def test_half_of_a_surrogate_pair_is_named(tmp_path, name):
    path = tmp_path / "q.jsonl"
    write_json_lines(path, [Question("1", "q", "2"), dataclasses.replace(Question("2", "q", "2"), **{name: "\ud83d"})])
    with pytest.raises(DataError) as error:
        read_questions(path)
    assert str(error.value) == (
        f"{path}:2: cannot be read as JSON: '{name}' holds half of a surrogate pair, which is no character"
    )


def test_text_is_readable_in_the_file():
    assert json_line({"question": "½ of 漢"}) == '{"question": "½ of 漢"}\n'


def test_a_compressed_file_reads_the_same(tmp_path):
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(json_line(Question("1", "Why?", "2")).encode()))
    assert read_questions(path) == [Question("1", "Why?", "2")]


def test_a_file_can_be_written_compressed(tmp_path):
    questions = [Question("1", "½?", "2")]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_json_lines(tmp_path / name, questions)
    assert read_questions(tmp_path / "a.jsonl.gz") == questions
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()  # neither name nor time


def test_half_a_surrogate_pair_in_indented_json(tmp_path):
    write_json(tmp_path / "x.json", {"a": "\ud800", "b": "½"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": "\ud800", "b": "½"}


def test_blank_lines_are_passed_over_and_still_numbered(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"a": 1}\n  \n{"a": 2}')
    assert list(iter_json_lines(path)) == [(2, {"a": 1}), (4, {"a": 2})]


MASKED = Completion("1", 0, "c", False, 2, 0, (4, 5, 6), (0, 1, 1), Prefix(3, 1))


def test_masks_and_beginnings_are_read_back_and_left_out_where_there_are_none(tmp_path):
    path = tmp_path / "x.jsonl"
    plain = dataclasses.replace(MASKED, index=1, response_mask=None, prefix=None)
    write_json_lines(path, [MASKED, plain])
    assert read_completions(path) == [MASKED, plain]
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first["response_mask"] == [0, 1, 1] and first["prefix"] == {"chain": 3, "tokens": 1}
    assert not {"response_mask", "prefix"} & second.keys(), "files without them are as before"
    candidate = Candidate("c", 0.0, "negative", None, False, 0, (4, 5, 6), (0, 1, 1), Prefix(3, 1))
    group = Group("1", "q", "a", None, (candidate, dataclasses.replace(candidate, response_mask=None, prefix=None)))
    write_json_lines(path, [group])
    assert read_groups(path) == [group]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"response_mask": [0, 0, 0]}, "'response_mask' has no 1: at least one token must count"),
        ({"response_mask": [0, 1]}, "'response_mask' has 2 values for 3 token ids"),
        ({"response_mask": [0, 1, 2]}, "'response_mask' must hold 0 and 1 alone"),
        ({"response_mask": [0, 1, True]}, "'response_mask' must hold 0 and 1 alone"),
        ({"response_mask": "011"}, "'response_mask' must be list or null, got str"),
        ({"token_ids": None}, "'response_mask' has a value for each of the token ids, but 'token_ids' is absent"),
        ({"prefix": {"chain": 0, "tokens": 3}}, "'tokens' must be at least 1 and fewer than the 3 token ids, got 3"),
        ({"prefix": {"chain": 0}}, "prefix: missing 'tokens'"),
        ({"prefix": [0, 1]}, "'prefix' must be dict or null, got list"),
    ],
)
def test_a_wrong_mask_or_beginning_is_named(tmp_path, changes, message):
    path = tmp_path / "x.jsonl"
    tokens = {"token_ids": [4, 5, 6], "response_mask": [0, 1, 1], **changes}
    write_json_lines(path, [COMPLETION, {**COMPLETION, "index": 1, **tokens}])
    with pytest.raises(DataError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(message)):
        read_completions(path)
    write_json_lines(path, [{**GROUP, "candidates": [CANDIDATE, {**CANDIDATE, **tokens}]}])
    with pytest.raises(DataError, match=re.escape(f"{path}:1: candidates[1]: ") + ".*" + re.escape(message)):
        read_groups(path)


def test_fields_that_may_be_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "1", "question": "q", "answer": "a", "more": 1}')
    assert read_questions(path) == [Question("1", "q", "a", None)]
    path.write_text(
        '{"question_id": "1", "question": "q", "answer": "a",'
        ' "candidates": [{"completion": "c", "rating": 1, "label": "positive"}]}'
    )
    assert read_groups(path) == [Group("1", "q", "a", None, (Candidate("c", 1.0, "positive"),))]


COMPLETION = {"question_id": "1", "index": 0, "completion": "c", "truncated": False, "num_tokens": 3, "seed": 0}
CANDIDATE = {"completion": "c", "rating": 1.0, "label": "positive"}
GROUP = {"question_id": "1", "question": "q", "answer": "a", "candidates": [CANDIDATE]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "x.jsonl:2: not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"[1]", "x.jsonl:2: expected a JSON object, got list"),
        (b'{"a": "\xff"}', "x.jsonl:2: not UTF-8 text: invalid start byte at byte 8 of the line"),
        (b'{"a": ' + b"1" * 5000 + b"}", "x.jsonl:2: cannot be read as JSON: Exceeds the limit"),
        (b"[" * 200_000, "x.jsonl:2: cannot be read as JSON: "),
    ],
    ids=["cut off", "no object", "no UTF-8", "digits", "nesting"],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line, message):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line)
    with pytest.raises(DataError) as error:
        list(iter_json_lines(path))
    assert str(error.value).startswith(f"{tmp_path}/{message}")


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (read_questions, {"id": "1", "question": "q"}, "missing 'answer' (the line has 'id', 'question')"),
        (read_questions, {}, "missing 'id' (the line has no keys)"),
        (read_questions, {"id": 1, "question": "q", "answer": "a"}, "'id' must be str, got int"),
        (
            read_questions,
            {"id": "1", "question": "q", "answer": "a", "rationale": 3},
            "'rationale' must be str or null, got int",
        ),
        (read_completions, {**COMPLETION, "index": True}, "'index' must be int, got bool"),
        (read_completions, {**COMPLETION, "truncated": 0}, "'truncated' must be bool, got int"),
        (read_groups, {**GROUP, "candidates": {}}, "'candidates' must be list, got dict"),
        (read_groups, {**GROUP, "candidates": [CANDIDATE, "c"]}, "candidates[1]: expected a JSON object, got str"),
        (
            read_groups,
            {**GROUP, "candidates": [{**CANDIDATE, "rating": "1"}]},
            "candidates[0]: 'rating' must be int or float, got str",
        ),
        (
            read_groups,
            {**GROUP, "candidates": [{**CANDIDATE, "rating": float("nan")}]},
            "candidates[0]: 'rating' must be finite, got nan",
        ),
        (
            read_groups,
            {**GROUP, "candidates": [{**CANDIDATE, "rating": float("-inf")}]},
            "candidates[0]: 'rating' must be finite, got -inf",
        ),
        (
            read_groups,
            {**GROUP, "candidates": [{**CANDIDATE, "label": "postive"}]},
            "candidates[0]: 'label' must be one of positive, negative, unparsed, reference, got 'postive'."
            " Did you mean 'positive'?",
        ),
    ],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path, read, value, message):
    path = tmp_path / "x.jsonl"
    path.write_text("\n" + json.dumps(value))
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == f"{path}:2: {message}"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read: No such file or directory"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_questions(tmp_path)
    (tmp_path / "a.jsonl.gz").write_bytes(b"plain text")
    with pytest.raises(DataError, match="cannot be read: Not a gzipped file"):
        read_questions(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    with pytest.raises(DataError, match=r"b\.jsonl\.gz: damaged gzip file"):
        list(iter_json_lines(tmp_path / "b.jsonl.gz"))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_the_documented_examples_are_what_is_read_and_written(tmp_path):
    document = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    examples = re.findall(r"^### (\w+)\n.*?^```json\n(.*?\n)```", document, re.MULTILINE | re.DOTALL)
    readers = {"Question": read_questions, "Completion": read_completions, "Group": read_groups}
    assert [name for name, _ in examples] == list(readers)
    for name, line in examples:
        path = tmp_path / f"{name}.jsonl"
        path.write_text(line, encoding="utf-8")
        (record,) = readers[name](path)
        assert json_line(record) == line


def test_options_and_category_of_a_question(tmp_path):
    question = Question("q", "Which?\nOptions:\n(A) x\n(B) y", "B", None, ("x", "y"), "letters")
    path = tmp_path / "questions.jsonl"
    path.write_text(json_line(question), encoding="utf-8")
    assert read_questions(path) == [question]
    path.write_text(json_line({"id": "q", "question": "?", "answer": "A", "options": ["x", 1]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"questions\.jsonl:1: 'options\[1\]' must be str, got int"):
        read_questions(path)


@pytest.mark.parametrize(
    ("read", "line", "name"),
    [
        (read_questions, {"id": "1", "question": "q", "answer": "a"}, "question '1'"),
        (read_completions, COMPLETION, "completion 0 of question '1'"),
        (read_groups, GROUP, "question '1'"),
    ],
)
def test_what_appears_twice_is_named_with_both_lines(tmp_path, read, line, name):
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(line)}\n\n{json.dumps(line)}\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == f"{path}:3: {name} appears twice, first in line 1"
