"""Starting, watching and stopping a stage's processes; running units in this one. Labelling stands for every stage."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aft.config import load_config
from aft.ending import Ended, listening
from aft.errors import ConfigError, DataError, DiskError
from aft.launch import conductor, units, worker
from aft.launch.worker import StageFailed, stop
from aft.progress import Progress, describe, say
from aft.records import read_groups
from aft.run.manifest import MANIFEST, UnitLog
from aft.stages.plan import DONE, Plan
from limits import HUNG_AFTER


@pytest.fixture
def make(tiny, tmp_path):
    """`make("key=value", ...)` plans the tiny run with these changes, always in the same folder."""
    return lambda *overrides: Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *overrides]))


def write_completions(plan, text="[ANS] 1", seeds=(0,)):
    for seed in seeds:
        path = plan.completions(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        question = plan.training_questions(seed)[0]
        line = {
            "question_id": question.id,
            "index": 0,
            "completion": text,
            "truncated": False,
            "num_tokens": 3,
            "seed": 0,
        }
        path.write_text(json.dumps(line) + "\n")


# ---- units in this process ----


def test_a_unit_runs_once(make, capsys):
    plan = make()
    write_completions(plan)
    units.run_here(plan, "label")
    assert "label seed 0" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")}
    units.run_here(make(), "label")
    assert {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")} == before
    assert capsys.readouterr().err == ""


def test_what_is_outdated_is_moved_aside(make, capsys):
    plan = make()
    write_completions(plan, text="no marker")
    units.run_here(plan, "label")
    old = plan.groups(0).read_text()
    capsys.readouterr()
    units.run_here(make("label.unparsed=drop"), "label")
    kept = plan.folder / "replaced" / "1" / "seed-0" / "label"
    assert f"label seed 0: what was in {plan.groups(0).parent} is now in {kept}; delete it" in capsys.readouterr().err
    assert (kept / "groups.jsonl").read_text() == old != plan.groups(0).read_text()
    assert (kept / MANIFEST).exists()


def test_a_cut_unit_goes_on_in_its_folder(make, capsys):
    plan = make()
    write_completions(plan)
    unit = plan.units("label")[0]
    UnitLog(unit.folder, plan.inputs(unit))
    (unit.folder / "half.txt").write_text("kept")
    units.run_here(plan, "label")
    assert plan.status(unit).state == DONE
    assert (unit.folder / "half.txt").read_text() == "kept"
    assert not (plan.folder / "replaced").exists()


def test_a_worker_does_its_own_units_alone(make):
    plan = make("seeds=[0,1,2]")
    write_completions(plan, seeds=(0, 1, 2))
    units.run_here(plan, "label", [0, 2])
    states = [plan.status(unit).state == DONE for unit in plan.units("label")]
    assert states == [True, False, True]


# ---- stages in workers ----


def test_workers_share_a_stage(make, capfd):
    plan = make("seeds=[0,1,2]", "launch.workers=2")
    write_completions(plan, seeds=(0, 1, 2))
    conductor.conduct(plan, ["label"])
    assert [plan.status(unit).state for unit in plan.units("label")] == [DONE] * 3
    assert {path.name for path in (plan.folder / "logs").iterdir()} == {"label-0.log", "label-1.log"}
    told = capfd.readouterr().err
    assert told.count("| labelling ") == 3 and "label: 3 done in" in told
    conductor.conduct(make("seeds=[0,1,2]"), ["label"])
    assert "label: 3 of 3 up to date, skipped" in capfd.readouterr().err
    # two of three wait: each gets a worker
    for seed in (0, 2):
        (plan.folder / f"seed-{seed}" / "label" / "counts.json").unlink()
    plan = make("seeds=[0,1,2]", "launch.workers=2")
    plan.repair = True
    conductor.conduct(plan, ["label"])
    told = capfd.readouterr().err
    assert "label: 1 of 3 up to date, skipped" in told
    assert "label seed 2: runs again, because counts.json is missing" in told
    commands = [(plan.folder / "logs" / f"label-{index}.log").read_text().splitlines()[0] for index in (0, 1)]
    assert [command.rpartition(" ")[2] for command in commands] == ["0", "2"]


def test_the_error_of_a_process_comes_through_with_its_exit_code(make):
    plan = make()
    write_completions(plan)
    with plan.completions(0).open("a") as handle:
        handle.write("{}\n")
    with pytest.raises(worker.StageFailed) as caught:
        conductor.conduct(plan, ["label"])
    assert caught.value.exit_code == DataError.exit_code
    log = plan.folder / "logs" / "label-0.log"
    assert str(caught.value) == (
        f"label seed 0 failed (exit code 3); its output is in {log}\n"
        f"{plan.completions(0)}:2: missing 'question_id' (the line has no keys)"
    )


DYING = """
import os, signal
def rate(**candidate):
    print("the last words")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "how"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL; out of memory?"), ("os._exit(0)", "exit code 0")],
)
def test_a_unit_whose_process_dies_is_named_and_the_next_command_goes_on(make, tmp_path, capfd, end, how):
    rating = tmp_path / "dying.py"
    rating.write_text(DYING.format(end=end))
    changes = ["label.include_reference=true", f"label.ratings={{name: function, function: '{rating}:rate'}}"]
    plan = make("seeds=[0,1]", *changes)
    write_completions(plan, seeds=(0, 1))
    with pytest.raises(worker.StageFailed) as caught:
        conductor.conduct(plan, ["label"])
    log = plan.folder / "logs" / "label-0.log"
    told = str(caught.value).splitlines()
    assert told[0] == f"label seed 0 failed ({how}); its output is in {log}" and told[-1] == "the last words"
    assert caught.value.exit_code == 1
    capfd.readouterr()
    conductor.conduct(make("seeds=[0,1]"), ["label"])
    assert "label: 2 done in" in capfd.readouterr().err


