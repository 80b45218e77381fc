"""Damage to a finished run: every file that a manifest lists, damaged in every way, is named; and nothing else is."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from aft.config import to_yaml
from aft.errors import DataError
from aft.json_files import cut_line, write_text
from aft.launch.conductor import conduct, show_plan
from aft.report.build import build_report, write_report
from aft.run import digest
from aft.run.folder import MANIFEST
from aft.run.integrity import Integrity
from aft.run.manifest import UnitLog, digest_folder, read_manifest
from aft.stages.plan import DAMAGED, DONE, RERUN
from finished_run import finish_run, make_plan, rewrite_manifest

UNITS = (
    ("pretrain", None, None),
    ("vft", 0, None),
    ("sample", 0, None),
    ("label", 0, None),
    ("align", 0, "bcl"),
    ("evaluate", 0, "bcl"),
)
EVALUATED = (
    *("metrics.json", "predictions.jsonl", "assessment.jsonl", "assessment_questions.jsonl", "references.jsonl"),
    *("pool.jsonl", "pool_questions.jsonl", "self_consistency.jsonl", "completions.jsonl", "paths.jsonl"),
    *("own-0000.jsonl", "training_scores.jsonl"),
)
CHECKPOINT = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "trainer_state.json"),
)
OUTPUTS = {
    **dict.fromkeys(("pretrain", "vft"), CHECKPOINT),
    "sample": ("completions.jsonl",),
    "label": ("groups.jsonl", "pool.jsonl", "counts.json"),
    "align": (*CHECKPOINT, "initial_scores.json"),
    "evaluate": EVALUATED,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The finished run. A test that damages a file puts it back."""
    return finish_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy with other times, for a test to damage; as a function that plans it anew."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder, copy_function=shutil.copy)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f"output_dir: {finished.folder}\n", f"output_dir: {folder}\n"))
    return lambda *overrides, **options: make_plan(folder, *overrides, **options)


def units(plan):
    return [unit for stage in plan.stages() for unit in plan.units(stage)]


def states(plan):
    return {str(unit): status.state for unit in units(plan) if (status := plan.status(unit)).state != DONE}


# ---- the matrix ----


def truncate(path, twin):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path, twin):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path, twin):
    path.write_bytes(twin.read_bytes() if twin.is_file() else b"another")


def empty(path, twin):
    path.write_bytes(b"")


def remove(path, twin):
    path.unlink()


