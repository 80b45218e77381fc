"""The memory of a run folder: digests, manifests, differences, what is moved aside."""

from __future__ import annotations

import json

import pytest

from aft.errors import DataError
from aft.run.digest import changed_keys, digest_file, digest_weights
from aft.run.environment import environment
from aft.run.folder import MANIFEST, STARTED, RunFolder
from aft.run.manifest import UnitLog, digest_folder, is_cut, read_manifest


def write_folder(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


# ---- digests ----


def test_a_digest_is_of_the_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("abc")
    two.write_text("abc")
    assert digest_file(one) == digest_file(two)
    assert digest_file(one) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    two.write_text("abd")
    assert digest_file(one) != digest_file(two)


def test_a_digest_is_of_all_the_content_whatever_its_size(tmp_path):
    large, found = tmp_path / "ratings.jsonl", set()
    for last in (b"9.5", b"1.5"):
        with large.open("wb") as handle:
            handle.truncate(64 * 2**20 + 1)  # holes cost no disk
            handle.seek(0, 2)
            handle.write(last)
        found.add(digest_file(large))
    assert len(found) == 2 and all(digest.startswith("sha256:") for digest in found)


def test_a_folder_is_its_files_without_what_only_describes_them(tmp_path):
    folder = write_folder(tmp_path / "a", config__json="{}", model__safetensors="w")
    before = digest_folder(folder)
    write_folder(
        folder, manifest__json="{}", started__json="{}", README__md="x", trainer_state__json="{}", __hidden="x"
    )
    write_folder(folder / "checkpoint-3", model__safetensors="old")
    assert digest_folder(folder) == before
    assert digest_folder(write_folder(tmp_path / "b", config__json="{}", model__safetensors="w")) == before
    write_folder(folder, model__safetensors="v")
    assert digest_folder(folder) != before


def test_large_files_are_told_apart_by_size_and_manifest(tmp_path):
    folder = write_folder(tmp_path, config__json="{}")
    weights = folder / "model.safetensors"
    with weights.open("wb") as handle:
        handle.truncate(64 * 2**20 + 1)  # holes cost no disk
    assert digest_weights(weights) == "size:67108865"
    bare = digest_folder(folder)
    digests = set()
    for seed in (0, 1):
        (folder / MANIFEST).write_text(json.dumps({"inputs": {"seed": seed}, "outputs": {}}))
        digests.add(digest_folder(folder))
    assert len(digests) == 2 and bare not in digests


# ---- manifests ----


def test_a_unit_is_cut_until_it_is_complete(tmp_path):
    folder = tmp_path / "unit"
    assert not is_cut(folder)
    log = UnitLog(folder, {"seed": 1})
    assert is_cut(folder)
    assert read_manifest(folder / STARTED) == {"inputs": {"seed": 1}}
    (folder / "out.txt").write_text("x")
    log.complete(["out.txt"], tokens=5)
    assert not is_cut(folder)
    assert not (folder / STARTED).exists()
    manifest = read_manifest(folder / MANIFEST)
    assert manifest["inputs"] == {"seed": 1} and manifest["tokens"] == 5
    assert manifest["outputs"] == {"out.txt": digest_file(folder / "out.txt")}
    assert manifest["seconds"] >= 0 and manifest["peak_memory_bytes"] > 2**20
    assert {"python", "aft", "torch", "transformers"} <= set(manifest["versions"])


def test_an_absent_manifest_is_none(tmp_path):
    assert read_manifest(tmp_path / MANIFEST) is None


DAMAGED = [
    *("", "{", "[1]", '"x"', "\x00", '{"outputs": {}}', '{"inputs": [], "outputs": {}}'),
    '{"inputs": {}, "outputs": {"a": 3}}',
    '{"inputs": {}, "outputs": {"a": "size:x"}}',
    '{"inputs": {}, "outputs": {"../a": "size:3"}}',
    '{"inputs": {}, "outputs": {"/a": "size:3"}}',
    '{"inputs": {}, "outputs": {}, "files": 3}',
    '{"inputs": {}, "outputs": {"a": "size:3"}, "files": {"a": {"bytes": "3", "modified_ns": 3}}}',
    '{"inputs": {}, "outputs": {}, "digest": "sha256:0"}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_manifest_says_what_to_do(tmp_path, content):
    path = tmp_path / MANIFEST
    path.write_text(content)
    with pytest.raises(DataError, match="Delete it") as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: ")


# ---- differences ----


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, ["a.b: was 1, is 3"]),
        ({"a": 1}, {}, ["a: was 1, is gone"]),
        ({}, {"a": None}, ["a: new, is null"]),
        ({"a": {"b": 1}}, {"a": None}, ['a: was {"b": 1}, is null']),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a: was [1, 2], is [1, 3]"]),
        ({"a": 1}, {"a": True}, []),  # equal to Python as to JSON's readers; no key changes so
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a: was 1, is 2", "b: was 1, is 2"]),
        ({"a": "sha256:0123456789"}, {"a": "sha256:abcdefabcd"}, ["a: was 01234567, is abcdefab"]),
        ({"a": "x" * 80}, {"a": ""}, ['a: was "' + "x" * 56 + '..., is ""']),
    ],
)
def test_differences_name_each_leaf(before, now, expected):
    assert changed_keys(before, now) == expected


# ---- moving aside ----


def test_what_is_outdated_is_kept_apart_and_never_overwritten(tmp_path):
    unit = tmp_path / "run" / "seed-0" / "align" / "bcl"
    for number in (1, 2, 3):
        write_folder(unit, value=str(number))
        target = RunFolder(tmp_path / "run").move_aside(unit)
        assert target == tmp_path / "run" / "replaced" / str(number) / "seed-0" / "align" / "bcl"
        assert (target / "value").read_text() == str(number)
        assert not unit.exists()
    other = write_folder(tmp_path / "run" / "base", value="b")
    assert RunFolder(tmp_path / "run").move_aside(other) == tmp_path / "run" / "replaced" / "1" / "base"


# ---- what a figure was made with ----


def test_the_environment_names_what_decides_a_result():
    found = environment()
    assert {"versions", "git_revision", "platform", "processor", "cpu_count", "command", "date"} == set(found)
    assert json.loads(json.dumps(found)) == found
