"""The reader of text files: bounded lines, regular files, the mark at the beginning, files that change."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aft import text_files
from aft.errors import DataError
from aft.json_files import cut_line, iter_json_lines, read_json, write_json_lines
from aft.text_files import LONGEST_LINE, TooLarge, iter_lines, read_text
from limits import HUNG_AFTER


def problem(read) -> str:
    with pytest.raises(DataError) as error:
        list(read())
    return str(error.value)


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_mark_at_the_beginning_is_taken_off(tmp_path, name):
    data = b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n'
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(iter_json_lines(tmp_path / name)) == [(1, {"a": 1}), (2, {"a": 2})]
    (tmp_path / "x.json").write_bytes(data[:11])
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_line_that_is_too_long_is_named(tmp_path, name, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 2**20)
    path = tmp_path / name
    data = b"1\n" + b" " * (2**20 + 1)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert problem(lambda: iter_lines(path)) == f"{path}:2: the line is longer than 1 MB"
    data = b"1\n" + b"x" * (2**20 - 1) + b"\n3\n"
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert [number for number, _ in iter_lines(path)] == [1, 2, 3]


def test_the_longest_line_that_a_run_writes_can_be_read(tmp_path):
    """A group of as many candidates as are sampled, each of as many tokens as are generated."""
    path = tmp_path / "groups.jsonl"
    groups = [{"candidates": [{"text": "x" * 40_000, "token_ids": [100_000] * 12_288}] * 128}, {"candidates": []}]
    write_json_lines(path, reversed(groups))
    assert path.stat().st_size > 2**24
    assert [group for _, group in iter_json_lines(path)] == groups[::-1]
    assert cut_line(path) is None
    os.truncate(path, path.stat().st_size - 10)
    assert cut_line(path) == 2


@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
def test_a_file_that_is_too_large_as_a_whole_is_told(tmp_path, name):
    data = b"x" * (3 * 2**20)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert len(read_text(tmp_path / name, len(data))) == len(data)
    with pytest.raises(TooLarge, match=r"^larger than 2 MB$"):
        read_text(tmp_path / name, 2**21)
    assert str(TooLarge(text_files.LARGEST_FILE)) == "larger than 2 GB"


READ = """\
import re, sys
from aft.errors import DataError
from aft.json_files import iter_json_lines
try:
    list(iter_json_lines(sys.argv[1]))
except DataError as error:
    status = open("/proc/self/status").read()  # a child's ru_maxrss begins with its parent's
    print(error, int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024, sep="\\n")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_line_of_two_gigabytes_takes_the_memory_of_the_longest_allowed(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    block = gzip.compress(b"x" * 2**24)
    with path.open("wb") as handle:
        for _ in range(128):  # members of one file
            handle.write(block)
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=HUNG_AFTER, check=True
    )
    said, memory = ran.stdout.splitlines()
    assert said == f"{path}:1: the line is longer than 256 MB"
    assert int(memory) < 4 * LONGEST_LINE


def test_what_is_no_regular_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    regular = "cannot be read: it is a pipe or a device, not a regular file"
    assert problem(lambda: iter_lines(tmp_path / "pipe.jsonl")) == f"{tmp_path}/pipe.jsonl: {regular}"
    assert problem(lambda: iter_lines("/dev/zero")) == f"/dev/zero: {regular}"
    assert problem(lambda: iter_lines(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"
    assert problem(lambda: iter_lines(tmp_path / ("x" * 300))).endswith(": cannot be read: File name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text("{}")
    (tmp_path / "x.jsonl").chmod(0)
    assert problem(lambda: iter_lines(tmp_path / "x.jsonl")).endswith("x.jsonl: cannot be read: Permission denied")


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("1\n2\n")

    def read():
        for number, text in iter_lines(path):
            if number == 1:
                with path.open("a") as handle:
                    handle.write("3\n")
            yield text

    assert problem(read) == f"{path}: changed while it was read"


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-16")
    assert problem(lambda: iter_lines(path)).startswith(f"{path}:1: UTF-16 text, not UTF-8")