@pytest.fixture
def endless(make, tmp_path):
    """A plan whose label stage never ends. Its worker writes its number, and that of its own process, to `pids`."""
    rating = tmp_path / "slow.py"
    rating.write_text(
        "import os, pathlib, subprocess, time\n"
        "def rate(**candidate):\n"
        "    own = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(tmp_path / 'pids')!r}).write_text(f'{{os.getpid()}} {{own.pid}}\\n')\n"
        f"    time.sleep({HUNG_AFTER})\n"
    )
    ratings = f"label.ratings={{name: function, function: '{rating}:rate'}}"
    plan = make("label.include_reference=true", ratings)
    write_completions(plan)
    return plan


def conduct_elsewhere(plan):
    """The conductor in a process of its own, and the numbers of its worker and of the worker's process."""
    conductor.open_folder(plan)
    pids = plan.folder.with_name("pids")
    pids.unlink(missing_ok=True)
    command = [sys.executable, "-m", "aft.cli.train", "--config", plan.folder / "config.yaml", "--stage", "label"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    return process, [int(number) for number in wait_for_line(pids).split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_conductor_that_a_signal_ends_ends_its_workers(endless, number, code):
    process, others = conduct_elsewhere(endless)
    process.send_signal(number)
    _, told = process.communicate(timeout=HUNG_AFTER)
    assert process.returncode == code
    at_most = "in 30 s at most unless it saves; once more ends it now"
    assert f"{number.name}: label ends at its next safe point, {at_most}" in told
    assert told.endswith(f"aft: ended by {number.name}; the same command goes on from here\n")
    for other in others:
        wait_until_gone(other)


def test_a_killed_conductor_leaves_no_process_and_the_next_one_takes_over(endless, make, capfd):
    process, others = conduct_elsewhere(endless)
    process.kill()
    process.communicate()
    begun = time.monotonic()
    for number in others:
        wait_until_gone(number)
    assert time.monotonic() - begun < 30, "two seconds are promised on a machine that is not busy"
    conductor.conduct(make(), ["label"])
    told = capfd.readouterr().err
    assert (
        f"process {process.pid} on " in told and "is gone; this run takes over" in told and "label: 1 done in" in told
    )


def test_a_second_run_in_the_folder_is_refused(endless, command, monkeypatch):
    process, others = conduct_elsewhere(endless)
    config = (endless.run.config).read_text()
    given = ["--config", endless.run.config]
    holder = f"{endless.folder} is in use by process {process.pid} on "
    for program, *more in (["train", "--stage", "label"], ["label"], ["label", "label.unparsed=drop"]):
        ran = command(program, *given, *more)
        assert ran.code == 4 and f"aft: error: output_dir: {holder}" in ran.err, ran.err
    for program, *more in (["label", "--dry-run"], ["report", "--no-picture"]):
        ran = command(program, *given, *more)
        assert f"aft: note: {holder}" in ran.err and ran.code != 4, ran.err
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as a launcher sets it
    assert command("train", *given, "--stage", "label").code == 4
    assert endless.run.config.read_text() == config, "nothing is written"
    process.kill()
    process.communicate()
    for number in others:
        wait_until_gone(number)


def test_a_table_script_that_is_killed_leaves_no_run(endless):
    conductor.open_folder(endless)
    arguments = ["--config", str(endless.run.config), "--stage", "label"]
    script = f"from aft.paper.runner import train\ntrain({arguments!r})\n"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    others = [int(number) for number in wait_for_line(endless.folder.with_name("pids")).split()]
    conducting = json.loads(endless.run.owner.read_text())["process"]
    process.kill()
    process.wait()
    for number in (conducting, *others):
        wait_until_gone(number)


@pytest.mark.slow
def test_a_table_script_passes_a_signal_on(endless):
    conductor.open_folder(endless)
    arguments = ["--config", str(endless.run.config), "--stage", "label"]
    script = (
        "import sys\nfrom aft.cli.main import guarded\nfrom aft.paper.runner import train\n"
        f"sys.exit(guarded(lambda: train({arguments!r})))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    others = [int(number) for number in wait_for_line(endless.folder.with_name("pids")).split()]
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=HUNG_AFTER)
    assert process.returncode == 130 and told.count("the same command goes on from here") == 2
    assert not endless.run.owner.exists()
    for number in others:
        wait_until_gone(number)


def wait_for_line(path):
    deadline = time.monotonic() + HUNG_AFTER
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


def wait_until_gone(number):
    """A process that was ended stays until whoever adopts it takes note."""
    deadline = time.monotonic() + HUNG_AFTER
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(number, 0)
            time.sleep(0.02)


# A worker that stays: it prints its number and each share that it gets.
STAYING = """
import os, sys
from aft.progress import tell_unit, tell_waiting
for share in sys.stdin:
    tell_unit("a unit")
    print(os.getpid(), share, end="", flush=True)
    if "die" in share:
        sys.exit("no more")
    tell_waiting()
print("the end")
"""


def test_one_process_takes_share_after_share_into_a_log_for_each(tmp_path):
    first, second, third = (tmp_path / f"{name}.log" for name in ("first", "second", "third"))
    staying = worker.Worker([sys.executable, "-c", STAYING], first, "1", heading="first command", stays=True)
    staying.order({"stage": "vft"})
    worker.watch([staying], "vft")
    assert staying.is_idle and not staying.has_failed
    staying.open_log(second, "second command")
    assert not staying.is_idle, "it has a share to come"
    staying.order({"stage": "align"})
    worker.watch([staying], "align")
    stop([staying])
    assert staying.process.returncode == 0, "it ends by itself"
    number = staying.process.pid
    assert first.read_text() == f'$ first command\n{number} {{"stage": "vft"}}\n'
    assert second.read_text() == f'$ second command\n{number} {{"stage": "align"}}\nthe end\n'
    staying = worker.Worker([sys.executable, "-c", STAYING], third, "1", stays=True)
    staying.order({"die": 1})
    worker.watch([staying], "vft")
    staying.process.wait(timeout=HUNG_AFTER)
    staying.order({"stage": "vft"})  # nobody reads it
    assert staying.has_failed and staying.unit == "a unit"
    stop([staying])
    assert staying.message().endswith("no more")


def test_what_units_read_is_not_what_the_conductor_writes(make, tmp_path):
    rating = tmp_path / "reads.py"
    rating.write_text("import sys\ndef rate(**candidate):\n    return 1.0 if sys.stdin.read() == '' else 0.0\n")
    ratings = f"label.ratings={{name: function, function: '{rating}:rate'}}"
    plan = make("seeds=[0,1]", "label.include_reference=true", ratings)
    write_completions(plan, seeds=(0, 1))
    conductor.conduct(plan, ["label"])
    for seed in (0, 1):
        assert {candidate.rating for group in read_groups(plan.groups(seed)) for candidate in group.candidates} == {1}


# A launcher that starts the real process, as accelerate's does, and ends with 1 whatever that one ended with.
LAUNCHER = """
import subprocess, sys
ended = subprocess.run([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
print("the launcher has something to say as well")
sys.exit(1 if ended.returncode else 0)
"""


def start(tmp_path, code, *arguments):
    command = [sys.executable, "-c", LAUNCHER, code, *map(str, arguments)]
    return worker.Worker(command, tmp_path / "log.txt", num_threads="1")


def wait(worker):
    worker.process.wait(timeout=HUNG_AFTER)
    stop([worker])
    return worker


def test_a_failure_is_told_across_a_launcher(tmp_path):
    code = "from aft.progress import tell_failure\ntell_failure('two\\nlines', 3)\nraise SystemExit(3)\n"
    worker = wait(start(tmp_path, code))
    assert (worker.process.returncode, worker.exit_code, worker.message()) == (1, 3, "two\nlines")
    assert (tmp_path / "log.txt").read_text().endswith("the launcher has something to say as well\n")


# What accelerate's own launcher and torchrun write of a rank that a signal killed.
TOLD = {
    "accelerate": 'Traceback (most recent call last):\n  File "x"\nsubprocess.CalledProcessError:'
    " Command '['python', '-m', 'aft.cli.train']' died with <Signals.SIGSEGV: 11>.",
    "torchrun": "E1130 10:00:00.000000 7 torch/distributed/elastic/multiprocessing/api.py:9] failed (exitcode: -11)\n"
    "Traceback (most recent call last):\nChildFailedError:\nFailures:\n[0]:\n  exitcode  : -15 (pid: 8)\n"
    "Root Cause (first observed failure):\n[1]:\n  exitcode  : -11 (pid: 9)\n  traceback : Signal 11 (SIGSEGV)",
}


@pytest.mark.parametrize("launcher", TOLD)
def test_a_signal_that_killed_a_rank_is_named_across_a_launcher(tmp_path, launcher):
    code = f"print('the last words', flush=True)\nprint({TOLD[launcher]!r})\nraise SystemExit(1)\n"
    worker = wait(start(tmp_path, code))
    assert (worker.exit_code, worker.message()) == (-signal.SIGSEGV, "the last words")
    failed = StageFailed("vft seed 0", worker.exit_code, worker.message(), worker.log)
    assert str(failed) == (
        "vft seed 0 failed (killed by SIGSEGV: native code, of a library or a driver, read memory that is not its own);"
        f" its output is in {worker.log}\nthe last words"
    )
    code = "print('  exitcode  : -15 (pid: 8)')\nprint('  exitcode  : 1 (pid: 9)')\nraise SystemExit(1)\n"
    assert wait(start(tmp_path, code)).exit_code == 1


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (-signal.SIGKILL, "killed by SIGKILL; out of memory?"),
        (-signal.SIGBUS, "killed by SIGBUS: a file that it had mapped is shorter now, or its disk or /dev/shm is full"),
        (-signal.SIGABRT, "killed by SIGABRT: native code gave up; it often says why in its last lines"),
        (-signal.SIGUSR1, "killed by SIGUSR1"),
        (128 + signal.SIGTERM, "ended by SIGTERM"),
        (7, "exit code 7"),
    ],
)
def test_the_end_of_a_process_is_told_in_words(tmp_path, code, how):
    assert f"vft failed ({how}); its output" in str(StageFailed("vft", code, "", tmp_path / "log"))


