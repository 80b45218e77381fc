"""What comes with aft beside its code: its names, how they are found, and that a wheel holds the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from aft.config import load_config
from aft.config.launch_file import find_launch_file, read_launch_file
from aft.config.packaged import (
    CONFIGS,
    LAUNCH_FILES,
    MODEL_NAMES,
    MODELS,
    ROOT,
    find_config,
    find_model,
    model_file_names,
    part_names,
    run_names,
)
from aft.errors import ConfigError
from aft.yaml_files import read_yaml

tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")

LAUNCH_NAMES = {"cpu", "fsdp2", "multi-gpu", "single-gpu", "zero3"}


def test_names_work_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "quickstart" in run_names() and "gsm8k/llama2-7b-aft-bcl" in run_names()
    assert "arithmetic/task" not in run_names(), "a part of others is no run"
    for name in run_names():
        config = load_config(name)
        assert not Path(config.output_dir).is_absolute(), "a run's output belongs to the working folder"
    assert {name: find_launch_file(name).stem for name in LAUNCH_NAMES} == {name: name for name in LAUNCH_NAMES}
    assert read_launch_file("fsdp2")["distributed_type"] == "FSDP"
    assert (Path(find_model("arithmetic-base")) / "config.json").is_file()


def test_what_the_user_has_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("output_dir: mine\ndata: {name: arithmetic}\nmodel: {name_or_path: a/b}\n")
    assert load_config("quickstart").output_dir == "mine"
    Path("arithmetic-base").mkdir()
    assert Path(find_model("arithmetic-base")).is_absolute(), "an empty folder is no checkpoint"
    Path("arithmetic-base/config.json").touch()
    assert find_model("arithmetic-base") == "arithmetic-base"
    assert find_model("some/model") == "some/model"


def test_a_folder_does_not_hide_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "mine"):
        Path(name).mkdir()
    assert load_config("quickstart").stages
    with pytest.raises(ConfigError, match=r"^mine: a folder, not a file, and aft has no configuration of this name"):
        find_config("mine")


def test_a_file_extends_a_configuration_by_its_name(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("extends: quickstart\nseeds: [7]\n")
    assert load_config(path) == load_config("quickstart", ["seeds=[7]"])


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_config("quikstart")
    assert str(caught.value) == (
        "quikstart: no such file, and aft has no configuration of this name. Did you mean 'quickstart'?"
        f" It has: {', '.join([*run_names(), *part_names()])}, and models/NAME for {len(model_file_names())} models"
        " (docs/models.md)"
    )


def test_a_wheel_holds_every_file_that_has_a_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    held = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {source: target.removeprefix("aft/files/") for source, target in held.items()} == {s: s for s in held}
    named = {CONFIGS / f"{name}.yaml" for name in [*run_names(), *part_names(), *model_file_names()]}
    needed = named | set(LAUNCH_FILES.iterdir())
    needed |= {path for name in MODEL_NAMES for path in (MODELS / name).iterdir()}
    rest = list(named)
    while rest:  # and what they extend, in turn
        extended = _parents(rest.pop())
        needed.update(extended)
        rest += extended
    lacking = [path for path in needed if not any(path.is_relative_to(ROOT / source) for source in held)]
    assert lacking == []


def _parents(path: Path) -> list[Path]:
    named = read_yaml(path).get("extends", [])
    return [(path.parent / name).resolve() for name in ([named] if isinstance(named, str) else named)]
