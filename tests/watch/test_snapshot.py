"""What aft-watch reads from a run's folder: live, finished, killed, not started, damaged, half-written."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from aft.run import lock
from aft.run.folder import LIVE_LOG, RunFolder
from aft.run.manifest import UnitLog
from aft.watch.screen import draw
from aft.watch.snapshot import AT_WORK, BUSY, CUT, DAMAGED, DONE, FINISHED, KILLED, NOT_STARTED, STOPPED, TO_DO, Watcher
from finished_run import make_plan, rewrite_manifest
from planted_text import IN_A_FILE, is_clean


@pytest.fixture
def plan(finished, tmp_path):
    return make_plan(shutil.copytree(finished, tmp_path / "run"))


def hold(run: RunFolder, *, alive: bool) -> None:
    """Leaves the file of a run that is at work (this process) or was killed."""
    process = {} if alive else {"process": 2**22 + 1, "started": "never"}
    run.owner.write_text(json.dumps({**lock._myself(), **process, "command": "aft-train --config x"}))


def begin(plan, stage="align", number=0):
    """Makes a finished unit one that was started: without its manifest, and without the log of its end."""
    unit = plan.units(stage)[number]
    unit.manifest.unlink()
    UnitLog(unit.folder, {"stage": stage})
    (unit.folder / "trainer_state.json").unlink(missing_ok=True)
    return unit


def log_lines(unit, steps, **more):
    keys = {"max_steps": 100, "loss": 2.0, "scores/positive": -0.5, "scores/negative": -1.5, "groups/both_fell": 0.25}
    lines = [json.dumps({"step": step, "time": 50.0 + step / 4, **keys, **more}) for step in steps]
    (unit.folder / LIVE_LOG).write_text("".join(f"{line}\n" for line in lines))


def page(snapshot, width=80):
    return "\n".join(line.plain for line in draw(snapshot, width))


def states(snapshot):
    return {stage: [state for _, state in units] for stage, units in snapshot.units.items()}


def test_a_finished_run(plan):
    found = Watcher(plan.folder).look()
    assert (found.state, found.words) == (FINISHED, f"the report is {plan.folder / 'report.md'}")
    assert {of for units in states(found).values() for of in units} == {DONE}
    assert [len(units) for units in states(found).values()] == [1, 2, 2, 2, 4, 4]
    assert found.work == [] and found.left is None and found.memory is None and found.peak > 0
    assert found.training.step == 4 and found.training.last("loss") == 1.5


def test_a_folder_that_is_absent_or_empty_is_not_started(tmp_path):
    for words in ("the folder does not exist yet", "the folder has no config.yaml yet"):
        found = Watcher(tmp_path / "run").look()
        assert (found.state, found.words, found.units) == (NOT_STARTED, words, {})
        assert not (tmp_path / "run").exists() or words.endswith("yaml yet")
        (tmp_path / "run").mkdir(exist_ok=True)


def test_a_run_at_work(plan):
    unit = begin(plan)
    log_lines(unit, range(1, 11))
    shutil.rmtree(plan.folder / "seed-0" / "evaluate")
    hold(plan.run, alive=True)
    work = {"unit": str(unit), "what": str(unit), "done": 10, "total": 100, "note": "loss 2.000", "left": 42}
    plan.run.progress.write_text(json.dumps({"stage": "align", "time": 1.0, "workers": [work]}))
    for manifest in [other.manifest for other in plan.units("evaluate") if other.manifest.exists()]:
        rewrite_manifest(
            next(u for u in plan.units("evaluate") if u.manifest == manifest), lambda m: m.update(seconds=9)
        )
    found = Watcher(plan.folder).look()
    assert found.state == AT_WORK and f"process {os.getpid()}" in found.words
    assert states(found)["align"] == [BUSY, DONE, DONE, DONE] and states(found)["evaluate"] == [
        TO_DO,
        TO_DO,
        DONE,
        DONE,
    ]
    assert (found.training.step, found.training.max_steps, found.training.speed) == (10, 100, 4.0)
    assert found.left == 42 + 2 * 9 and found.unknown == []
    assert found.memory > 2**20
    text = page(found)
    for words in (
        f"{unit}  10 % (10/100, loss 2.000, 00:42 left)",
        "align     ",
        "3/4 done 1 at work: rft seed 0",
        "loss 2.000, both fell 25%, 4 steps/s",
        "─ right -0.500 (+0.000)  ┄ wrong -1.500 (+0.000)  nats/token, steps 1-10",
        "3 units, about 60 s",
        "MiB now",
    ):
        assert words in text, text


def test_a_killed_run_and_one_that_ended_by_itself(plan):
    unit = begin(plan)
    log_lines(unit, [1, 2])
    found = Watcher(plan.folder).look()
    assert (found.state, states(found)["align"][0]) == (STOPPED, CUT)
    assert found.work[0].what == str(unit) and found.work[0].done == 2
    hold(plan.run, alive=False)
    work = {"what": str(unit), "done": 3, "total": 100, "note": "", "left": 42}
    plan.run.progress.write_text(json.dumps({"workers": [work]}))
    found = Watcher(plan.folder).look()
    assert (found.state, states(found)["align"][0], found.left) == (KILLED, CUT, None)
    assert found.words.startswith("the same command goes on from here; it was process ")
    assert f"{unit}   3 % (3/100)\n" in page(found), "a run that is gone has no time left"


def test_a_run_on_a_host_with_another_clock_is_gone_once_it_is_silent(plan, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: now[0])
    plan.run.owner.write_text(json.dumps({**lock._myself(), "host": "elsewhere"}))

    def look(seconds, beat=None):
        """What a watcher sees so many seconds later, after a sign of life at a time of the other clock."""
        now[0] += seconds
        if beat is not None:
            os.utime(plan.run.owner, (beat, beat))
        found = watcher.look()
        assert found.memory is None
        return found.state, found.words.partition("process")[0]

    behind = time.time() - 300
    watcher = Watcher(plan.folder)
    assert look(0, behind) == (AT_WORK, "no sign of life for 300 s; ")
    assert look(10, behind + 10) == (AT_WORK, "")
    assert look(40) == (AT_WORK, "no sign of life for 40 s; ")
    assert look(21)[0] == KILLED
    assert look(1, behind + 72) == (AT_WORK, ""), "its network was away"
    watcher = Watcher(plan.folder)
    assert look(0, behind + 1200) == (AT_WORK, ""), "ahead"
    assert look(59)[0] == AT_WORK and look(2)[0] == KILLED
    watcher = Watcher(plan.folder)
    assert look(0, behind - 3600)[0] == KILLED
    assert look(10, behind - 3590) == (AT_WORK, ""), "an hour behind"


def test_a_part_of_a_run_is_neither_finished_nor_cut(plan):
    shutil.rmtree(plan.folder / "seed-0" / "evaluate")
    found = Watcher(plan.folder).look()
    assert (found.state, found.words) == (STOPPED, "nobody is at work, and not every unit is done")


def test_a_sampling_without_a_conductor_counts_its_lines(plan):
    unit = begin(plan, "sample")
    hold(plan.run, alive=True)
    (unit.folder / "completions.jsonl").rename(unit.folder / "completions.part-00000.jsonl")
    lines = (unit.folder / "completions.part-00000.jsonl").read_text().count("\n")
    assert [(work.what, work.done) for work in Watcher(plan.folder).look().work] == [
        ("sample seed 0: lines written", lines)
    ]


def test_a_run_of_an_earlier_version_shows_the_log_of_its_newest_checkpoint(plan):
    unit = begin(plan)
    for step in (2, 4):
        path = unit.folder / f"checkpoint-{step}" / "trainer_state.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"max_steps": 9, "log_history": [{"step": step, "loss": 1.0}]}))
        os.utime(path, (step, step))
    found = Watcher(plan.folder).look().training
    assert (found.unit, found.step, found.max_steps, found.speed) == (unit, 4, 9, None)


def test_files_are_read_again_only_when_they_change(plan):
    unit = begin(plan)
    log_lines(unit, [1])
    watcher = Watcher(plan.folder)
    first = watcher.look()
    manifest = plan.units("align")[1].manifest
    before = manifest.stat()
    manifest.write_text("x" * before.st_size)
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert states(watcher.look()) == states(first)
    log_lines(unit, [1, 2])
    assert watcher.look().training.step == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"workers": 3}', '{"workers": [3, {"done": "x"}]}', "\x00"]
)
def test_no_damaged_file_stops_the_view(plan, content):
    unit = begin(plan)
    hold(plan.run, alive=True)
    (unit.folder / LIVE_LOG).write_text(f'{{"step": 1, "loss": NaN}}\n{content}\n{{"step": 2, "loss": 3}}\n{{"st')
    plan.run.progress.write_text(content)
    plan.units("vft")[0].manifest.write_text(content)
    begin(plan, number=1)
    (plan.units("align")[1].folder / "trainer_state.json").write_text(content)
    found = Watcher(plan.folder).look()
    assert states(found)["vft"] == [DAMAGED, DONE] and found.training.last("loss") == 3 and page(found)
    plan.run.config.write_text(content)
    assert sum(map(len, Watcher(plan.folder).look().units.values())) == 15, "those with a folder"
    plan.run.owner.write_text(content)
    assert Watcher(plan.folder).look().state in (AT_WORK, KILLED)


def test_text_from_outside_is_escaped(plan, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-of-a-test-0123456789abcdef")
    begin(plan)
    hold(plan.run, alive=True)
    plan.run.progress.write_text(
        json.dumps({"workers": [{"what": IN_A_FILE, "done": 1, "total": 2, "note": IN_A_FILE}]})
    )
    found = Watcher(plan.folder).look()
    assert is_clean(page(found, 10_000)) and "<script>" in page(found, 10_000)


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 5, 12, 23, 60])
def test_the_lines_fit_the_terminal(plan, width, height):
    unit = begin(plan)
    log_lines(unit, range(1, 500))
    hold(plan.run, alive=True)
    lines = draw(Watcher(plan.folder).look(), width, height)
    assert 0 < len(lines) <= height and all(line.cell_len <= width for line in lines)
    if (width, height) == (80, 23):
        assert any("─ right" in line.plain for line in lines), "the usual terminal shows the curve"
