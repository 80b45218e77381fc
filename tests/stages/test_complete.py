"""No stage takes a file of the run that lacks what was asked for. A file that was given may be partial."""

from __future__ import annotations

import shutil

import pytest

from aft.errors import DataError
from aft.records import read_completions, read_groups, write_json_lines
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.complete import check_completions, check_groups
from aft.stages.label import run_label
from finished_run import finish_run, make_plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finish_run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def plan(finished, tmp_path):
    return make_plan(shutil.copytree(finished, tmp_path / "run"))


def change_completions(plan, change):
    """Rewrites the sampled completions, with a manifest that agrees."""
    unit, path = plan.run.unit("sample", 0), plan.completions(0)
    completions = read_completions(path)
    write_json_lines(path, change(completions))
    UnitLog(unit.folder, read_manifest(unit.manifest)["inputs"]).complete(["completions.jsonl"])


CHANGES = {
    "has no completion; 30 were asked for": lambda completions: [],
    "lacks 1 of 30 completions, the first of question 'train-0-1', index 2": lambda found: [*found[:5], *found[6:]],
    "lacks 9 of 30 completions, the first of question 'train-0-0', index 0": lambda found: found[9:],
    ":31: completion 1 of question 'train-0-0' appears twice, first in line 2": lambda found: [*found, found[1]],
}


@pytest.mark.parametrize("told", CHANGES)
def test_labels_are_not_made_of_less_than_was_sampled(plan, told):
    label = plan.run.unit("label", 0)
    before = {path.name: path.read_bytes() for path in label.folder.iterdir()}
    change_completions(plan, CHANGES[told])
    with pytest.raises(DataError) as caught:
        run_label(plan, label, lambda: pytest.fail("the labels were begun"))
    assert str(plan.completions(0)) in str(caught.value) and told in str(caught.value)
    assert before == {path.name: path.read_bytes() for path in label.folder.iterdir()}


def test_given_completions_may_be_partial_and_are_told(plan, capsys):
    plan.run.unit("sample", 0).manifest.unlink()
    completions = read_completions(plan.completions(0))
    check_completions(plan, plan.run.unit("label", 0), completions[:4])
    told = capsys.readouterr().err
    assert f"label seed 0: {plan.completions(0)} lacks 26 of 30 completions, the first of question 'train-0-1'" in told
    assert told.endswith("It was given, or made for other questions: label goes on with it\n")
    with pytest.raises(DataError, match="has no completion"):
        check_completions(plan, plan.run.unit("label", 0), [])


def test_more_samples_in_the_configuration_than_were_made_are_not_missed(plan, capsys):
    # `--stage label` on the samples that are there: their own manifest says how many were asked for
    more = make_plan(plan.folder, "sample={num_samples: 5, pool_questions: 2}")
    check_completions(more, more.run.unit("label", 0), read_completions(plan.completions(0)))
    assert capsys.readouterr().err == ""


def test_other_questions_than_were_sampled_are_told(plan, capsys):
    more = make_plan(plan.folder, "data.num_train=9")
    check_completions(more, more.run.unit("label", 0), read_completions(plan.completions(0)))
    assert "completions, the first of question" in capsys.readouterr().err


def test_groups_are_those_of_every_question(plan, capsys):
    unit, path = plan.run.unit("align", 0, "bcl"), plan.groups(0)
    groups, questions = read_groups(path), plan.training_questions(0)
    check_groups(plan, unit, groups, questions, path)
    for bad, told in (
        ([], "has no group; 8 were asked for"),
        (groups[1:], "lacks 1 of 8 groups, the first of question 'train-0-0'"),
    ):
        with pytest.raises(DataError, match=told):
            check_groups(plan, unit, bad, questions, path)
    pool = plan.pool(0)
    with pytest.raises(DataError, match="lacks 1 of 2 groups"):
        check_groups(plan, plan.run.unit("evaluate", 0, "bcl"), read_groups(pool)[1:], plan.pool_questions(0), pool)
    plan.run.unit("label", 0).manifest.unlink()
    check_groups(plan, unit, groups[1:], questions, path)
    assert "lacks 1 of 8 groups" in capsys.readouterr().err
    with pytest.raises(DataError, match="has no group"):
        check_groups(plan, unit, [], questions, path)
