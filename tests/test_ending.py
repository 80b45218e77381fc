"""How processes end: signals raise `Ended` or wait for a safe point, and no child outlives its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from aft import ending
from aft.ending import Ended, asked, deferring, listening
from limits import HUNG_AFTER
from processes import is_alive

NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize(("number", "code"), NUMBERS.items())
def test_a_signal_raises_where_the_work_is(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as caught, listening():
        signal.raise_signal(number)
    assert (caught.value.exit_code, str(caught.value)) == (code, f"ended by {number.name}")
    assert signal.getsignal(number) is before and asked() is None


def test_what_is_deferred_is_finished_first():
    done = []
    with pytest.raises(Ended) as caught, listening(), deferring():
        with deferring():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)  # at once: the same request
            done.append(asked().name)
        done.append("the outer block, too")
    assert done == ["SIGTERM", "the outer block, too"] and caught.value.name == "SIGTERM"
    with listening(), deferring():
        pass


def test_a_second_signal_ends_what_is_deferred(monkeypatch):
    monkeypatch.setattr(ending, "_SECONDS_OF_ONE_REQUEST", 0.0)
    with pytest.raises(Ended) as caught, listening(), deferring():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")
    assert caught.value.name == "SIGINT"


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_code_that_catches_errors_does_not_catch_it():
    with pytest.raises(Ended), listening():
        with contextlib.suppress(Exception):
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")


# Each prints its number. The first starts the second as the conductor does, the second the third as a launcher does, in
# a session of its own, and the third starts a program that knows nothing of this.
CHAIN = """
import os, subprocess, sys, time
from aft.ending import end_with_parent, tied
place = int(sys.argv[1])
end_with_parent()
print(os.getpid(), flush=True)
if place < 3:
    command = [sys.executable, "-c", sys.argv[2], str(place + 1), sys.argv[2]]
    subprocess.Popen(command, env={**os.environ, **tied()}, start_new_session=True)
else:
    print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


def numbers_of_chain(process: subprocess.Popen) -> list[int]:
    return [int(process.stdout.readline()) for _ in range(4)]


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@needs_proc
@pytest.mark.parametrize("killed", [0, 1])
def test_no_process_outlives_the_one_that_started_it(killed):
    process = subprocess.Popen([sys.executable, "-c", CHAIN, "1", CHAIN], stdout=subprocess.PIPE, text=True)
    numbers = numbers_of_chain(process)
    os.kill(numbers[killed], signal.SIGKILL)
    begun = time.monotonic()
    while any(is_alive(number) for number in numbers[killed:]):
        assert time.monotonic() - begun < HUNG_AFTER
        time.sleep(0.02)
    # two seconds are promised on a machine that is not busy
    assert time.monotonic() - begun < 30
    process.kill()
    process.wait()
    process.stdout.close()


@needs_proc
def test_a_child_whose_parent_is_gone_before_it_looks_ends():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    code = "import time\nfrom aft.ending import end_with_parent\nend_with_parent()\ntime.sleep(600)\n"
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "AFT_PARENT": str(ended.pid)})
    assert child.wait(timeout=HUNG_AFTER) == -signal.SIGKILL


def test_an_interrupt_while_a_command_is_imported_has_no_traceback():
    # the interrupt comes from within an import of the command's own module
    code = "import os, runpy, signal, sys; sys.argv = ['-m']; import aft.cli; os.kill(os.getpid(), signal.SIGINT)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")


def test_importing_a_command_changes_no_handler_of_another_program():
    code = "import signal, aft.cli.main; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER)
    assert ran.stdout == "True\n"


def test_a_signal_within_an_import_ends_a_command_by_its_number(tmp_path):
    # tqdm is imported by `progress`; asyncio, half imported, would fail if it were imported again
    (tmp_path / "tqdm").mkdir()
    (tmp_path / "tqdm" / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    code = "from aft.cli.main import guarded; import sys; sys.exit(guarded(lambda: __import__('aft.progress')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HUNG_AFTER, env=environment
    )
    assert (ran.returncode, ran.stderr) == (143, "aft: ended by SIGTERM; the same command goes on from here\n")
