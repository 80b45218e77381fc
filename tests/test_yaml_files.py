"""The one dialect of YAML: what is written is read back as it was, by the configuration and by the report."""

from __future__ import annotations

import math

import pytest

from aft.errors import ConfigError
from aft.yaml_files import parse_yaml, read_yaml, yaml_line, yaml_text

VALUES = ["2026-11-29", "1e5", "2e-5", "0x1F", "on", "null", "", "a: b", "{question}", "λ", 1e5, 2e-5, 3, True, None]


@pytest.mark.parametrize("value", [*VALUES, math.inf, {"a": {"b": VALUES}}, {"1e5": {}, "2026-11-29": None}], ids=repr)
def test_a_value_comes_back_as_it_was(value):
    for text in (yaml_text({"key": value}), yaml_line({"key": value})):
        found = parse_yaml(text)["key"]
        assert (found, type(found)) == (value, type(value))
    assert "\n" not in yaml_line(value) and parse_yaml(yaml_line(value)) == value


def test_a_mapping_that_occurs_twice_is_written_twice():
    shared = {"a": 1}
    assert yaml_line({"x": shared, "y": shared}) == "{x: {a: 1}, y: {a: 1}}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", r":1:5: not valid YAML"),
        ("a: 1\na: 2", r":2:1: not valid YAML: key 'a' appears twice"),
        ("a: &x [*x]", r":1:4: not valid YAML"),
        ("- a", r": expected a mapping of keys, got list"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, problem):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}{problem}"):
        read_yaml(path)