DAMAGE = {
    truncate: "is truncated: ",
    flip: "has other content than was written",
    swap: ("has other content than was written", "is truncated: ", "is too long: "),
    empty: "is empty, ",
    remove: "is missing",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(("stage", "seed", "name"), UNITS, ids=lambda value: str(value))
def test_every_damaged_output_is_named(finished, stage, seed, name, damage):
    plan = make_plan(finished.folder)
    unit = plan.run.unit(stage, seed, name)
    assert tuple(sorted(read_manifest(unit.manifest)["outputs"])) == tuple(sorted(OUTPUTS[stage]))
    twin = plan.run.unit("vft" if seed is None else stage, 1, name)
    assert plan.status(unit).state == DONE
    for file in OUTPUTS[stage]:
        path = unit.folder / file
        data, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        damage(path, twin.folder / file)
        told = plan.integrity.damages(unit)
        path.write_bytes(data)
        os.utime(path, ns=times)
        assert len(told) == 1 and told[0].startswith(f"{file} "), file
        assert told[0].removeprefix(f"{file} ").startswith(DAMAGE[damage])
    assert plan.status(unit).state == DONE


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("stage", ["pretrain", "sample", "evaluate"])
def test_a_damaged_manifest_is_named(copied, stage, damage):
    plan = copied()
    unit = units(plan)[[u.stage for u in units(plan)].index(stage)]
    damage(unit.manifest, plan.run.unit("vft" if stage == "pretrain" else stage, 1, unit.name).manifest)
    status = plan.status(unit)
    if damage is remove:  # the way to have a unit made again that is not damaged
        assert status.state == "run"
    else:
        assert status.state == DAMAGED and status.reasons[0].startswith(MANIFEST)
        with pytest.raises(DataError, match="--repair"):
            plan.check_damage([stage])


def test_the_manifest_of_another_method_is_named(copied):
    plan = copied()
    bcl, rft = (plan.run.unit("align", 0, name) for name in ("bcl", "rft"))
    shutil.copy(rft.manifest, bcl.manifest)
    assert plan.status(bcl).reasons == (f"{MANIFEST} is that of seed-0/align/rft",)


# ---- what is not damage ----


def test_a_copy_is_hashed_once_and_gets_its_times_back(copied, monkeypatch):
    hashed = []
    whole = digest.digest_file
    monkeypatch.setattr(digest, "digest_file", lambda path: hashed.append(path.name) or whole(path))
    evaluated = copied().run.unit("evaluate", 0, "bcl")
    every = len(EVALUATED)
    for remember, count in ((False, every), (False, every), (True, every), (True, 0), (False, 0)):
        hashed.clear()
        assert Integrity(remember=remember).damages(evaluated) == []
        assert len(hashed) == count
    assert states(copied()) == {}


def test_one_flipped_bit_of_unchanged_size_and_time_needs_verify(copied):
    path = copied().run.evaluated("bcl", 0)
    Integrity(remember=True).damages(copied().run.unit("evaluate", 0, "bcl"))
    times = path.stat().st_mtime_ns
    flip(path, None)
    os.utime(path, ns=(times, times))
    assert states(copied()) == {}
    assert states(copied(integrity=Integrity(verify=True))) == {"evaluate bcl seed 0": DAMAGED}


def test_outdated_results_need_not_be_whole(copied):
    plan = copied("evaluate.max_new_tokens=30")
    empty(plan.run.evaluated("bcl", 0), None)
    assert set(states(plan).values()) == {RERUN}
    plan.check_damage(plan.stages())


def test_files_that_no_manifest_lists_are_harmless(copied):
    plan = copied()
    for path in (plan.run.data, plan.run.environment, plan.run.report("json"), plan.run.report("md")):
        path.write_text("{")
    (plan.run.unit("label", 0).folder / "audit.jsonl").write_text("{")
    (plan.run.unit("vft", 0).folder / "README.md").write_text("")
    assert states(plan) == {}


# ---- large weights ----


@pytest.fixture
def large(monkeypatch):
    """Weights of the finished run count as large."""
    monkeypatch.setattr(digest, "_HASH_UP_TO_BYTES", 2000)


def test_a_flipped_bit_of_large_weights_is_found(copied, large):
    plan = copied(integrity=Integrity(remember=True))
    vft = plan.run.unit("vft", 0)
    assert plan.status(vft).state == DONE
    weights = vft.folder / "model.safetensors"
    before, times = digest_folder(vft.folder), weights.stat().st_mtime_ns
    flip(weights, None)
    assert digest_folder(vft.folder) != before
    assert states(copied())["vft seed 0"] == DAMAGED
    os.utime(weights, ns=(times, times))
    assert digest_folder(vft.folder) == before
    assert states(copied(integrity=Integrity(verify=True))) == {"vft seed 0": DAMAGED}


def test_large_weights_that_come_out_different_outdate_their_readers(copied, large):
    # the digests of small and of large files differ, so the run is finished anew as one with large weights
    plan = copied()
    for unit in units(plan):
        rewrite_manifest(unit, lambda manifest, unit=unit: manifest.update(inputs=plan.inputs(unit)))
    assert states(copied()) == {}
    vft = plan.run.unit("vft", 0)
    manifest = read_manifest(vft.manifest)
    flip(vft.folder / "model.safetensors", None)
    UnitLog(vft.folder, manifest["inputs"]).complete(list(manifest["outputs"]))
    assert states(copied()) == dict.fromkeys(
        ["sample seed 0", "align rft seed 0", "align bcl seed 0", "evaluate vft seed 0"], RERUN
    )


# ---- manifests of earlier versions ----


def as_earlier_version(manifest):
    """As manifests were before sizes and times: fewer outputs, large weights by their size."""
    for key in ("files", "unit"):
        del manifest[key]
    outputs = manifest["outputs"]
    if "model.safetensors" in outputs:
        manifest["outputs"] = {"config.json": outputs["config.json"], "model.safetensors": "size:3000"}


def test_a_run_of_an_earlier_version_is_still_up_to_date(copied):
    plan = copied()
    for unit in units(plan):
        rewrite_manifest(unit, as_earlier_version)
    assert states(copied()) == {}
    truncate(plan.run.unit("vft", 0).folder / "model.safetensors", None)
    flip(plan.run.evaluated("bcl", 0), None)
    found = states(copied())
    assert found["vft seed 0"] == found["evaluate bcl seed 0"] == DAMAGED


def test_large_weights_of_an_earlier_version_keep_their_digest(copied, large):
    folder = copied().run.unit("vft", 0).folder
    rewrite_manifest(copied().run.unit("vft", 0), as_earlier_version)
    small = {path.name: digest.digest_file(path) for path in folder.iterdir() if path.name in CHECKPOINT[:-1]}
    inputs = digest.digest_value(read_manifest(folder / MANIFEST)["inputs"])
    assert digest_folder(folder) == digest.digest_value(
        {**small, "model.safetensors": "size:3000", MANIFEST: inputs},
    )


# ---- how to go on ----


def times(folder):
    """When each file of a run was written, but for its lock."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.name.startswith(".lock")}


def test_damage_of_any_stage_stops_the_run_before_the_first(copied):
    plan = copied()
    path = plan.run.evaluated("bcl", 1, "predictions.jsonl")
    truncate(path, None)
    before = times(plan.folder)
    with pytest.raises(DataError) as caught:
        conduct(plan, plan.stages())
    told, how = str(caught.value).splitlines()
    assert told.startswith(f"evaluate bcl seed 1: {path} is truncated: ") and told.endswith("its last, is cut")
    assert how == (
        "To go on, put the files back, or run the same command with --repair: the damaged unit will be moved to"
        f" {plan.folder}/replaced and made again, and so will what depends on a result that comes out different"
    )
    assert before == times(plan.folder)
    shown = [line.split() for line in show_plan(plan, plan.stages()).splitlines() if line.startswith("damaged")]
    assert shown == [["damaged", "evaluate", "bcl", "seed", "1", str(path.parent)]]


def test_what_is_read_and_not_made_is_made_again_by_a_command_of_its_own(copied):
    plan = copied(repair=True)
    empty(plan.groups(0), None)
    command = f"or run aft-train --config {plan.run.config} --stage label --repair: "
    for check in (lambda: plan.check_damage(["align"]), lambda: plan.check_reads("align")):
        with pytest.raises(DataError) as caught:
            check()
        assert command in str(caught.value)
    plan.check_damage(["label", "align"])


def test_repair_makes_the_damaged_unit_again_and_nothing_else(copied, command, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = copied()
    path = plan.groups(0)
    groups = path.read_bytes()
    empty(path, None)
    ran = command("label", "--config", plan.run.config, "--repair")
    assert ran.code == 0, ran.err
    assert "label seed 0: runs again, because groups.jsonl is empty, " in ran.err
    assert (plan.run.replaced / "1" / "seed-0" / "label" / "groups.jsonl").read_bytes() == b""
    assert path.read_bytes() == groups
    assert states(copied()) == {}


def test_the_report_is_not_made_of_damaged_files(copied, command):
    plan = copied()
    swap(plan.run.evaluated("bcl", 0), plan.run.evaluated("vft", 0))
    ran = command("report", "--config", plan.run.config, "--no-picture")
    assert ran.code == 3 and f"evaluate bcl seed 0: {plan.run.evaluated('bcl', 0)} " in ran.err
    how = (
        f"put the files back, or run aft-train --config {plan.run.config} --repair: what is damaged is then made again"
    )
    assert ran.err.splitlines()[-1].strip() == f"To go on, {how}"


def left_out(run, command, plan):
    """The units that the report of a run leaves out, as it names them."""
    ran = command("report", "--config", plan.run.config, f"output_dir={plan.folder}", "--no-picture")
    assert ran.code == 0, ran.err
    missing = json.loads(run.report("json").read_text())["missing"]
    told = [line.partition(": left out, as it is damaged and config.yaml does not have it: ") for line in missing]
    assert all(unit in ran.out for unit, found, _ in told if found)
    return {unit: damage for unit, found, damage in told if found}


def test_a_damaged_copy_of_a_unit_is_left_out_of_the_report(copied, command):
    plan = copied()
    for stage in ("align", "evaluate"):
        folder = plan.run.unit(stage, 0, "bcl").folder
        shutil.copytree(folder, folder.with_name("bcl_backup"))
    shutil.copytree(plan.folder / "seed-0", plan.folder / "seed-7")
    (plan.folder / "seed-7" / "vft" / "manifest.json").write_text("{")
    found = left_out(plan.run, command, plan)
    assert found["align bcl_backup seed 0"] == "seed-0/align/bcl_backup/manifest.json is that of seed-0/align/bcl"
    assert {"evaluate bcl_backup seed 0", "vft seed 7", "label seed 7", "evaluate bcl seed 7"} < found.keys()
    report = json.loads(plan.run.report("json").read_text())
    assert report["seeds"] == [0, 1] and "bcl_backup" not in json.dumps([report["models"], report["stages"]])


def test_a_damaged_method_that_was_taken_out_is_left_out_of_the_report(copied, command):
    plan = copied()
    truncate(plan.run.unit("align", 0, "bcl").folder / "trainer_state.json", None)
    with pytest.raises(DataError, match=r"^align bcl seed 0: "):
        build_report(plan.folder)
    plan = copied("evaluate.models=[vft]")
    plan.config.methods.pop("bcl")
    write_text(plan.run.config, to_yaml(plan.config))
    found = left_out(plan.run, command, plan)
    assert list(found) == ["align bcl seed 0"] and "trainer_state.json is truncated: " in found["align bcl seed 0"]
    (plan.run.unit("align", 0, "bcl").folder / "manifest.json").write_text("{")
    assert list(left_out(plan.run, command, plan)) == ["align bcl seed 0"]
    # with a picture too, which reads the training's log
    assert write_report(plan.folder)


def test_the_report_names_a_command_that_makes_what_is_damaged_again(copied):
    plan = copied()
    truncate(plan.run.unit("align", 0, "bcl").folder / "trainer_state.json", None)
    write_text(plan.run.config, to_yaml(plan.config).replace("- align\n", ""))
    with pytest.raises(DataError, match=" --stage align --repair: "):
        build_report(plan.folder)
    plan.run.config.unlink()
    with pytest.raises(DataError, match=r"put the files back, or move the folder of each damaged unit away$"):
        build_report(plan.folder)


def test_a_command_in_a_message_can_be_pasted(finished, tmp_path):
    plan = make_plan(shutil.copytree(finished.folder, tmp_path / "my run"))
    empty(plan.groups(0), None)
    with pytest.raises(DataError, match=f"run aft-train --config '{plan.run.config}' --stage label --repair: "):
        plan.check_reads("align")
    empty(plan.run.evaluated("bcl", 0), None)
    with pytest.raises(DataError, match=f"run aft-train --config '{plan.run.config}' --repair: "):
        build_report(plan.folder)


# ---- the last line ----


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ('{"a": 1}\n{"b": 2}\n', None),
        ('{"a": 1}\n{"b": 2}', 2),
        ('{"a": 1}\n{"b"', 2),
        ('{"a": 1}\n{"b"\n', 2),
        ('{"a"\n{"b": 2}\n', None),
        ('{"a": 1}\n\x00\x00\x00', 2),
    ],
)
def test_a_cut_last_line_is_told_from_others(tmp_path, text, line):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    assert cut_line(path) == line


def test_a_missing_line_is_told_from_a_cut_one(copied):
    plan = copied()
    path, unit = plan.completions(0), plan.run.unit("sample", 0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    (told,) = plan.status(unit).reasons
    assert told.endswith("; every line is whole")
    path.write_bytes(b"".join(lines)[:-4])
    (told,) = plan.status(unit).reasons
    assert told.endswith(f"; line {len(lines)}, its last, is cut")
    assert json.loads(lines[-1])
