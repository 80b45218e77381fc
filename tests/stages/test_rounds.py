"""Rounds: which units there are, what they read, when they stop, and how groups of several rounds become one."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from aft.config import align_config, load_config
from aft.errors import AftError, ConfigError
from aft.grading import grade_all
from aft.json_files import write_json, write_json_lines
from aft.labelling.outcomes import Outcomes
from aft.launch.conductor import _tell_rounds, show_plan
from aft.launch.units import run_here
from aft.records import Candidate, Completion, Group, Prefix
from aft.run.folder import RunFolder, method_round, round_name
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.limits import stop_before_alignment
from aft.stages.plan import DONE, RERUN, RESUME, RUN, Plan
from aft.stages.recompute import recompute
from aft.stages.rounds import describe, merge_groups, stand, validated
from aft.stages.train import _groups_of_rounds

OUTPUTS = {"sample": ["completions.jsonl"], "label": ["groups.jsonl", "counts.json"], "evaluate": ["metrics.json"]}
CHECKPOINT = ["config.json", "model.safetensors"]


@pytest.fixture
def make(tiny, tmp_path):
    """`make("key=value", ...)` plans the tiny run with these changes, always in the same folder."""
    return lambda *overrides: Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", *overrides]))


def finish(plan, unit, text=""):
    log = UnitLog(unit.folder, plan.inputs(unit))
    names = OUTPUTS.get(unit.stage, CHECKPOINT)
    if unit.stage == "validate":
        (unit.folder / "validation.json").write_text(json.dumps({"accuracy": float(text), "right": 1, "questions": 2}))
        names = ["validation.json"]
    else:
        names = [*names, *(["pool.jsonl"] if (unit.stage, unit.round) == ("label", 1) else [])]
        for name in names:
            (unit.folder / name).write_text(f"{unit} {text}")
    log.complete(names)


def finish_all(plan, accuracies=(0.1, 0.2, 0.3)):
    """Finishes every unit in running order, with these validation accuracies by round."""
    for stage, number in plan.steps(plan.stages()):
        for unit in plan.units(stage, number):
            finish(plan, unit, accuracies[unit.round - 1] if stage == "validate" else "")


def names(plan, stage):
    return [unit.name for unit in plan.units(stage)]


def waiting(plan):
    return {str(unit): status.state for unit, status in plan.forecast(plan.stages()) if status.state != DONE}


# ---- names and folders ----


def test_names_of_rounds():
    assert [round_name("aft", number) for number in (1, 2, 10)] == ["aft", "aft@2", "aft@10"]
    assert [method_round(name) for name in ("aft", "aft@2", "aft@10")] == [("aft", 1), ("aft", 2), ("aft", 10)]
    assert method_round("aft@1") == ("aft@1", 1) and method_round("a@b") == ("a@b", 1)


def test_a_path_gives_its_unit_and_a_unit_its_path(tmp_path):
    run = RunFolder(tmp_path)
    for stage, name in (
        ("sample", "aft@2"),
        ("label", "aft@10"),
        ("align", "aft@2"),
        ("validate", "aft"),
        ("label", None),
    ):
        unit = run.unit(stage, 3, name)
        unit.folder.mkdir(parents=True)
        assert run.unit_of(unit.folder / "file") == unit == run.unit_of(unit.folder)
    assert [str(unit) for unit in run.units()] == [
        *("sample aft@2 seed 3", "label seed 3", "label aft@10 seed 3", "align aft@2 seed 3", "validate aft seed 3")
    ]
    assert run.unit_of(tmp_path / "seed-3" / "rounds" / "aft@2") is None
    assert run.unit_of(tmp_path / "seed-3" / "rounds" / "aft@2" / "align") is None


# ---- the plan ----


def test_a_run_without_rounds_is_as_before(make):
    for plan in (make(), make("rounds=1"), make("rounds=null"), make("rounds={count: 1, keep: all}")):
        assert plan.stages() == ["pretrain", "vft", "sample", "label", "align", "evaluate"]
        assert [unit.folder.name for unit in plan.units("sample")] == ["sample"]
        assert not plan.units("validate") and names(plan, "evaluate") == ["base", "vft", "rft", "bcl"]


def test_a_plan_of_three_rounds(make):
    plan = make("rounds=3", "seeds=[0,1]")
    steps = list(plan.steps(plan.stages()))
    one_round = ["sample", "label", "align", "validate"]
    assert [stage for stage, _ in steps] == ["pretrain", "vft", *one_round, *one_round, *one_round, "evaluate"]
    assert [number for _, number in steps] == [None, None, *[1] * 4, *[2] * 4, *[3] * 4, None]
    assert [str(unit) for unit in plan.units("sample")] == [
        *("sample seed 0", "sample seed 1"),
        *("sample rft@2 seed 0", "sample bcl@2 seed 0", "sample rft@2 seed 1", "sample bcl@2 seed 1"),
        *("sample rft@3 seed 0", "sample bcl@3 seed 0", "sample rft@3 seed 1", "sample bcl@3 seed 1"),
    ]
    assert names(plan, "evaluate")[:8] == ["base", "vft", "rft", "rft@2", "rft@3", "bcl", "bcl@2", "bcl@3"]
    assert len(show_plan(plan, plan.stages()).splitlines()) > 40


def test_what_a_round_reads(make):
    def reads(plan, stage, name):
        unit = plan.run.unit(stage, 0, name)
        return {key: str(source).removeprefix(f"{plan.folder}/seed-0/") for key, source in plan.reads(unit).items()}

    last = make("rounds=3")
    assert reads(last, "sample", None) == {"vft": "vft"}
    assert reads(last, "sample", "bcl@2") == {"bcl": "align/bcl"}
    assert reads(last, "sample", "bcl@3") == {"bcl@2": "align/bcl@2"}
    assert reads(last, "label", "bcl@3") == {"completions": "rounds/bcl@3/sample/completions.jsonl"}
    assert reads(last, "align", "bcl") == {"vft": "vft", "groups": "label/groups.jsonl"}
    assert reads(last, "align", "bcl@3") == {"bcl@2": "align/bcl@2", "groups": "rounds/bcl@3/label/groups.jsonl"}
    everything = make("rounds={count: 3, keep: all, start_from: base}")
    assert reads(everything, "align", "bcl@3") == {
        "vft": "vft",
        "groups of round 1": "label/groups.jsonl",
        "groups of round 2": "rounds/bcl@2/label/groups.jsonl",
        "groups": "rounds/bcl@3/label/groups.jsonl",
    }


def test_adding_rounds_keeps_the_first_one(make):
    before = make()
    for stage in before.stages():
        for unit in before.units(stage):
            finish(before, unit)
    assert not waiting(before)
    assert {name.split()[0] for name in waiting(make("rounds=2")) if "@2" not in name} == {"validate"}


def test_a_cut_in_round_2_resumes_there(make):
    plan = make("rounds=2", "methods={bcl: {}}")
    for stage, number in list(plan.steps(plan.stages()))[:7]:
        for unit in plan.units(stage, number):
            finish(plan, unit, 0.5)
    (cut,) = plan.units("label", 2)
    UnitLog(cut.folder, plan.inputs(cut))
    assert list(waiting(plan).values())[:2] == [RESUME, RUN] and next(iter(waiting(plan))) == str(cut)


def test_a_changed_key_runs_again_what_follows(make):
    finish_all(make("rounds=3"))
    assert not waiting(make("rounds=3"))
    later = waiting(make("rounds={count: 3, keep: all}"))
    assert {name: state for name, state in later.items() if name.startswith("align")} == {
        f"align {name} seed 0": RERUN for name in ("rft@2", "bcl@2", "rft@3", "bcl@3")
    }
    assert "sample bcl@2 seed 0" not in later and "sample bcl@3 seed 0" in later
    assert "validate bcl seed 0" not in later
    assert {name.split()[0] for name in waiting(make("rounds={count: 3, validation_questions: 4}"))} == {"validate"}
    assert not waiting(make("rounds={count: 3, patience: 2}")), "what validation stops is no input"
    plan = make("rounds=3", "methods={rft: {supervise: reference_and_positives, loss: null}, bcl: {max_candidates: 2}}")
    assert not any("rft" in name for name in waiting(plan)) and "align bcl seed 0" in waiting(plan)


def test_validation_stops_rounds(make):
    finish_all(make("rounds=3"), (0.4, 0.3, 0.5))
    plan = make("rounds={count: 3, patience: 1}")
    assert names(plan, "align") == ["rft", "bcl", "rft@2", "bcl@2"]
    assert names(plan, "evaluate") == ["base", "vft", "rft", "rft@2", "bcl", "bcl@2"]
    assert plan.final_model("bcl", 0) == "bcl"
    assert plan.describe_rounds()["bcl"] == {"0": {"validation": [0.4, 0.3], "final": "bcl", "stopped_after": 2}}
    assert make("rounds=3").final_model("bcl", 0) == "bcl@3"
    # a model that is made again may be better, so that its rounds may go on
    again = make("rounds={count: 3, patience: 1}", "align.training.max_steps=5")
    assert "align bcl@3 seed 0" in waiting(again)
    assert make("rounds={count: 3, validation_questions: 0}").final_model("bcl", 0) == "bcl@3"


def test_stops_are_read_once_and_units_listed_once(make, monkeypatch):
    finish_all(make("rounds=3"))
    plan, counted = make("rounds={count: 3, patience: 1}"), Counter()
    for name in ("standing", "units"):
        own = getattr(Plan, name)
        count = lambda self, *given, own=own, name=name: counted.update([name]) or own(self, *given)  # noqa: E731
        monkeypatch.setattr(Plan, name, count)
    plan.units("sample")
    assert counted == {"standing": 2, "units": 1}, "two methods with one seed"
    counted.clear()
    run_here(plan, "label", range(5))
    assert counted["units"] == 1


def test_too_few_validation_questions(make):
    make("rounds=2").check_rounds()
    with pytest.raises(ConfigError, match=r"rounds.validation_questions: 20, but there are 16"):
        make("rounds={count: 2, validation_questions: 20}").check_rounds()
    with pytest.raises(ConfigError, match="0: the last round is the final model"):
        make("rounds=2", "data.num_validation=0", "sample.pool_questions=0").check_rounds()
    make(
        "rounds={count: 2, validation_questions: 0}", "data.num_validation=0", "sample.pool_questions=0"
    ).check_rounds()


def validate(plan, unit):
    """Writes what a validation of chance writes."""
    questions = plan.validation_questions(unit.seed)
    log = UnitLog(unit.folder, plan.inputs(unit))
    completions = [
        Completion(q.id, 0, f"[ANS] {q.answer}" if n % 2 else "no", False, 3, n) for n, q in enumerate(questions)
    ]
    predictions = grade_all(plan.task, completions, questions)
    write_json_lines(unit.folder / "completions.jsonl", completions)
    write_json_lines(unit.folder / "predictions.jsonl", predictions)
    write_json(unit.folder / "validation.json", validated(predictions))
    log.complete(["completions.jsonl", "predictions.jsonl", "validation.json"])


def test_validations_of_a_folder_without_rounds_are_checked(make):
    before, now = make("rounds=2"), make()
    unit = before.run.unit("validate", 0, "bcl")
    for name in CHECKPOINT:
        model = before.run.unit("align", 0, "bcl").folder
        model.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("")
    validate(before, unit)
    for plan in (before, now):
        found = recompute(plan, unit, read_manifest(unit.manifest))
        assert found.numbers > 0 and not found.wrong, found.wrong


# ---- rounds whose samples leave nothing to compare ----


def label(plan, number, name, **counts):
    """Finishes the label unit of a round with these counts."""
    [unit] = [unit for unit in plan.units("label", number) if unit.name == name]
    log = UnitLog(unit.folder, plan.inputs(unit))
    for file in ("groups.jsonl", *(["pool.jsonl"] if number == 1 else [])):
        (unit.folder / file).write_text(f"{unit} {counts}")
    write_json(unit.folder / "counts.json", counts)
    log.complete(["groups.jsonl", "counts.json"])


PAIRS = {"outcomes": vars(Outcomes(questions=4, completions=8, all_right=1)), "groups_with_pair": 3}
ALL_RIGHT = {"outcomes": vars(Outcomes(questions=4, completions=8, all_right=4)), "groups_with_pair": 0}


def saturate(make, *overrides, second=ALL_RIGHT):
    """Two finished rounds of three. The counts of bcl's labels in round 2 are `second`."""
    plan = make("rounds.count=3", *overrides)
    for stage, number in [step for step in plan.steps(plan.stages()) if step[1] != 3 and step[0] != "evaluate"]:
        for unit in plan.units(stage, number):
            if stage == "label":
                label(plan, number, unit.name, **(second if unit.name == "bcl@2" else PAIRS))
            else:
                finish(plan, unit, 0.5 if stage == "validate" else "")
    return plan