def test_an_untold_failure_shows_the_end_of_the_output(tmp_path):
    worker = wait(start(tmp_path, "print('deep'); raise RuntimeError('a bug')"))
    assert worker.exit_code == 1
    assert worker.message().startswith("deep\n") and "RuntimeError: a bug" in worker.message()


def test_progress_survives_others_who_write_into_its_lines(tmp_path):
    code = (
        "import sys\nfrom aft.progress import MARK, Progress\n"
        'sys.stderr.write(MARK + \'{"what": "x", "do\' + \'another process\\n\')\n'
        "sys.stderr.write('another process' + MARK + '{}\\n')\n"
        "with Progress('work', 7) as progress:\n    progress.update(5, 'loss 1.0')\n"
    )
    worker = wait(start(tmp_path, code))
    assert worker.process.returncode == 0
    assert worker.progress == {"what": "work", "done": 5, "total": 7, "note": "loss 1.0", "left": 0}
    assert "another process" in (tmp_path / "log.txt").read_text()
    assert describe(worker.progress) == "work  71 % (5/7, loss 1.0)"
    assert describe({**worker.progress, "left": 65}) == "work  71 % (5/7, loss 1.0, 01:05 left)"


def test_progress_in_a_log_is_whole_lines(capsys):
    with Progress("short", 7, delay=60.0) as progress:
        progress.update(7)
    with Progress("work", 7) as progress:
        progress.update(5, "loss 1.0")
        say("between")
        progress._last -= 16
        progress.update(1)
        progress.update(1)
    assert capsys.readouterr().err == "between\nwork  85 % (6/7, loss 1.0)\nwork 100 % (7/7, loss 1.0)\n"


