"""The one dialect of YAML: what is written is read back as it was, by the configuration and by the report."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from aft.errors import ConfigError
from aft.yaml_files import Ambiguous, parse_yaml, read_yaml, yaml_line, yaml_text

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


AMBIGUOUS = [
    ("010", "is 8 in YAML 1.1, in base 8, and 10 in YAML 1.2; write 10 or 8, or '010' in quotes"),
    ("-017", "is -15 in YAML 1.1, in base 8, and -17 in YAML 1.2; write -17 or -15, or '-017' in quotes"),
    ("09", "is text in YAML 1.1 and 9 in YAML 1.2; write 9, or '09' in quotes"),
    ("0o10", "is 8 in YAML 1.2, in base 8, and text in YAML 1.1; write 8, or '0o10' in quotes"),
    ("1:30", "is 90 in YAML 1.1, in base 60, and text in YAML 1.2; write 90, or '1:30' in quotes"),
    ("-1:30:10", "is -5410 in YAML 1.1, in base 60, and text in YAML 1.2; write -5410, or '-1:30:10' in quotes"),
    ("no", "is false in YAML 1.1 and text in YAML 1.2; write false, or 'no' in quotes"),
    ("On", "is true in YAML 1.1 and text in YAML 1.2; write true, or 'On' in quotes"),
]


@pytest.mark.parametrize(("text", "meant"), AMBIGUOUS)
def test_a_scalar_of_two_readings_is_ambiguous(text, meant):
    found = parse_yaml(text)
    assert isinstance(found, Ambiguous) and found == text
    assert found.describe() == f"'{text}' {meant}"
    assert found.describe(may_be_text=False) == f"'{text}' {meant.partition(', or')[0]}"
    quoted = parse_yaml(yaml_line(text))
    assert quoted == text and type(quoted) is str


PLAIN = {"1_000": 1000, "0x1F": 31, "0b11": 3, "00": 0, "+5": 5, "1_": "1_", "=": "=", "y": "y", "12:99": "12:99"}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_other_scalars_are_read_as_meant(text, value):
    assert parse_yaml(text) == value


def test_aliases_become_separate_values():
    found = parse_yaml("a: &x {k: [1]}\nb: *x\nc: {<<: *x, l: 2}\n")
    assert found == {"a": {"k": [1]}, "b": {"k": [1]}, "c": {"k": [1], "l": 2}}
    assert found["a"] is not found["b"] and found["a"]["k"] is not found["c"]["k"]


BOMB = "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)
MANY = "more than 10,000 keys and values, aliases counted as often as they are used"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + BOMB, f"5:8: not valid YAML: {MANY}"),
        ("a: &a {x: 1}\nb: {<<: [" + "*a, " * 9000 + "]}", f"2:13330: not valid YAML: {MANY}"),
        ("a: [" + "x, " * 20_000 + "]", f"1:29996: not valid YAML: {MANY}"),
        ("[" * 100_000, "1:33: not valid YAML: nested more than 32 levels deep"),
        ('a: "\\ud83d"', "1:4: not valid YAML: half of a surrogate pair, which is no character"),
        ("a: " + "9" * 2000, "1:4: not valid YAML: a whole number of more than 1000 digits"),
        ("a: 0x" + "f" * 5000, "1:4: not valid YAML: a whole number of more than 1000 digits"),
        ("a: 1\nb: 2\na: 3", "3:1: not valid YAML: key 'a' appears twice, first in line 1"),
    ],
    ids=["bomb", "merged", "many", "deep", "half", "digits", "hexadecimal", "twice"],
)
def test_a_text_beyond_the_limits_is_named_at_once(text, problem):
    before = time.monotonic()
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "run.yaml")
    assert str(error.value) == f"run.yaml:{problem}"
    assert time.monotonic() - before < 10


@pytest.mark.parametrize(
    "text", ["!!bool maybe", "!!int ''", "!!timestamp x", "!!map x", "!ambiguous foo", "!!float x"]
)
def test_a_tag_on_another_kind_of_value_is_an_error(text):
    with pytest.raises(ConfigError, match=r"^run\.yaml: not valid YAML: "):
        parse_yaml(text, "run.yaml")


def test_a_file_is_read_without_its_mark(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "run.yaml") == {"a": 1}


def test_a_file_is_a_regular_file_of_bounded_size(tmp_path):
    (tmp_path / "large.yaml").write_text("# x\n" * 300_000)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    regular = "cannot be read: it is a pipe or a device, not a regular file"
    problems = {
        tmp_path / "large.yaml": "larger than 1 MB",
        tmp_path / "pipe.yaml": regular,
        Path("/dev/zero"): regular,
        tmp_path: "cannot be read: Is a directory",
        tmp_path / "loop.yaml": "cannot be read: Too many levels of symbolic links",
        tmp_path / ("x" * 300): "cannot be read: File name too long",
    }
    for path, problem in problems.items():
        with pytest.raises(ConfigError) as error:
            read_yaml(path)
        assert str(error.value) == f"{path}: {problem}"