@pytest.mark.parametrize("change", ["methods.bcl.max_candidates=4", "methods.bcl={groups: mixed, loss: {name: kto}}"])
def test_rounds_end_where_samples_leave_nothing_to_compare(make, change, capsys):
    plan = saturate(make, change)
    assert names(plan, "align") == ["rft", "bcl", "rft@2", "rft@3"] and names(plan, "validate") == names(plan, "align")
    assert names(plan, "sample") == [None, "rft@2", "bcl@2", "rft@3"] == names(plan, "label")
    assert "bcl@2" not in names(plan, "evaluate")
    assert plan.describe_rounds()["bcl"] == {
        "0": {"validation": [0.5], "final": "bcl", "stopped_after": 1, "nothing_to_compare_in": 2}
    }
    stop_before_alignment(plan, plan.units("align"))
    _tell_rounds(plan, "validate", 2)
    told = capsys.readouterr().err
    assert "bcl seed 0: the samples of round 2 leave nothing to compare: stops" in told
    assert "bcl seed 0: the final model is bcl" in told
    # a model that is made again may write wrong samples, too
    again = make("rounds.count=3", change, "align.training.max_steps=5")
    assert {"label bcl@2 seed 0", "align bcl@2 seed 0"} <= {*waiting(again)}


def test_groups_of_earlier_rounds_have_pairs_to_compare(make):
    plan = saturate(make, "rounds.keep=all")
    assert "bcl@2" in names(plan, "align")
    stop_before_alignment(plan, plan.units("align", 2))


