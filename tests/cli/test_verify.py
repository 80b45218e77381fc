"""aft-verify: what a table says of a run that is whole, damaged, moved, forged, or of an earlier version."""

from __future__ import annotations

import json
import shutil

import pytest

from aft.json_files import write_json, write_json_lines
from aft.launch.conductor import open_folder
from aft.records import read_completions
from aft.run.manifest import UnitLog, read_manifest
from aft.stages.label import run_label
from finished_run import finish_run, make_plan, rewrite_manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finish_run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.fixture
def moved(finished, tmp_path):
    """A copy under another name; its configuration still names the folder in which it was made."""
    return make_plan(shutil.copytree(finished, tmp_path / "moved"))


@pytest.fixture
def verify(command):
    """Runs aft-verify and returns its exit code, the verdicts that are not good, and all that it printed."""

    def run(plan, *options):
        ran = command("verify", plan.folder, *options)
        table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines() if line[:1] == "|"]
        assert table[0] == ["unit", "files", "numbers", "verdict"]
        return ran.code, {row[0]: row[3] for row in table[2:] if row[3] != "good"}, ran.out + ran.err

    return run


def forge(unit, file, change):
    """Changes a file and finishes the unit anew, so that the manifest agrees with the file."""
    path = unit.folder / file
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        change(lines)
        write_json_lines(path, lines)
    else:
        value = json.loads(path.read_text())
        change(value)
        write_json(path, value)
    manifest = read_manifest(unit.manifest)
    known = {"unit", "inputs", "outputs", "files", "digest", "versions", "git_revision", "seconds", "finished"}
    facts = {key: value for key, value in manifest.items() if key not in {*known, "peak_memory_bytes"}}
    UnitLog(unit.folder, manifest["inputs"]).complete(list(manifest["outputs"]), **facts)


def test_a_moved_run_is_good_and_stays_as_it_is(moved, verify):
    before = {path: path.stat().st_mtime_ns for path in moved.folder.rglob("*")}
    code, verdicts, told = verify(moved)
    assert (code, verdicts) == (0, {}), told
    assert "not checked" not in told and "wrong" not in told
    assert before == {path: path.stat().st_mtime_ns for path in moved.folder.rglob("*")}


def test_damage_is_named_with_file_and_how_to_go_on(moved, verify):
    path = moved.run.evaluated("bcl", 1, "assessment.jsonl")
    path.write_bytes(path.read_bytes()[:-3])
    (moved.run.unit("vft", 0).folder / "tokenizer.json").unlink()
    moved.run.unit("label", 1).manifest.write_text("{")
    code, verdicts, told = verify(moved)
    assert code == 3
    assert verdicts == dict.fromkeys(["vft seed 0", "label seed 1", "evaluate bcl seed 1"], "damaged") | {
        **dict.fromkeys(["sample seed 0", "align bcl seed 0", "align rft seed 0", "evaluate vft seed 0"], "outdated")
    }
    assert "  evaluate bcl seed 1: assessment.jsonl is truncated: " in told
    assert "  vft seed 0: tokenizer.json is missing\n" in told
    assert "  label seed 1: manifest.json: cannot be read as JSON: " in told
    how = f"  put the files back, or run: aft-train --config {moved.run.config} output_dir={moved.folder} --repair"
    assert told.splitlines()[-1] == how
    assert "report: no report can be made now: " in told


