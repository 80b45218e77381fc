"""The reader of a run's JSON files: None where there is none, and one error with the file, the fault and the way on.

The writers: whole files or none, on the disk when they return, and one error where the disk fails.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import time

import pytest

from aft.errors import DataError, DiskError
from aft.json_files import (
    LineWriter,
    iter_json_lines,
    json_object,
    read_json,
    remove_leftovers,
    temporary_path,
    write_json,
    write_json_lines,
    write_text,
)


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


# ---- writing ----


class Full:
    """`os.fsync` and file writes of a disk that is full after some bytes."""

    def __init__(self, number: int = errno.ENOSPC) -> None:
        self.number = number

    def __call__(self, *_: object) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_a_file_is_flushed_before_its_rename_and_its_folder_after(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("rename") or real_replace(*paths))
    for write in (lambda path: write_text(path, "a"), lambda path: write_json_lines(path, [{"a": 1}])):
        calls.clear()
        write(tmp_path / "x.jsonl")
        assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, name, number):
    path = tmp_path / name
    write_text(path, "old")
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", Full(number))
    with pytest.raises(DiskError, match=f"^{path}: the file cannot be written: {os.strerror(number)}. .* again"):
        write_text(path, "new")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush_is_no_error(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", Full(number))
    write_text(tmp_path / "x", "a")
    assert (tmp_path / "x").read_text() == "a"


def test_lines_are_appended_at_once_and_flushed_at_the_end(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(descriptor) or real(descriptor))
    path = tmp_path / "new" / "x.jsonl"
    with LineWriter(path, "the lines") as lines:
        for number in range(3):
            lines.write({"a": number, "text": "λ"})
            assert len(path.read_bytes().splitlines()) == number + 1 and not flushed
    assert len(flushed) == 1
    with LineWriter(path, "the lines") as lines:
        lines.write({"a": 3})
    assert [value["a"] for _, value in iter_json_lines(path)] == [0, 1, 2, 3]
    with pytest.raises(FileExistsError):
        LineWriter(path, "the lines", exclusive=True)


def test_a_line_that_does_not_fit_is_taken_off_again(tmp_path):
    """A limit of a file's size ends a write in the middle, as a full disk does."""
    path = tmp_path / "x.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LineWriter(path, "the completions") as lines:
        lines.write({"text": "a" * 100})
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
        try:
            with pytest.raises(DiskError, match=f"^{path}: the completions cannot be written: File too large"):
                lines.write({"text": "b" * 500})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [value["text"][0] for _, value in iter_json_lines(path)] == ["a"]


def test_a_file_that_was_deleted_while_it_was_written_is_told(tmp_path):
    lines = LineWriter(tmp_path / "x.jsonl", "the completions")
    lines.write({"a": 1})
    (tmp_path / "x.jsonl").unlink()
    with pytest.raises(DiskError, match=r"x.jsonl: the completions: the file was deleted while it was written$"):
        lines.close()


def test_the_first_error_is_told_and_not_that_of_closing(tmp_path):
    with pytest.raises(KeyError), LineWriter(tmp_path / "x.jsonl", "the lines"):
        (tmp_path / "x.jsonl").unlink()
        raise KeyError


def test_the_temporary_files_of_ended_processes_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    inner = tmp_path / "seed-0" / "vft"
    inner.mkdir(parents=True)
    mine = temporary_path(inner / "x.json")
    host = mine.name.split(".")[3].split("-")[0]
    living, old = f".x.json.{host}-{os.getppid()}.tmp", time.time() - 2 * 3600
    ours = [f".config.yaml.{ended.pid}.tmp", f"seed-0/vft/.x.json.{host}-{ended.pid}.tmp", f"seed-0/vft/{mine.name}"]
    aged = [".y.json.00000000-1.tmp", f".y.json.{host}-{os.getppid()}.tmp"]
    kept = [living, f".x.json.{os.getppid()}.tmp", ".x.json.00000000-1.tmp", "x.tmp", ".x.tmp", "seed-0/vft/.tmpAb12Cd"]
    for name in [*ours, *aged, *kept]:
        (tmp_path / name).write_text("half")
    for name in aged:
        os.utime(tmp_path / name, (old, old))
    copied = tmp_path / f".vft.{host}-{ended.pid}.tmp"
    (copied / "deep").mkdir(parents=True)
    unknown = tmp_path / f".photos.{ended.pid}.tmp"
    unknown.mkdir()
    assert set(remove_leftovers(tmp_path)) == {tmp_path / name for name in [ours[0], *aged]} | {copied}
    assert set(remove_leftovers(inner)) == {tmp_path / name for name in ours[1:]}
    assert all((tmp_path / name).exists() for name in kept) and unknown.exists()
    (inner / ".tmpFolder").mkdir()
    assert remove_leftovers(inner, of_safetensors=True) == [tmp_path / kept[-1]]
    assert remove_leftovers(tmp_path / "absent") == []


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