def test_a_limit_on_samples_of_a_later_round_names_their_model(make):
    poor = Outcomes(questions=4, completions=8, unparsed=8, unmarked=8)
    plan = saturate(make, "label.stop.unparsed=0.5", second={"outcomes": vars(poor), "groups_with_pair": 2})
    with pytest.raises(AftError, match=r"label bcl@2 seed 0: stopped .* cause: bcl strays from the marker \[ANS\]"):
        stop_before_alignment(plan, plan.units("align", 2))


# ---- the rule ----


@pytest.mark.parametrize(
    ("accuracies", "patience", "best", "stopped"),
    [
        ((), 1, None, None),
        ((0.2,), 1, 1, None),
        ((0.2, 0.2), 1, 1, 2),  # of equals the earliest, and no better one
        ((0.2, 0.3, 0.1, 0.5), 1, 2, 3),
        ((0.2, 0.3, 0.1, 0.5), 2, 4, None),
        ((0.5, 0.3, 0.1, 0.6), 2, 1, 3),
        ((0.5, 0.3, 0.1, 0.6), None, 4, None),
    ],
)
def test_the_best_round_and_the_stop(accuracies, patience, best, stopped):
    found = stand(accuracies, patience)
    assert (found.best, found.stopped) == (best, stopped)
    assert len(found.accuracies) == (stopped or len(accuracies))
    assert describe(found, "aft", 4)["final"] == round_name("aft", best or 4)