@pytest.mark.parametrize(
    ("unit", "file", "change", "expected"),
    [
        (
            ("sample", 0, None),
            "completions.jsonl",
            lambda lines: lines.pop(3),
            "completions.jsonl: lacks 1 completion, such as ('train-0-1', 0)",
        ),
        (
            ("label", 0, None),
            "counts.json",
            lambda counts: counts.update(positives=99),
            "counts.json: positives is 99, the files give ",
        ),
        (
            ("label", 0, None),
            "groups.jsonl",
            lambda groups: groups[0]["candidates"][0].update(label="negative"),
            "groups.jsonl: group 'train-0-0': candidates[0].label is 'negative', the files give ",
        ),
        (("label", 0, None), "groups.jsonl", lambda groups: groups.clear(), "groups.jsonl: lacks 8 groups, such as "),
        (
            ("label", 0, None),
            "pool.jsonl",
            lambda groups: groups.append(groups[0]),
            "",  # the file and its two lines
        ),
        (
            ("evaluate", 0, "bcl"),
            "predictions.jsonl",
            lambda lines: lines[0].update(is_correct=not lines[0]["is_correct"]),
            "predictions.jsonl: [0].is_correct is ",
        ),
        (
            ("evaluate", 0, "bcl"),
            "metrics.json",
            lambda metrics: metrics["task_accuracy"].update(value=0.999),
            "metrics.json: task_accuracy.value is 0.999, the files give ",
        ),
        (
            ("evaluate", 0, "bcl"),
            "references.jsonl",
            lambda lines: lines[0].update(score=-7.0),
            "metrics.json: perplexity_reference.value is ",
        ),
        (("evaluate", 0, "bcl"), "pool.jsonl", lambda lines: lines.pop(), "pool.jsonl: lacks 1 chain, such as "),
        (
            ("evaluate", 0, "bcl"),
            "paths.jsonl",
            lambda lines: lines.pop(),
            "paths.jsonl: lacks 1 completion, such as ",
        ),
        (
            ("evaluate", 0, "bcl"),
            "self_consistency.jsonl",
            lambda lines: lines[0]["vote"].update({"1": 0.123}),
            "self_consistency.jsonl: [0].vote.1 is 0.123, the files give ",
        ),
        (
            ("align", 0, "bcl"),
            "trainer_state.json",
            lambda state: state["log_history"][-1].update(loss=0.1),
            "manifest.json: last_log: loss is 1.5, the files give 0.1",
        ),
    ],
)
def test_numbers_that_do_not_come_from_the_files_are_named(moved, verify, unit, file, change, expected):
    unit = moved.run.unit(*unit)
    forge(unit, file, change)
    code, verdicts, told = verify(moved)
    assert code == 3 and verdicts[str(unit)] == "wrong numbers"
    assert f"  {unit}: {expected}" in told and (expected or "appears twice, first in line 1" in told)


def test_ratings_of_a_file_are_read_again_and_others_are_taken_as_they_stand(moved, verify, tmp_path):
    ratings = tmp_path / "ratings.jsonl"
    lines = [(c.question_id, c.index) for c in read_completions(moved.completions(0))]
    write_json_lines(ratings, [{"question_id": q, "index": i, "rating": i / 4} for q, i in lines])
    source = f"label={{include_reference: false, ratings: {{name: file, path: '{ratings}'}}}}"
    plan = make_plan(moved.folder, source, "seeds=[0]", "stages=[label]")
    unit = plan.run.unit("label", 0)
    shutil.rmtree(unit.folder)
    run_label(plan, unit, lambda: UnitLog(unit.folder, plan.inputs(unit)))
    open_folder(plan)
    code, verdicts, told = verify(plan)
    assert code == 0 and str(unit) not in verdicts, told
    forge(unit, "groups.jsonl", lambda groups: groups[0]["candidates"][0].update(rating=0.9))
    assert (
        "label seed 0: groups.jsonl: group 'train-0-0': candidates[0].rating is 0.9, the files give " in verify(plan)[2]
    )
    ratings.unlink()
    told = verify(plan)[2]
    assert "label seed 0: ratings of an absent file: they were taken as they stand in groups.jsonl" in told


def test_a_report_with_another_figure_is_named(moved, verify):
    path = moved.run.report("json")
    report = json.loads(path.read_text())
    report["models"][1]["task_accuracy"]["mean"] = 0.999
    write_json(path, report)
    code, verdicts, told = verify(moved)
    assert (code, verdicts) == (3, {"report": "wrong numbers"})
    assert "report: report.json: models[1].task_accuracy.mean is 0.999, the files give " in told
    assert "report: report.md is not what report.json gives now" in told


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": 3}'])
def test_a_damaged_report_is_no_traceback(moved, verify, text):
    moved.run.report("json").write_text(text)
    code, _, told = verify(moved)
    assert code == (0 if text.startswith('{"') else 3)
    assert "report: report.json" in told


