"""The reader of a run's JSON files: None where there is none, and one error with the file, the fault and the way on."""

from __future__ import annotations

import pytest

from aft.errors import DataError
from aft.json_files import json_object, read_json, write_json


def test_an_object_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None], "text": "λ"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_an_absent_file_is_none(tmp_path):
    assert read_json(tmp_path / "gone.json") is None
    assert read_json(tmp_path / "gone" / "x.json") is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "cannot be read as JSON: Expecting value"),
        (b'{"a": ', "cannot be read as JSON: Expecting value"),
        (b'{"a": "\xff"}', "cannot be read as JSON: not UTF-8 text: .* at byte 8"),
        (b"[" * 100_000, "cannot be read as JSON: maximum recursion"),
        (b'{"a": 1, "a": 2}', "cannot be read as JSON: the key 'a' appears twice"),
        (b"[1]", "expected a JSON object, got list"),
        (b"null", "expected a JSON object, got NoneType"),
    ],
)
def test_anything_else_names_file_fault_and_way_on(tmp_path, content, fault):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: {fault}.*Delete it, and the command that wrote it makes it again"):
        read_json(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' appears twice"),
        (' {"x": [{"a": 1}, {"b": 1, "b": 2}]} ', "the key 'b' appears twice"),
        ('{"a" : 1, "\\u0061":2}', "the key 'a' appears twice"),
        ('{"a": "\\ud83d"}', "'a' holds half of a surrogate pair, which is no character"),
        ('{"m": [{"content": "x \\uDC00"}]}', "'content' holds half of a surrogate pair, which is no character"),
        ('{"\\ud83d": 1}', "a key holds half of a surrogate pair, which is no character"),
    ],
)
def test_what_json_allows_and_no_record_is_refused(line, fault):
    with pytest.raises(DataError) as error:
        json_object(line, "x.jsonl:3")
    assert str(error.value) == f"x.jsonl:3: cannot be read as JSON: {fault}"


def test_pairs_of_surrogates_and_equal_keys_of_other_objects_are_read():
    assert json_object(' {"a": "\\ud83d\\ude00 \\\\ud83d", "b": {"a": ["\\u00e9"]}} ', "x") == {
        "a": "\U0001f600 \\ud83d",
        "b": {"a": ["é"]},
    }
