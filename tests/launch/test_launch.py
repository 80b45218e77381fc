"""Starting, watching and stopping a stage's processes; running units in this one. Labelling stands for every stage."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import yaml

from aft.config import load_config
from aft.errors import ConfigError, DataError
from aft.launch import conductor, units, worker
from aft.progress import Progress, describe, say
from aft.run.manifest import MANIFEST, UnitLog
from aft.stages.plan import DONE, Plan


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
    units.run_here(plan, "label", "0,2")
    states = [plan.status(unit).state == DONE for unit in plan.units("label")]
    assert states == [True, False, True]


# ---- stages in processes ----


def test_a_stage_in_processes_of_its_own(make, capfd):
    plan = make("seeds=[0,1,2]", "launch.workers=2")
    write_completions(plan, seeds=(0, 1, 2))
    conductor.conduct(plan, ["label"])
    assert [plan.status(unit).state for unit in plan.units("label")] == [DONE] * 3
    assert {path.name for path in (plan.folder / "logs").iterdir()} == {"label-0.log", "label-1.log"}
    told = capfd.readouterr().err
    assert told.count("| labelling ") == 3 and "label: 3 done in" in told
    conductor.conduct(make("seeds=[0,1,2]"), ["label"])
    assert "label: 3 of 3 up to date, skipped" in capfd.readouterr().err
    # two of three wait: each gets a process of its own
    for seed in (0, 2):
        (plan.folder / f"seed-{seed}" / "label" / "counts.json").unlink()
    conductor.conduct(make("seeds=[0,1,2]", "launch.workers=2"), ["label"])
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
        f"stage label failed (exit code 3); its whole output is in {log}\n"
        f"{plan.completions(0)}:2: missing 'question_id' (the line has no keys)"
    )


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
    worker.process.wait(timeout=20)
    worker.stop()
    return worker


def test_a_failure_is_told_across_a_launcher(tmp_path):
    code = "from aft.progress import tell_failure\ntell_failure('two\\nlines', 3)\nraise SystemExit(3)\n"
    worker = wait(start(tmp_path, code))
    assert (worker.process.returncode, worker.exit_code, worker.message()) == (1, 3, "two\nlines")
    assert (tmp_path / "log.txt").read_text().endswith("the launcher has something to say as well\n")


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
    progress._begun -= 3
    progress.update(2)
    assert progress._seconds_left() == pytest.approx(6, abs=0.5)


def test_stopping_ends_what_the_launcher_has_started(tmp_path):
    code = "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    worker = start(tmp_path, code, tmp_path / "pid")
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.stop()
    assert worker.process.returncode < 0
    assert time.monotonic() < deadline
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:  # a moment for whoever adopts it to take note
            os.kill(int((tmp_path / "pid").read_text()), 0)
            time.sleep(0.02)


def test_threads_are_the_users_choice(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert worker.num_threads(2) == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert worker.num_threads(10_000) == "1"
    assert worker.num_threads(1) == str(os.cpu_count())


# ---- how a stage is launched ----


def test_what_keeps_its_model_in_memory_runs_in_processes_of_its_own(make, tmp_path, monkeypatch):
    crews = []
    monkeypatch.setattr(conductor, "_run_crew", lambda plan, stage, shares: crews.append(shares))
    conductor._run_stage(make("launch.workers=2"), "align", [0, 2, 3])
    path = tmp_path / "launch.yaml"
    path.write_text("distributed_type: DEEPSPEED\n")
    conductor._run_stage(make(f"launch={{config: {path}}}"), "align", [0, 2])
    conductor._run_stage(make(f"launch={{config: {path}}}"), "sample", [0, 2])
    assert crews == [{0: [0, 3], 1: [2]}, {0: [0]}, {1: [2]}, {0: [0, 2]}]


def test_the_command_of_a_stage(make, tmp_path, monkeypatch):
    plan = make("launch.device=cpu")
    tail = ["-m", "aft.cli.train", "--config", str(plan.folder / "config.yaml"), "--stage"]
    assert conductor._command(plan, "label", [0], "1") == [sys.executable, *tail, "label", "--worker", "0"]
    command = conductor._command(plan, "vft", [0, 3], "2")
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[-8:] == [*tail, "vft", "--worker", "0,3"][-8:]
    # not what the user may once have chosen as accelerate's default
    one = yaml.safe_load(Path(command[command.index("--config_file") + 1]).read_text())
    assert (one["num_processes"], one["distributed_type"], one["use_cpu"]) == (1, "NO", True)
    assert command[command.index("--num_cpu_threads_per_process") + 1] == "2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "accelerate").mkdir(parents=True)
    (tmp_path / "configs" / "accelerate" / "two.yaml").write_text("num_processes: 2\n")
    for name in ("two", "two.yaml", "configs/accelerate/two.yaml"):
        command = conductor._command(make(f"launch.config={name}"), "vft", [0], "1")
        assert command[3:5] == ["--config_file", "configs/accelerate/two.yaml"]
    with pytest.raises(ConfigError) as caught:
        conductor.find_launch_file("tow")
    assert str(caught.value) == (
        "launch.config: no file 'tow' nor configs/accelerate/tow.yaml. Did you mean 'two'?"
        " There: cpu, fsdp2, multi-gpu, single-gpu, two, zero3"
    )
