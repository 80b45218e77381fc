"""Limits on what became of samples: the warning, the stop before alignment, and how a stopped run goes on."""

from __future__ import annotations

import json

import pytest

from aft.config import load_config
from aft.errors import AftError, ConfigError
from aft.json_files import read_json, write_json_lines
from aft.launch.units import run_here
from aft.stages.limits import judge_completions, stop_before_alignment
from aft.stages.plan import DONE, Plan


@pytest.fixture
def make(tiny, tmp_path):
    """`make("key=value", ...)` plans the tiny run with these changes, always in the same folder."""
    return lambda *overrides: Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *overrides]))


def sample(plan, text, right=0):
    """Completions of every question: `text`, and for the first `right` questions the right answer as well."""
    lines = []
    for number, question in enumerate(plan.training_questions(0)):
        for index, own in enumerate([text, *([f"[ANS] {question.answer}"] if number < right else [])]):
            line = {"question_id": question.id, "index": index, "completion": own}
            lines.append({**line, "truncated": False, "num_tokens": 3, "seed": 0})
    path = plan.completions(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(path, lines)


def test_a_warning_shows_three_samples_the_cause_and_the_key(make, capsys):
    plan = make("sample.pool_questions=0")
    sample(plan, "line\n#### 7")
    run_here(plan, "label")
    told = capsys.readouterr().err
    warning = told[told.index("label seed 0: warning: ") :].splitlines()
    assert warning[0] == (
        "label seed 0: warning: 48 of 48 completions unparsed (100.0 %), limit label.warn.unparsed 0.2,"
        " 48 of 48 questions all wrong (100.0 %), limit label.warn.all_wrong 0.9"
    )
    questions = [question.id for question in plan.training_questions(0)[:3]]
    assert warning[1:4] == [f"  completion 0 of {name}: line\\n#### 7" for name in questions]
    assert warning[4].endswith("give an answer after '####': the model has a format of its own")
    assert warning[5] == '  to change: data.answer_marker: "####"'
    assert len(warning) == 6


def test_good_samples_bring_no_warning(make, capsys):
    plan = make("sample.pool_questions=0")
    sample(plan, "[ANS] -1", right=24)
    run_here(plan, "label")
    assert "warning" not in capsys.readouterr().err
    stop_before_alignment(plan, plan.units("align"))
    kept = read_json(plan.run.counts(0))["outcomes"]
    assert (kept["completions"], kept["unparsed"], kept["questions"], kept["all_wrong"]) == (72, 0, 48, 24)


def test_after_sampling_only_completions_are_judged(make, capsys):
    from aft.records import read_completions

    plan = make("sample.pool_questions=0")
    sample(plan, "[ANS] -1")  # all wrong, but in order
    unit = plan.units("sample")[0]
    judge_completions(plan, unit, read_completions(plan.completions(0)))
    shares = "48 completions unparsed (0.0 %), 0 of 48 completions truncated (0.0 %)"
    assert capsys.readouterr().err == f"sample seed 0: 0 of {shares}\n"
    sample(plan, "")
    judge_completions(plan, unit, read_completions(plan.completions(0)))
    told = capsys.readouterr().err
    assert told.startswith("sample seed 0: warning: 48 of 48 completions unparsed") and "all wrong" not in told


def test_labelling_compares_each_sample_once_and_sampling_none(make, monkeypatch):
    from aft.records import read_completions

    plan, compared = make("sample.pool_questions=8"), []
    is_correct = plan.task.is_correct
    monkeypatch.setattr(plan.task, "is_correct", lambda *given: compared.append(given) or is_correct(*given))
    sample(plan, "[ANS] -1", right=24)
    judge_completions(plan, plan.units("sample")[0], read_completions(plan.completions(0)))
    assert not compared
    run_here(plan, "label")
    assert len(compared) == 72


def test_a_run_stops_before_alignment_and_goes_on_with_other_limits(make):
    plan = make("sample.pool_questions=0", "label.include_reference=false")
    sample(plan, "no answer")
    run_here(plan, "label")
    with pytest.raises(AftError) as stopped:
        stop_before_alignment(plan, plan.units("align"))
    message = str(stopped.value)
    assert stopped.value.exit_code == 1 and "\n" not in message
    assert message.startswith(
        "label seed 0: stopped before alignment: 48 of 48 questions all wrong (100.0 %), limit label.stop.all_wrong 1."
        " Likeliest cause: the marker [ANS] is not learnt"
    )
    assert message.endswith("All files are kept; the same command with label.stop.all_wrong=null goes on")
    # the labels are finished, and other limits outdate nothing
    limits = ["label.stop.all_wrong=null", "label.warn.unparsed=0.5"]
    other = make("sample.pool_questions=0", "label.include_reference=false", *limits)
    (unit,) = other.units("label")
    assert other.status(unit).state == DONE and plan.status(unit).state == DONE
    assert other.inputs(unit) == plan.inputs(unit)
    stop_before_alignment(other, other.units("align"))


def test_a_stricter_limit_is_the_users_to_set(make):
    plan = make("sample.pool_questions=0", "label.stop.unparsed=0.3")
    sample(plan, "no answer", right=48)
    run_here(plan, "label")
    with pytest.raises(AftError, match=r"48 of 96 completions unparsed \(50\.0 %\), limit label\.stop\.unparsed 0\.3"):
        stop_before_alignment(plan, plan.units("align"))


def test_other_ratings_can_rank_what_is_all_wrong(make, tmp_path):
    module = tmp_path / "rate.py"
    module.write_text("def rate(completion, **_):\n    return float(len(completion))\n")
    plan = make("sample.pool_questions=0", f"label.ratings={{name: function, function: '{module}:rate'}}")
    sample(plan, "[ANS] -1")
    run_here(plan, "label")
    stop_before_alignment(plan, plan.units("align"))


ALL_WRONG = "48 of 48 questions all wrong (100.0 %), limit label.stop.all_wrong 1"
ALL_RIGHT = "48 of 48 questions all right (100.0 %), limit label.stop.all_right 1"


def labelled(make, *overrides, loss, right=False):
    """A plan with RFT and a method with this loss, and labelled samples that are all right or all wrong."""
    options = ["sample.pool_questions=0", "label.include_reference=false", f"methods.bcl.loss={json.dumps(loss)}"]
    plan = make(*options, *overrides)
    sample(plan, "[ANS] -1")
    if right:
        answers = {question.id: question.answer for question in plan.training_questions(0)}
        lines = [json.loads(line) for line in plan.completions(0).read_text().splitlines()]
        lines = [{**line, "completion": f"[ANS] {answers[line['question_id']]}"} for line in lines]
        write_json_lines(plan.completions(0), lines)
    run_here(plan, "label")
    return plan


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("loss", [None, {"name": "kto"}, {"name": "nca"}], ids=["supervised", "kto", "nca"])
def test_methods_that_need_no_pairs_go_on_with_a_warning(make, capsys, right, loss):
    plan = labelled(make, loss=loss, right=right)
    capsys.readouterr()
    stop_before_alignment(plan, plan.units("align"))
    said = ALL_RIGHT if right else ALL_WRONG
    told = f"label seed 0: warning: {said}. Alignment goes on, because no loss that is to be trained needs pairs\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("loss", [{}, {"name": "dpo"}, {"name": "kto", "reduction": "mean_with_pair"}])
def test_one_method_that_needs_pairs_stops_the_run_while_it_waits(make, loss):
    plan = labelled(make, loss=loss, right=True)
    with pytest.raises(AftError, match=r"48 of 48 questions all right"):
        stop_before_alignment(plan, plan.units("align"))
    stop_before_alignment(plan, [unit for unit in plan.units("align") if unit.name == "rft"])


def test_a_limit_on_completions_counts_for_every_method(make):
    plan = labelled(make, "label.stop.unparsed=0.5", "data.answer_marker='####'", loss=None)
    with pytest.raises(
        AftError, match=r"48 of 48 completions unparsed \(100\.0 %\), limit label\.stop\.unparsed 0\.5\."
    ):
        stop_before_alignment(plan, plan.units("align"))


def test_references_make_pairs_with_wrong_samples(make):
    """A limit below 1 is the user's own, and counts although there are pairs."""
    plan = labelled(make, "label.include_reference=true", loss={})
    counts = read_json(plan.run.counts(0))
    assert counts["groups_with_pair"] == 24 and counts["outcomes"]["all_wrong"] == 48
    stop_before_alignment(plan, plan.units("align"))
    plan = labelled(make, "label.include_reference=true", "label.stop.all_wrong=0.9", loss={})
    with pytest.raises(AftError, match=r"limit label\.stop\.all_wrong 0\.9"):
        stop_before_alignment(plan, plan.units("align"))


def test_labels_of_earlier_versions_are_not_judged(make):
    plan = make()
    plan.run.counts(0).parent.mkdir(parents=True)
    plan.run.counts(0).write_text(json.dumps({"questions": 48}))
    stop_before_alignment(plan, plan.units("align"))


@pytest.mark.parametrize("value", ["0", "1.5", "-0.1"])
def test_a_limit_is_a_share(make, value):
    with pytest.raises(ConfigError, match=r"label\.(warn|stop)\.truncated: must be (above 0|at most 1)"):
        make(f"label.warn.truncated={value}", f"label.stop.truncated={value}")
