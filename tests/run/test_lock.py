"""The lock of a run's folder: who is refused, who takes over, other hosts, file systems without locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aft.errors import ConfigError, DiskError
from aft.run import lock
from aft.run.environment import command
from aft.run.folder import RunFolder
from aft.run.lock import FolderInUse, find_holder, hold, tell_holder, writing
from limits import HUNG_AFTER

# Holds the folder, or writes into it, and says so.
HOLDER = """
import sys, time
from aft.run.folder import RunFolder
from aft.run.lock import hold, writing
run = RunFolder(sys.argv[2])
with hold(run, print) if sys.argv[1] == "hold" else writing(run):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


@contextlib.contextmanager
def other(what: str, run: RunFolder):
    """A process that holds the folder (`hold`) or writes into it (`write`)."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, what, run.path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def owner(run: RunFolder, **changes):
    """Leaves the file of a run that ended without a word."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.owner.write_text(json.dumps({**lock._myself(), "process": 1, "command": "aft-train --config x", **changes}))


def try_to_hold(run: RunFolder) -> list[str]:
    said: list[str] = []
    with hold(run, said.append):
        assert json.loads(run.owner.read_text())["process"] == os.getpid()
    return said


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_holder_is_gone_before_its_parent_asks_how_it_ended(run):
    with other("hold", run) as process:
        found = find_holder(run)
        assert (found.is_alive, found.process) == (True, process.pid) and str(process.pid) in found.words
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}").exists(), "nobody has asked"
        found = find_holder(run)
        assert (found.is_alive, found.process) == (False, None)
        assert tell_holder(run) is None


def test_a_second_run_is_refused_and_told_by_whom(run):
    with other("hold", run) as process:
        with pytest.raises(FolderInUse) as caught, hold(run, print):
            pass
        found = re.fullmatch(
            r"output_dir: (.*) is in use by process (\d+) on (\S+) since (\S+) \(-c hold .*\)\."
            r" Wait for it or end it, or give this run an output_dir of its own",
            str(caught.value),
        )
        assert found.groups()[:3] == (str(run.path), str(process.pid), socket.gethostname())
        assert caught.value.exit_code == 4
        assert tell_holder(run).startswith(f"{run.path} is in use by process {process.pid} on ")
    # it was killed: the kernel frees its lock, and its file says who it was
    assert tell_holder(run) is None
    assert re.fullmatch(rf".*: process {process.pid} on .* is gone; this run takes over", *try_to_hold(run))


def test_it_is_free_again_and_leaves_no_owner(run):
    assert try_to_hold(run) == []
    assert {path.name for path in run.path.iterdir()} == {".lock", ".lock.writers"}
    with pytest.raises(RuntimeError), hold(run, print):
        raise RuntimeError
    assert try_to_hold(run) == [] and tell_holder(run) is None


def test_one_process_may_hold_it_twice_under_any_name(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path, target_is_directory=True)
    with hold(run, print):
        with hold(RunFolder(tmp_path / "link"), print):
            pass
        assert run.owner.exists() and tell_holder(run) is None


def test_the_progress_of_a_killed_run_is_gone_once_another_begins(run):
    run.path.mkdir()
    run.progress.write_text("{}")
    with hold(run, print):
        assert not run.progress.exists()
        run.progress.write_text("{}")
        with hold(run, print):
            assert run.progress.exists()


def test_two_folders_are_two_locks(tmp_path):
    with other("hold", RunFolder(tmp_path / "one")):
        assert try_to_hold(RunFolder(tmp_path / "two")) == []


def test_a_run_that_looks_makes_nothing(run):
    assert tell_holder(run) is None and not run.path.exists()


def test_the_processes_of_a_killed_run_are_waited_for(run, monkeypatch):
    run.path.mkdir()
    with other("write", run) as process:
        with writing(run):  # several may write
            pass
        threading.Timer(0.3, process.kill).start()
        assert try_to_hold(run) == []
    monkeypatch.setattr(lock, "_SECONDS_FOR_WRITERS", 0.2)
    with other("write", run), pytest.raises(FolderInUse, match="a process of an earlier run still writes into it"):
        try_to_hold(run)


# ---- another host ----