@pytest.mark.parametrize(
    ("accuracies", "patience", "final", "stopped", "saturated"),
    [
        ((), None, "aft@2", 2, 3),  # without validation, the last round that was trained
        ((0.4, 0.3), None, "aft", 2, 3),
        ((0.4, 0.3, 0.9), None, "aft", 2, 3),  # of an earlier run of round 3
        ((0.4, 0.3), 1, "aft", 2, None),  # validation stops it before
    ],
)
def test_the_stop_where_samples_leave_nothing(accuracies, patience, final, stopped, saturated):
    found = stand(accuracies, patience, 3)
    assert (found.stopped, found.saturated, describe(found, "aft", 4)["final"]) == (stopped, saturated, final)
    assert found.has("label", 3) == (saturated == 3) and not found.has("align", 3) and not found.has("label", 4)


# ---- groups ----


def group(question, *texts):
    return Group(
        question, f"{question}?", "1", None, tuple(Candidate(t, float(t[0] == "r"), "positive") for t in texts)
    )


def test_groups_of_rounds_keep_every_candidate_once():
    first = [group("a", "r1", "w1", "w2", "w3"), group("b", "w1")]
    second = [group("a", "w2", "r2", "w4"), group("b"), group("c", "r1")]
    merged = merge_groups([first, second])
    assert [(g.question_id, [c.completion for c in g.candidates]) for g in merged] == [
        ("a", ["r1", "w1", "w2", "w3", "r2", "w4"]),
        ("b", ["w1"]),
        ("c", ["r1"]),
    ]
    assert merge_groups([first]) == first