def test_what_cannot_be_checked_is_told(moved, verify):
    # other data than those that the run was made with, and a source that needs the network
    config = moved.run.config.read_text()
    moved.run.config.write_text(config.replace("num_validation: 3", "num_validation: 4"))
    code, verdicts, told = verify(moved)
    assert code == 0 and set(verdicts.values()) == {"outdated"}
    assert "sample seed 0: numbers: not the settings of config.yaml: " in told
    start, end = config.index("data:\n"), config.index("model:\n")
    moved.run.config.write_text(f"{config[:start]}data: {{name: gsm8k}}\n{config[end:]}")
    code, verdicts, told = verify(moved)
    assert (code, verdicts) == (0, {})
    assert (
        "numbers: data: openai/gsm8k not looked at, as aft-verify without --load-data does not use the network" in told
    )
    moved.run.config.unlink()
    assert "numbers: config.yaml is absent" in verify(moved)[2]


def test_a_run_of_an_earlier_version_is_checked_by_what_its_manifests_have(moved, verify):
    def earlier(manifest):
        del manifest["files"], manifest["unit"]
        if "model.safetensors" in manifest["outputs"]:
            manifest["outputs"] = {"model.safetensors": "size:3000"}

    for unit in moved.run.units():
        rewrite_manifest(unit, earlier)
    code, verdicts, told = verify(moved)
    assert (code, verdicts) == (0, {}), told
    assert "vft seed 0: content of model.safetensors: the manifest of an earlier version has its size alone" in told
    assert "report: report.json is not of the run's seeds and results now" in told


def test_what_is_absent_or_unfinished_is_told(moved, verify):
    shutil.rmtree(moved.run.unit("evaluate", 1, "bcl").folder)
    unit = moved.run.unit("evaluate", 0, "bcl")
    started = unit.manifest.with_name("started.json")
    unit.manifest.rename(started)  # as a cut unit looks
    code, verdicts, _ = verify(moved)
    assert (code, verdicts) == (0, {"evaluate bcl seed 1": "absent", "evaluate bcl seed 0": "unfinished"})
    started.unlink()
    code, verdicts, told = verify(moved)
    assert code == 3 and verdicts["evaluate bcl seed 0"] == "damaged" and "manifest.json is missing, and " in told


def test_a_report_that_is_not_there_is_absent(moved, verify):
    moved.run.report("json").unlink()
    code, verdicts, told = verify(moved)
    assert (code, verdicts) == (0, {"report": "absent"}), told


def test_a_run_at_work_is_told(moved, verify):
    write_json(moved.run.owner, {"process": 1, "host": "elsewhere", "command": "aft-train \x1b[2J", "since": "now"})
    code, _, told = verify(moved)
    note = f"aft: note: {moved.folder} is in use by process 1 on elsewhere since now (aft-train "
    assert code == 0 and note in told and "\x1b" not in told


def test_how_to_go_on_can_be_pasted_and_helps(finished, verify, tmp_path):
    plan = make_plan(shutil.copytree(finished, tmp_path / "my run"))
    (plan.run.unit("vft", 0).folder / "tokenizer.json").unlink()
    command = f"aft-train --config '{plan.run.config}' 'output_dir={plan.folder}' --repair"
    assert verify(plan)[2].endswith(f"To go on:\n  put the files back, or run: {command}\n")
    shutil.copy(finished / "seed-0" / "vft" / "tokenizer.json", plan.run.unit("vft", 0).folder)
    shutil.copytree(plan.run.unit("align", 0, "rft").folder, plan.run.unit("align", 0, "rft_backup").folder)
    code, verdicts, told = verify(plan)
    assert (code, verdicts) == (3, {"align rft_backup seed 0": "damaged"})
    assert told.endswith("To go on:\n  move away the folder of each damaged unit that config.yaml does not have\n")


def test_no_run(command, tmp_path):
    ran = command("verify", tmp_path)
    assert (ran.code, ran.err) == (1, f"aft: error: {tmp_path}: no run folder, it has no unit\n")
