"""What the trackers of a run are told: names of units, the report once, and no reason to train anything again."""

from __future__ import annotations

import os

import pytest

from aft.cli.report import track_report
from aft.report.build import write_report
from aft.report.figures import mean_figures, seed_figures
from aft.report.page import main_rows
from aft.report.read import read_report
from aft.run.manifest import read_manifest
from aft.stages.plan import DONE
from aft.stages.tracking import find_trackers, track
from aft.training.arguments import make_arguments
from aft.training.trackers import IDENTITY
from finished_run import finish_run, make_plan, rewrite_manifest


@pytest.fixture
def finished(tmp_path):
    return finish_run(tmp_path / "run")


def test_no_tracker_is_the_default(finished):
    assert find_trackers(finished) == []
    before = sorted(finished.folder.rglob("*"))
    track_report(finished)
    assert sorted(finished.folder.rglob("*")) == before


def test_a_tracker_or_another_name_outdates_no_unit(finished):
    keys = ["report_to=[tensorboard, wandb]", "run_name=x", "project=y", "trackio_space_id=me/z"]
    plan = make_plan(finished.folder, *(f"training.{key}" for key in keys))
    assert {status.state for _, status in plan.forecast(plan.stages())} == {DONE}
    assert find_trackers(plan) == ["tensorboard", "wandb"]
    # a manifest of an earlier version has the keys
    unit = finished.run.unit("vft", 0)
    training = {**read_manifest(unit.manifest)["inputs"]["config"]["vft"]["training"], "report_to": "none"}
    rewrite_manifest(unit, lambda manifest: manifest["inputs"]["config"]["vft"].update(training=training))
    assert plan.status(unit).state == finished.status(unit).state == DONE


def test_a_method_s_own_tracker_is_found(finished):
    plan = make_plan(finished.folder, "methods.bcl.training={report_to: mlflow}")
    assert find_trackers(plan) == ["mlflow"]


@pytest.mark.parametrize(
    ("keys", "name", "project"),
    [
        ("{}", "run/seed-1/align/bcl", "run"),
        ("{run_name: 'second try', project: 'my thesis'}", "second try/seed-1/align/bcl", "my-thesis"),
    ],
)
def test_the_name_says_which_unit_it_is(finished, keys, name, project):
    plan = make_plan(finished.folder, f"training={keys}")
    unit = plan.run.unit("align", 1, "bcl")
    values = plan.training(plan.config.align.training)
    arguments = make_arguments({**values, "report_to": "none"}, unit.folder, seed=1, data_seed=0, cpu=True)
    run = track(plan, unit, arguments).run
    assert (run.name, run.project, run.group) == (name, project, "run")
    assert (arguments.run_name, arguments.project, arguments.report_to) == (name, project, [])
    assert run.settings["seed"] == 1 and run.settings["align"]["loss"]["constraint"]["name"] == "boundary"


def test_the_report_is_added_once_and_final_figures_go_to_their_unit(finished, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install 'aft[trackers]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    plan = make_plan(finished.folder, "training.report_to=tensorboard")
    unit = plan.run.unit("align", 0, "bcl")
    (unit.folder / IDENTITY).write_text('{"id": "0123"}')  # its training was tracked; that of seed 1 was not
    write_report(plan.folder, picture=False)
    report = read_report(plan.run.report("json"))
    for _ in range(2):
        track_report(plan)
        assert len(list((plan.folder / "tensorboard").iterdir())) == 1
    found = EventAccumulator(str(plan.folder / "tensorboard")).Reload()
    figures = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
    assert figures == pytest.approx(mean_figures(report), abs=1e-6) and "bcl/task_accuracy" in figures
    own = EventAccumulator(str(unit.folder / "tensorboard")).Reload()
    final = {tag.removeprefix("final/"): own.Scalars(tag)[0].value for tag in own.Tags()["scalars"]}
    assert final == pytest.approx(seed_figures(report)["bcl", 0], abs=1e-6)
    assert not (plan.run.unit("align", 1, "bcl").folder / "tensorboard").exists()
    assert plan.status(unit).state == DONE


def test_the_figures_are_those_of_the_table(finished):
    report = read_report(finished.run.report("json"))
    headings, rows = main_rows(report)
    place = next(place for place, heading in enumerate(headings) if heading.startswith("task accuracy"))
    for row in rows:
        assert row[place].startswith(f"{100 * mean_figures(report)[f'{row[0]}/task_accuracy']:.2f}")
    by_seed = [seed_figures(report)["bcl", seed]["task_accuracy"] for seed in (0, 1)]
    assert sum(by_seed) / 2 == pytest.approx(mean_figures(report)["bcl/task_accuracy"])
    assert "WANDB_PROJECT" not in os.environ