def test_merged_candidates_keep_what_they_are():
    """A repeated index is no repeated text, and a repeat does not take the mask or the beginning of the first."""
    first = Candidate("w1", 0.0, "negative", index=0, token_ids=(1, 2))
    repeat = Candidate("w1", 0.0, "negative", index=8, token_ids=(1, 2), response_mask=(0, 1), prefix=Prefix(0, 1))
    other = Candidate("w2", 0.0, "negative", index=0, token_ids=(1, 3), response_mask=(0, 1), prefix=Prefix(2, 1))
    rounds = [[dataclasses.replace(group("a"), candidates=c)] for c in ((first,), (repeat, other))]
    assert merge_groups(rounds)[0].candidates == (first, other)


def test_groups_are_merged_by_the_rule_of_the_labels(make):
    reference = Candidate("ref", 1.0, "reference")
    one = [
        dataclasses.replace(group("a", "r1", "r1", "w1"), candidates=(reference, *group("a", "r1", "w1").candidates))
    ]
    texts = [c.completion for c in merge_groups([one, one], deduplicate="none")[0].candidates]
    assert texts == ["ref", "r1", "w1", "r1", "w1"]
    assert [c.completion for c in merge_groups([one, one])[0].candidates] == ["ref", "r1", "w1"]

    def kept(*changes):
        plan = make("rounds={count: 2, keep: all}", *changes)
        return plan._sections(plan.units("align", 2)[0])["rounds"]

    assert kept("label.deduplicate=none") == {**kept(), "deduplicate": "none"}


def test_candidates_are_chosen_before_rounds_are_merged(make):
    """Round 1 sampled a wrong chain whole that round 2 has from a right beginning; and the other way round."""
    methods = "methods={step: {negatives: from_prefix}, whole: {negatives: sampled}}"
    plan = make("rounds={count: 2, keep: all}", "sample.from_prefix={}", methods)
    whole = Candidate("w", 0.0, "negative", index=0)
    step = Candidate("w", 0.0, "negative", index=8, token_ids=(1, 2), response_mask=(0, 1), prefix=Prefix(0, 1))
    for method, first, second in (("step", whole, step), ("whole", step, whole)):
        unit = plan.run.unit("align", 0, f"{method}@2")
        for labels, candidate in zip(plan.label_units(unit), (first, second), strict=True):
            labels.folder.mkdir(parents=True, exist_ok=True)
            groups = [Group(q.id, q.question, q.answer, None, (candidate,)) for q in plan.training_questions(0)]
            write_json_lines(labels.folder / "groups.jsonl", groups)
        found = _groups_of_rounds(plan, unit, align_config(plan.config, method))
        assert all(g.candidates == (second,) for g in found) and len(found) == 48
