"""Errors of the disk, as Python, torch, safetensors and tokenizers raise them, become one line with the way on."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from aft.errors import ConfigError, DiskError, disk_error, memory_error, writing

TORCH = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
UNNAMED = "standard output or a file cannot be written"


def os_error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([path] if path else []))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (os_error(errno.ENOSPC), f"{UNNAMED}: No space left on device. Free some space and run the same command again"),
        (os_error(errno.ENOSPC, "/run/x"), "/run/x: No space left on device. Free"),
        (os_error(errno.EDQUOT, "/x"), "/x: Disk quota exceeded. Free some of your quota and"),
        (os_error(errno.EROFS, "/x"), "/x: Read-only file system. Make the file system writable and"),
        (os_error(errno.EIO, "/x"), "/x: Input/output error. Check the disk and"),
        (os_error(errno.EFBIG, "/x"), "/x: File too large. Allow larger files"),
        (os_error(errno.ESTALE, "/x"), "/x: Stale file handle. Mount the file system again and"),
        (os_error(errno.EACCES, "/x"), "/x: cannot be read or written: Permission denied. Allow it and"),
        (os_error(errno.EPERM, "/x"), "/x: cannot be read or written: Operation not permitted. Allow it and"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            f"{UNNAMED}: No sp",
        ),
        (Exception("Disk quota exceeded (os error 122)"), f"{UNNAMED}: Disk quota exceeded"),
    ],
)
def test_an_error_of_the_disk_without_its_place(error, told):
    found = disk_error(error)
    assert str(found).startswith(told) and found.exit_code == 5 and "\n" not in str(found)
    assert str(found).endswith("run the same command again; what was finished is kept.")
    wrapped = RuntimeError("An error occurred while generating the dataset")
    wrapped.__cause__ = error
    assert str(disk_error(wrapped)) == str(found)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        os_error(errno.ENOENT, "/x"),
        os_error(errno.EACCES),  # of a socket, for example
        os_error(errno.EPIPE),
        os_error(errno.ECONNREFUSED),
        RuntimeError(TORCH),
        SafetensorError("Error while deserializing header: invalid header"),
        RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory"),
    ],
)
def test_any_other_error_is_none_of_the_disk(error):
    assert disk_error(error) is None


@pytest.mark.parametrize("text", [TORCH, "basic_ios::clear: iostream error", "PytorchStreamWriter failed writing file"])
def test_torch_names_no_cause_and_the_line_says_what_it_said(tmp_path, text):
    told = rf"^{tmp_path}/a.pt: the optimizer cannot be written: .*{text[-8:]}. Check the disk and run"
    with pytest.raises(DiskError, match=told), writing(tmp_path / "a.pt", "the optimizer"):
        raise RuntimeError(text)


def test_torch_s_cause_is_found_on_the_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(DiskError, match="cannot be written: No space left on device"), writing(tmp_path / "a", "it"):
        raise RuntimeError(TORCH)
    text = "[enforce fail at inline_container.cc:747] . open file failed with strerror: Read-only file system"
    with pytest.raises(DiskError, match="cannot be written: Read-only file system"), writing(tmp_path / "a", "it"):
        raise RuntimeError(text)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("x"),
        lambda path: torch.save({}, path),
        lambda path: save_file({"a": torch.ones(1)}, path),
    ],
)
def test_a_folder_that_is_gone(tmp_path, write):
    path = tmp_path / "gone" / "file"
    told = f"^{path}: the model cannot be written: its folder is gone. Make it again or move it back, "
    with pytest.raises(DiskError, match=told), writing(path, "the model"):
        write(path)


def test_what_is_no_error_of_the_disk_passes_through(tmp_path):
    for error in (ConfigError("x"), KeyError("y"), FileNotFoundError(errno.ENOENT, "no", "/elsewhere")):
        with pytest.raises(type(error)), writing(tmp_path / "a", "it"):
            raise error


def test_a_write_without_permission_is_told_as_one(tmp_path):
    told = f"^{tmp_path}/a: it cannot be written: Permission denied. Allow it and run the same command again"
    with pytest.raises(DiskError, match=told), writing(tmp_path / "a", "it"):
        raise os_error(errno.EACCES, "/elsewhere")


def test_no_memory_is_one_line_that_says_how_much_was_asked_for_and_what_to_set():
    torch_said = (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    )
    errors = [
        (MemoryError(), "no memory is left. Set a smaller batch_size"),
        (
            RuntimeError(f"{torch_said} allocate 40 bytes. Error code 12"),
            "no memory is left (tried to allocate 40 bytes)",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"),
            "(Tried to allocate 2.00 GiB)",
        ),
    ]
    for error, told in errors:
        found = memory_error(error)
        assert found is not None and told in str(found) and "\n" not in str(found) and found.exit_code == 1


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shapes do not fit"), OSError(12, "x")])
def test_any_other_error_is_none_of_memory(error):
    assert memory_error(error) is None
