"""aft-watch as a user meets it: in a terminal of 80 columns and 24 lines (tmux), in a pipe, with wrong arguments."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finished_run import make_plan
from limits import HUNG_AFTER

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
TINY = Path(__file__).parents[1] / "data" / "tiny.yaml"
WATCH = [sys.executable, "-m", "aft.cli.watch"]

# A run at work without a model: it holds the folder, has begun a unit, and writes its log and its progress.
AT_WORK = """
import json, sys, time
from pathlib import Path
from aft.json_files import json_line
from aft.run.folder import RunFolder
from aft.run.lock import hold
from aft.run.manifest import UnitLog
run = RunFolder(sys.argv[1])
unit = run.unit("align", 0, "bcl")
with hold(run, print):
    UnitLog(unit.folder, {})
    for step in range(1, 10_000):
        line = {"step": step, "max_steps": 10_000, "time": time.time(), "loss": 3 / step}
        line |= {"scores/positive": -0.5 - 1 / step, "scores/negative": -0.6 - step / 1000, "groups/both_fell": 0.25}
        with (unit.folder / "live_log.jsonl").open("a") as log:
            log.write(json_line(line))
        worker = {"what": str(unit), "done": step, "total": 10_000, "note": "loss 1.0", "left": 90}
        run.progress.with_suffix(".new").write_text(json.dumps({"workers": [worker]}))
        run.progress.with_suffix(".new").replace(run.progress)
        time.sleep(0.1)
"""


class Terminal:
    """A terminal of 80 columns and 24 lines, which runs a command."""

    def __init__(self, socket: Path, command: list[str], columns: int = 80) -> None:
        self.tmux = ["tmux", "-S", str(socket), "-f", os.devnull]
        # a size in the environment would count more than that of the terminal
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        # Ctrl-C reaches the shell, too, which must live on
        line = f"trap : INT; {shlex.join(command)}; echo ended with $?; cat"
        new = ["new-session", "-d", "-x", str(columns), "-y", "24", "-s", "watch", f"sh -c {shlex.quote(line)}"]
        subprocess.run([*self.tmux, *new], check=True, env=own)

    def screen(self) -> str:
        return subprocess.run([*self.tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout

    def until(self, *words: str) -> str:
        """The screen once it shows all these words."""
        deadline = time.monotonic() + HUNG_AFTER / 4
        while not all(word in (screen := self.screen()) for word in words):
            assert time.monotonic() < deadline, screen
            time.sleep(0.1)
        return screen

    def press(self, *keys: str) -> None:
        subprocess.run([*self.tmux, "send-keys", *keys], check=True)

    def close(self) -> None:
        subprocess.run([*self.tmux, "kill-server"], check=False, capture_output=True)


@contextlib.contextmanager
def terminal(tmp_path, folder, **options):
    shown = Terminal(tmp_path / "tmux", [*WATCH, str(folder)], **options)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def started(*arguments):
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@needs_tmux
def test_a_finished_a_live_and_a_killed_run_in_a_terminal(folder, tmp_path):
    with terminal(tmp_path, folder) as shown:
        screen = shown.until(
            "run: finished; the report is", "evaluate  ████████████████████ 4/4 done", "q ends this view"
        )
        assert len(screen.splitlines()) <= 24
        (make_plan(folder).run.unit("align", 0, "bcl").manifest).unlink()
        with started(sys.executable, "-c", AT_WORK, str(folder)) as run:
            screen = shown.until(
                "run: at work; process ", "3/4 done 1 at work: bcl seed 0", "01:30 left", "─ right", "┄ wrong"
            )
            assert "both fell 25%" in screen and "steps/s" in screen and "MiB now" in screen
            assert any(0x2800 < ord(character) < 0x2900 for character in screen), "a curve"
            run.send_signal(signal.SIGKILL)
            screen = shown.until("run: killed; the same command goes on from here", "3/4 done 1 cut", "─ right")
            assert "left" not in screen
        shown.press("q")
        shown.until("ended with 0")


@needs_tmux
def test_ctrl_c_ends_the_view_of_a_run_that_is_not_there(tmp_path):
    with terminal(tmp_path, tmp_path / "none", columns=30) as shown:
        shown.until("none: not started; the fold", "q ends this view")
        shown.press("C-c")
        assert "Traceback" not in shown.until("ended with 0")
    assert not (tmp_path / "none").exists()


@needs_tmux
@pytest.mark.slow
def test_a_real_run_live_killed_resumed_and_finished(tmp_path):
    folder = tmp_path / "real"
    changes = [
        "align.training={max_steps: 200, logging_steps: 2, save_strategy: steps, save_steps: 20}",
        "methods={bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}}",
        "evaluate.models=[bcl]",
    ]
    command = [sys.executable, "-m", "aft.cli.train", "--config", str(TINY), f"output_dir={folder}", *changes]
    with terminal(tmp_path, folder) as shown:
        shown.until("real: not started; the folder does not exist yet")
        with started(*command) as run:
            shown.until("real: at work; process ", "1 at work")
            shown.until("align bcl seed 0", "─ right -", "both fell", "steps/s")
            run.send_signal(signal.SIGKILL)
            shown.until("real: killed; the same command goes on from here", "1 cut")
        with started(*command):
            shown.until("real: finished; the report is", "align     ████████████████████ 1/1 done", "─ right -")
        assert not list(folder.rglob("live_log.jsonl")) and not (folder / ".progress.json").exists()
        shown.press("q")
        shown.until("ended with 0")


def test_a_pipe_gets_one_snapshot(finished, command):
    ran = command("watch", finished)
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith("run: finished; the report is") and "\x1b" not in ran.out
    assert command("watch", finished, "--once").out == ran.out


def test_a_pipe_gets_one_snapshot_in_forced_colours_too(finished):
    ran = subprocess.run(
        [*WATCH, str(finished)],
        env={**os.environ, "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=HUNG_AFTER / 4,
    )
    assert ran.returncode == 0 and ran.stdout.count("finished\x1b[0m; the report is") == 1


def test_wrong_arguments_are_one_line(finished, command):
    ran = command("watch", finished / "config.yaml")
    assert (ran.code, ran.err.count("\n")) == (2, 1) and "config.yaml: not a folder; aft-watch takes" in ran.err
    for value in ("0", "-1", "nan"):
        ran = command("watch", finished, "--every", value)
        assert (ran.code, ran.out) == (2, "") and ran.err.startswith("aft: error: --every: ")