def test_a_run_on_another_host_counts_as_long_as_it_gives_signs_of_life(run, monkeypatch):
    owner(run, host="elsewhere")
    ended = threading.Event()
    monkeypatch.setattr(lock, "_SECONDS_OF_A_BEAT", 0.1)
    beating = threading.Thread(target=lock._beat, args=(run.owner, ended))
    beating.start()
    try:
        with pytest.raises(FolderInUse, match=r"in use by process 1 on elsewhere since .* \(aft-train --config x\)"):
            try_to_hold(run)
        assert "process 1 on elsewhere" in tell_holder(run)
    finally:
        ended.set()
        beating.join()
    monkeypatch.setattr(lock, "_SECONDS_WITHOUT_A_BEAT", 0.3)
    waits, takes = try_to_hold(run)
    assert "waits up to 0.3 s for a sign of life of process 1 on elsewhere" in waits and "takes over" in takes


def test_a_run_on_another_host_that_was_silent_for_long_is_gone(run):
    owner(run, host="elsewhere")
    os.utime(run.owner, (0, time.time() - 3600))
    assert tell_holder(run) is None
    [takes] = try_to_hold(run)
    assert "process 1 on elsewhere" in takes


def test_the_holder_gives_signs_of_life(run, monkeypatch):
    monkeypatch.setattr(lock, "_SECONDS_OF_A_BEAT", 0.05)
    with hold(run, print):
        os.utime(run.owner, (0, 0))
        deadline = time.monotonic() + HUNG_AFTER
        while run.owner.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)


# ---- a file system without locks ----


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_the_owners_file_alone_keeps_others_out(run, no_flock):
    said = []
    with hold(run, said.append):
        assert said == [f"{run.path}: this file system has no locks; .lock.json alone keeps other runs out"]
        with writing(run):
            pass
        lock._held.clear()  # as another process sees it
        with pytest.raises(FolderInUse, match=f"process {os.getpid()} on {socket.gethostname()}"):
            try_to_hold(run)
    assert not run.owner.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel says when a process began")
def test_without_locks_the_number_of_a_dead_process_may_be_anothers(run, no_flock):
    owner(run, process=os.getpid(), started="another boot 12345")
    assert "is gone; this run takes over" in try_to_hold(run)[0]


def test_without_locks_a_dead_process_holds_nothing(run, no_flock):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    owner(run, process=ended.pid)
    assert f"process {ended.pid} on" in try_to_hold(run)[0]


# ---- who ----


@pytest.mark.parametrize(("program", "name"), [("train.py", "aft-train"), ("report.py", "aft-report")])
def test_a_command_of_ours_has_its_name_and_hides_its_secrets(run, monkeypatch, program, name):
    path = Path(lock.__file__).parents[1] / "cli" / program
    monkeypatch.setattr("sys.argv", [str(path), "--config", "https://me:word@host/x"])
    with hold(run, print):
        assert json.loads(run.owner.read_text())["command"] == f"{name} --config 'https://***@host/x'"
    monkeypatch.setattr("sys.argv", [f"/elsewhere/{program}"])
    assert command() == [program]


# ---- damage ----


def test_a_folder_that_cannot_be_made_is_a_wrong_output_dir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output_dir: .* cannot be written: Not a directory"):
        try_to_hold(RunFolder(tmp_path / "file" / "run"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_is_no_wrong_output_dir(run, monkeypatch, number):
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    with pytest.raises(DiskError, match=f"^{run.path}: the lock cannot be written: {os.strerror(number)}"):
        try_to_hold(run)


def test_an_owners_text_cannot_act(run, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "k3y-0123456789abcdef")
    owner(run, command="aft-train \x1b[2J\u202e k3y-0123456789abcdef")
    (line,) = try_to_hold(run)
    assert "(aft-train \\x1b[2J\\u202e ***)" in line


@pytest.mark.parametrize("text", ["", "[]", '{"process": "x", "host": 3, "command": "a\\nb"}'])
def test_a_damaged_owners_file_keeps_nobody_out(run, monkeypatch, text):
    monkeypatch.setattr(lock, "_SECONDS_WITHOUT_A_BEAT", 0.1)
    run.path.mkdir()
    run.owner.write_text(text)
    assert "is gone; this run takes over" in try_to_hold(run)[-1]
    assert all("\n" not in line for line in try_to_hold(run))