def test_the_conductor_writes_whole_lines_into_a_log(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS_IN_A_LOG", 0.0)
    code = (
        "import time\nfrom aft.progress import Progress\n"
        "with Progress('work', 7) as progress:\n    progress.update(5)\n    time.sleep(1)\n"
    )
    worker.watch([start(tmp_path, code)], "align")
    told = capsys.readouterr().err
    assert re.fullmatch(r"(align +\d+ s \| work +\d+ % \(\d/7\)\n)+", told)


def test_time_to_go_counts_only_what_was_made_here():
    progress = Progress("work", 10)
    assert progress._seconds_left() == 0
    progress.skip(4)
    progress._begun -= 30_000  # so long that what this test takes is nothing
    progress.update(2)
    assert progress._seconds_left() == pytest.approx(60_000, rel=0.05)


@pytest.mark.parametrize("deaf", [False, True])
def test_stopping_ends_what_the_launcher_has_started(tmp_path, deaf):
    code = (
        "import os, pathlib, signal, sys, time\n"
        f"{'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if deaf else ''}\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()}\\n')\n"
        f"time.sleep({HUNG_AFTER})\n"
    )
    worker = start(tmp_path, code, tmp_path / "pid")
    number = int(wait_for_line(tmp_path / "pid"))
    stop([worker], **({"seconds": 0.2} if deaf else {}))
    assert worker.process.returncode < 0
    wait_until_gone(number)


# It saves for as long as its argument says, and ends by itself.
SAVING = """
import pathlib, signal, sys, time
from aft.ending import deferring, listening
from aft.progress import saving
with listening(), deferring(), saving():
    pathlib.Path(sys.argv[1]).write_text("saves\\n")
    time.sleep(float(sys.argv[2]))
    pathlib.Path(sys.argv[1]).write_text("saved\\n")
"""


def start_saving(tmp_path, seconds):
    command = [sys.executable, "-c", SAVING, str(tmp_path / "file"), str(seconds)]
    return worker.Worker(command, tmp_path / "log.txt", "1")


def test_a_process_that_saves_is_not_killed(tmp_path):
    process = start_saving(tmp_path, 2)
    assert wait_for_line(tmp_path / "file") == "saves\n"
    deadline = time.monotonic() + HUNG_AFTER
    while not process.saves and time.monotonic() < deadline:
        time.sleep(0.01)
    stop([process], seconds=0.5)
    assert (tmp_path / "file").read_text() == "saved\n" and not process.saves


def test_a_second_signal_ends_also_what_saves(tmp_path):
    process = start_saving(tmp_path, HUNG_AFTER)
    wait_for_line(tmp_path / "file")
    timer = threading.Timer(1.5, signal.raise_signal, [signal.SIGTERM])
    begun = time.monotonic()
    with pytest.raises(Ended), listening():
        timer.start()
        stop([process], seconds=0.5)
    assert time.monotonic() - begun < 30 and (tmp_path / "file").read_text() == "saves\n"


def test_threads_are_the_users_choice(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert worker.num_threads(2) == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert worker.num_threads(10_000) == "1"
    assert worker.num_threads(1) == str(os.cpu_count())


# ---- how a stage is launched ----


def test_what_marks_its_process_runs_in_fresh_ones(make, tmp_path):
    def crews(stage, waiting, *overrides):
        return conductor._crews(make(*overrides), stage, waiting)

    assert crews("align", [0, 2, 3], "launch.workers=2") == [{0: [0, 3], 1: [2]}]
    tracked = ["launch.workers=2", "methods.bcl={training: {report_to: wandb}}"]
    assert crews("align", [0, 2, 3], *tracked) == [{0: [0], 1: [2]}, {2: [3]}]
    assert crews("vft", [0, 1], *tracked) == [{0: [0], 1: [1]}]
    path = tmp_path / "launch.yaml"
    path.write_text("distributed_type: DEEPSPEED\n")
    assert crews("align", [0, 2], f"launch={{config: {path}}}") == [{0: [0]}, {1: [2]}]
    assert crews("sample", [0, 2], f"launch={{config: {path}}}") == [{0: [0, 2]}]


def test_the_command_of_a_stage(make, tmp_path, monkeypatch):
    plan = make("launch.device=cpu")
    tail = ["-m", "aft.cli.train", "--config", str(plan.folder / "config.yaml"), "--stage"]
    assert conductor._command(plan, "vft", [0, 3]) == [sys.executable, *tail, "vft", "--worker", "0,3"]
    # not what the user may once have chosen as accelerate's default
    environment = conductor._environment(plan)
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no" and environment["ACCELERATE_USE_CPU"] == "True"
    assert "ACCELERATE_USE_CPU" not in conductor._environment(make())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "accelerate").mkdir(parents=True)
    (tmp_path / "configs" / "accelerate" / "two.yaml").write_text("num_processes: 2\n")
    for name in ("two", "two.yaml", "configs/accelerate/two.yaml"):
        plan = make(f"launch.config={name}")
        launcher = ["-m", "aft.launch.launcher", "--config_file", "configs/accelerate/two.yaml"]
        assert conductor._command(plan, "vft", [0]) == [sys.executable, *launcher, *tail, "vft", "--worker", "0"]
        assert conductor._command(plan, "label", [0]) == [sys.executable, *tail, "label", "--worker", "0"]
        assert conductor._environment(plan) == {}
    plan = make("launch.config=two", "launch.num_processes=4")
    more = [*launcher, "--num_processes", "4"]
    assert conductor._command(plan, "vft", [0]) == [sys.executable, *more, *tail, "vft", "--worker", "0"]
    assert plan.processes(plan.units("vft")[0]) == 4
    with pytest.raises(ConfigError) as caught:
        conductor.find_launch_file("tow")
    assert str(caught.value) == (
        "launch.config: no file 'tow' nor configs/accelerate/tow.yaml. Did you mean 'two'?"
        " There: cpu, fsdp2, multi-gpu, single-gpu, two, zero3"
    )


def test_several_processes_on_a_cpu_are_started_as_such(make):
    """accelerate starts one without a word, unless it is told that they are of the kind of several GPUs."""
    assert "--multi_gpu" in conductor._command(make("launch.config=cpu", "launch.num_processes=2"), "vft", [0])
    plan = make("launch.config=cpu")
    assert "--multi_gpu" not in conductor._command(plan, "vft", [0])
    assert conductor._environment(plan) == {"ACCELERATE_USE_CPU": "True"}


def test_a_stage_on_several_machines_is_started_by_srun(make, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "20007")
    plan = make("launch={config: fsdp2, slurm: {nodes: 2, gpus_per_node: 8}}")
    command = conductor._command(plan, "vft", [0])
    srun = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", sys.executable]
    assert command[: len(srun)] == srun
    given = command[len(srun) : command.index("aft.cli.train") - 1]
    assert given[-10:] == [
        *("--num_processes", "16", "--num_machines", "2", "--machine_rank", "SLURM_PROCID"),
        *("--main_process_ip", "node1", "--main_process_port", "20007"),
    ]
    assert conductor._command(plan, "label", [0])[0] == sys.executable
    assert plan.processes(plan.units("vft")[0]) == 16


# ---- a disk that is full ----

FULL = Path("/dev/full")  # every write to it fails as on a full disk
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@needs_full
def test_a_log_that_cannot_be_written_is_given_up_and_the_work_goes_on(capfd):
    code = "print('x' * 100_000); from aft.progress import say; say('still here'); raise SystemExit('the last words')"
    process = worker.Worker([sys.executable, "-c", code], FULL, "1")
    worker.watch([process], "vft")
    process.thread.join(timeout=HUNG_AFTER)
    stop([process])
    assert process.has_failed and process.message().endswith("the last words")
    told = capfd.readouterr().err
    assert told.count("warning: /dev/full cannot be written: No space left on device") == 1 and "still here" in told


def test_a_log_that_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(DiskError, match=f"^{tmp_path}/gone/x.log: the log cannot be written: its folder is gone"):
        worker.Worker([sys.executable, "-c", ""], tmp_path / "gone" / "x.log", "1")


def test_a_full_disk_in_a_worker_is_one_line_with_its_exit_code(make, tmp_path):
    """A rating function that fills the disk: no file can grow beyond some bytes."""
    rating = tmp_path / "fills.py"
    rating.write_text(
        "import resource\n"
        "def rate(**candidate):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))\n"
        "    return 1.0\n"
    )
    ratings = f"label.ratings={{name: function, function: '{rating}:rate'}}"
    plan = make("label.include_reference=true", ratings)
    write_completions(plan)
    with pytest.raises(worker.StageFailed) as caught:
        conductor.conduct(plan, ["label"])
    assert caught.value.exit_code == 5
    _, line = str(caught.value).splitlines()
    folder = plan.units("label")[0].folder
    assert line.startswith(f"{folder}/") and "cannot be written: File too large. Allow larger files" in line
    assert list(folder.glob(".*")) == []
    rating.write_text("def rate(**candidate):\n    return 1.0\n")
    conductor.conduct(plan, ["label"])
    assert plan.status(plan.units("label")[0]).state == DONE


def test_temporary_files_of_an_ended_run_are_removed_at_the_next_start(make, capsys):
    plan = make()
    conductor.open_folder(plan)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = plan.folder / "base"
    folder.mkdir()
    half = [folder / ".tmpAb12Cd", folder / f".x.json.{ended.pid}.tmp"]
    for path in half:
        path.write_text("half")
    conductor.open_folder(plan)
    assert not any(path.exists() for path in half)
    assert "removed 2 temporary files of an ended process" in capsys.readouterr().err


def test_files_of_the_user_and_of_a_run_inside_stay(make, capsys):
    plan = make()
    conductor.open_folder(plan)
    inner = plan.folder / "inner"
    kept = [plan.folder / ".tmpbackup", inner / "seed-0" / "vft" / ".tmpAbC123", plan.folder / "logs" / ".tmpAbC123"]
    for path in [*kept, inner / ".lock"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    conductor.open_folder(plan)
    assert all(path.exists() for path in kept) and "removed" not in capsys.readouterr().err


def test_a_configuration_that_is_a_folder_is_one_line(make):
    plan = make()
    plan.run.config.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"^output_dir: .* cannot be written: Is a directory$"):
        conductor.open_folder(plan)


def test_a_unit_whose_folder_was_deleted_is_not_completed(make):
    plan = make()
    write_completions(plan)
    unit = plan.units("label")[0]
    log = UnitLog(unit.folder, plan.inputs(unit))
    shutil.rmtree(plan.folder)
    with pytest.raises(DiskError, match=f"^{unit.folder}: the folder was deleted or replaced while it was written"):
        log.complete([])


def test_a_run_whose_folder_is_removed_says_so_whatever_fails_first(make, monkeypatch):
    plan = make()

    def removes(plan, *_, **__):
        shutil.rmtree(plan.folder)
        raise ConfigError("stage vft reads run/base, which is not there")

    monkeypatch.setattr(conductor, "_conduct_stage", removes)
    with pytest.raises(DiskError, match=r"config\.yaml: gone\. The run's folder was moved or removed"):
        conductor.conduct(plan, ["pretrain"])
