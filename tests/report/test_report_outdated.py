"""Figures of models that were trained again are told, and tables leave out what is another method by the same name."""

from __future__ import annotations

import json

from aft.paper.methods import fits
from aft.paper.run_results import read_run
from aft.report.build import build_report
from aft.run.manifest import digest_folder


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_run(tmp_path, loss):
    """A run with one evaluated method called aft-boundary."""
    trained = tmp_path / "seed-0" / "align" / "aft-boundary"
    write(trained / "config.json", {"weights": 1})
    write(trained / "manifest.json", {"inputs": {"config": {"align": {"loss": loss, "training": {}}}}, "outputs": {}})
    figures = dict.fromkeys(("assessment_accuracy", "perplexity", "pool"))
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    evaluated = tmp_path / "seed-0" / "evaluate" / "aft-boundary"
    write(evaluated / "metrics.json", {"split": "test", "checkpoint": "x", "task_accuracy": accuracy, **figures})
    write(evaluated / "manifest.json", {"inputs": {"reads": {"model": digest_folder(trained)}}, "outputs": {}})
    return trained


BOUNDARY = {"name": "alignment", "constraint": {"name": "boundary", "beta": 0.15}}
SIMPO = {"name": "simpo", "constraint": {"name": "boundary", "beta": 0.15}}


def test_a_model_trained_again_makes_its_figures_outdated(tmp_path):
    trained = make_run(tmp_path, BOUNDARY)
    told = "aft-boundary: outdated for seed 0: trained again since it was evaluated"
    assert told not in build_report(tmp_path)["missing"]
    write(trained / "config.json", {"weights": 2})
    assert told in build_report(tmp_path)["missing"]
    assert told in read_run(tmp_path).notes


def test_weights_that_were_deleted_outdate_nothing(tmp_path):
    trained = make_run(tmp_path, BOUNDARY)
    manifest = json.loads((trained / "manifest.json").read_text())
    write(trained / "manifest.json", {**manifest, "outputs": {"config.json": "size:14", "model.safetensors": "size:9"}})
    write(trained / "config.json", {"weights": 2})
    assert not any("outdated" in line for line in build_report(tmp_path)["missing"])


def test_another_method_by_that_name_is_no_row_of_a_table(tmp_path):
    make_run(tmp_path / "own", BOUNDARY)
    assert set(read_run(tmp_path / "own").models) == {"aft-boundary"}
    make_run(tmp_path / "other", SIMPO)
    run = read_run(tmp_path / "other")
    assert run.models == {}
    assert run.notes == ("aft-boundary: left out, as it is another method by that name (simpo, constraint boundary)",)


def test_what_fits_a_name():
    assert fits("aft-bcl", BOUNDARY) and fits("aft-bc-beta0.3", BOUNDARY) and fits("aft-bc-lr0.001", BOUNDARY)
    assert not fits("aft-dcl", BOUNDARY) and not fits("rft", BOUNDARY) and not fits("aft-bc", None)
    assert fits("rft", None) and fits("whatever", SIMPO)
    detached = {"name": "alignment", "constraint": {"name": "detached", "lowest_only": True}}
    assert fits("aft-dc2", detached) and not fits("aft-dc", detached)
    assert fits("rrhf-dc-w0.5", {"name": "rrhf", "constraint": {"name": "detached", "lowest_only": False}})
