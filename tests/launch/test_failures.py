"""Ranks that fail: one message, of the first that failed, and the exit code of the cause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aft.errors import is_of_another_process
from aft.launch import worker
from aft.launch.worker import stop
from limits import HUNG_AFTER

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# A rank of two. The second one fails as its argument says; the first one waits for it in a collective call.
RANK = """
import os, signal, sys, time
import torch.distributed as dist
from aft.cli.main import guarded
from aft.errors import DataError

def work():
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        if sys.argv[1] == "error":
            raise DataError("groups.jsonl:7: the cause")
        if sys.argv[1] == "bug":
            raise RuntimeError("the cause")
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()

sys.exit(guarded(work))
"""


def launch(tmp_path: Path, how: str) -> list[str]:
    (tmp_path / "rank.py").write_text(RANK)
    return [sys.executable, *TORCHRUN, str(tmp_path / "rank.py"), how]


def test_the_first_failure_is_the_one_that_is_told(tmp_path):
    """Reports of several ranks: neither a later one nor one that only follows takes the first one's place."""
    tell = "from aft.progress import tell_failure\n"
    cases = {
        "tell_failure('cause', 3)\ntell_failure('later', 1)": (3, "cause"),
        "tell_failure('lost', 1, follows=True)\ntell_failure('cause', 3)": (3, "cause"),
        "tell_failure('cause', 3)\ntell_failure('lost', 1, follows=True)": (3, "cause"),
        "tell_failure('lost', 1, follows=True)": (1, "lost"),
    }
    for lines, expected in cases.items():
        process = worker.Worker([sys.executable, "-c", f"{tell}{lines}\nraise SystemExit(1)"], tmp_path / "log", "1")
        process.process.wait(timeout=HUNG_AFTER)
        stop([process])
        assert (process.exit_code, process.message()) == expected


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        pytest.param("error", 3, "groups.jsonl:7: the cause", marks=pytest.mark.slow),
        pytest.param("bug", 1, "RuntimeError: the cause", marks=pytest.mark.slow),
        ("kill", -signal.SIGKILL, None),
    ],
)
def test_the_cause_comes_through_a_launcher(tmp_path, how, code, message):
    process = worker.Worker(launch(tmp_path, how), tmp_path / "log", "1")
    process.process.wait(timeout=HUNG_AFTER)
    stop([process])
    assert process.exit_code == code, (tmp_path / "log").read_text()
    if message:
        assert process.message().splitlines()[-1] == message
    else:
        assert "the last words" in process.message()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"), [("error", "groups.jsonl:7: the cause"), ("bug", "RuntimeError: the cause")]
)
def test_torchrun_by_hand_shows_one_error_and_has_it_as_root_cause(tmp_path, how, message):
    ran = subprocess.run(
        launch(tmp_path, how), capture_output=True, text=True, check=False, timeout=HUNG_AFTER, env={**os.environ}
    )
    assert ran.returncode == 1
    ours, _, summary = ran.stderr.partition("ChildFailedError")
    assert ours.count(message) == 1 and "another process of this launch" not in ran.stderr
    root = summary[summary.index("Root Cause") :]
    assert re.search(r"rank +: 1 ", root) and message in root


def test_what_only_says_that_another_process_is_gone():
    gloo = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:4")
    assert is_of_another_process(gloo)
    assert not is_of_another_process(RuntimeError("Connection closed by peer"))
    assert not is_of_another_process(ConnectionResetError("gloo/"))
    torch = pytest.importorskip("torch.distributed")
    assert is_of_another_process(
        torch.DistBackendError("NCCL error: remote process exited or there was a network error")
    )
    assert not is_of_another_process(torch.DistNetworkError("The server socket has failed to listen on any address"))
