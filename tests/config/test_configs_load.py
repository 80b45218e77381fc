"""Every YAML under configs/ is read as what it claims to be, and the paper's settings resolve."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aft.config import align_config, load_config, to_yaml
from aft.config.losses import BoundaryConstraint
from aft.config.packaged import CONFIGS, part_names
from aft.errors import ConfigError
from aft.losses import LOSSES
from aft.stages.plan import Plan
from aft.yaml_files import read_yaml
from shared_data import shared_path

ROOT = Path(__file__).resolve().parents[2]


def parents(path: Path) -> list[Path]:
    """The files that a configuration extends."""
    named = read_yaml(path).get("extends", [])
    return [path.parent / name for name in ([named] if isinstance(named, str) else named)]


FILES = sorted((ROOT / "configs").rglob("*.yaml"))
LAUNCH = [path for path in FILES if path.parent.name == "accelerate"]
PARENTS = {parent.resolve() for path in FILES for parent in parents(path)}
PARTS_BY_NAME = {CONFIGS / f"{name}.yaml" for name in part_names()}
# a file that others extend may leave to them what must be chosen
RUNS = [
    path
    for path in FILES
    if path not in LAUNCH and ("output_dir" in read_yaml(path) or path not in PARENTS | PARTS_BY_NAME)
]
PARTS = [path for path in FILES if path not in LAUNCH and path not in RUNS]
# the files of models differ in nothing that a plan shows, but for these
PLANNED = [
    path
    for path in RUNS
    if path.parent.name != "models" or path.stem in ("qwen2.5-1.5b", "gemma-3-27b", "llama-3.1-70b")
]
MUST_BE_CHOSEN = (": missing; it has no default and must be chosen", "or model.from_scratch, not both or neither")


def name_of(path):
    return str(path.relative_to(ROOT))


def overrides_for(path, gsm8k_folder):
    """What a run needs on a machine without network: made-up questions, or files, in the place of the hub's."""
    config = load_config(path)
    data, model = config.data, config.model.name_or_path
    if model and model.startswith("runs/"):  # a base model that another run makes
        return ["model.name_or_path=models/arithmetic-base"]
    if data.name == "mixture":
        files = {"gsm8k": gsm8k_folder, "mmlu": shared_path("data", "mmlu", "mmlu_dev_test_csv.tar.gz")}
        files |= {name: shared_path("data", name) for name in ("aqua", "ecqa")}
        return [
            f"data.parts.{name}.data.path={files[part.data.name]}"
            for name, part in data.parts.items()
            if hasattr(part.data, "path")
        ]
    if data.name in ("aqua", "ecqa"):
        return [f"data.path={shared_path('data', data.name)}"]
    return [f"data.path={gsm8k_folder}"] if data.name == "gsm8k" else []


def test_there_are_some():
    assert RUNS and LAUNCH
    assert not list((ROOT / "configs").rglob("*.yml")), "the tests look for .yaml"


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_a_run_resolves_and_reads_back(path, tmp_path):
    config = load_config(path)
    (tmp_path / "resolved.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "resolved.yaml") == config


@pytest.mark.parametrize("path", PARTS, ids=name_of)
def test_a_part_lacks_only_what_must_be_chosen(path):
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(problem.endswith(MUST_BE_CHOSEN) for problem in caught.value.problems)


@pytest.mark.parametrize("path", LAUNCH, ids=name_of)
def test_a_launch_file_is_accelerates(path):
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(path))
    given = yaml.safe_load(path.read_text())
    assert loaded.num_processes == given["num_processes"]


@pytest.mark.parametrize("path", PLANNED, ids=name_of)
def test_a_run_is_planned(path, gsm8k_folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(ROOT)  # where models/ and configs/accelerate/ are
    overrides = overrides_for(path, gsm8k_folder)
    ran = command("train", "--config", path, "--dry-run", f"output_dir={tmp_path / 'run'}", *overrides)
    assert ran.code == 0, ran.err
    config = load_config(path)
    planned = {line.split()[1] for line in ran.out.splitlines() if line.startswith("run ")}
    assert planned == {*config.stages, *(["validate"] if config.rounds else [])}
    assert list(tmp_path.iterdir()) == []


def test_the_papers_settings():
    files = {path.stem.removeprefix("llama2-7b-"): path for path in RUNS if path.name.startswith("llama2-7b-")}
    assert set(files) == {"vft", "rft", "aft-dcl", "aft-bcl", "losses"}
    configs = {name: load_config(path) for name, path in files.items()}
    for config in configs.values():
        assert config.data.name == "gsm8k"
        assert (config.data.num_train, config.data.num_validation, config.data.num_test) == (None, 400, None)
        assert (config.sample.num_samples, config.sample.temperature, config.sample.top_p) == (6, 1.0, 1.0)
        assert config.model.max_length == 512
    assert "align" not in configs["vft"].stages
    methods = {name: align_config(configs[name], name) for name in ("rft", "aft-dcl", "aft-bcl")}
    assert all(list(configs[name].methods) == [name] for name in methods)
    assert methods["rft"].loss is None and methods["rft"].supervise == "reference_and_positives"
    assert methods["aft-dcl"].loss.constraint.name == "detached"
    assert methods["aft-bcl"].loss.constraint == BoundaryConstraint(name="boundary", beta=0.15)


def test_one_run_compares_the_losses_under_every_constraint():
    config = load_config(ROOT / "configs" / "gsm8k" / "llama2-7b-losses.yaml")
    found = {name: align_config(config, name) for name in config.methods}
    kinds = {"": "none", "-dc": "detached", "-bc": "boundary"}
    others = list(dict.fromkeys(name.partition("-")[0] for name in found if not name.startswith("aft-")))
    assert list(found) == ["aft-none", "aft-dcl", "aft-bcl", *(f"{loss}{kind}" for loss in others for kind in kinds)]
    for loss in others:
        for kind, constraint in kinds.items():
            section = found[f"{loss}{kind}"].loss
            assert (section.name, section.constraint.name) == (loss, constraint)
    assert found["aft-none"].loss.name == "alignment" and found["aft-none"].loss.constraint.name == "none"
    for name in ("aft-dcl", "aft-bcl"):
        alone = load_config(ROOT / "configs" / "gsm8k" / f"llama2-7b-{name}.yaml")
        assert found[name] == align_config(alone, name)


@pytest.mark.parametrize("name", LOSSES)
def test_one_key_gives_the_quickstart_another_loss_with_every_constraint(name):
    config = load_config(ROOT / "configs" / "quickstart.yaml", [f"align.loss.name={name}"])
    losses = {method: align_config(config, method).loss for method in config.methods}
    kinds = {method: (loss.name, loss.constraint.name) for method, loss in losses.items() if loss is not None}
    assert kinds == {
        "aft-unconstrained": (name, "none"),
        "aft-unconstrained-5e-4": (name, "none"),
        "aft-detached": (name, "detached"),
        "aft-boundary": (name, "boundary"),
    }


def test_gsm8k_rank_is_a_thousand_questions_drawn_by_a_seed(gsm8k_folder):
    def drawn(*overrides):
        config = load_config(ROOT / "configs" / "gsm8k" / "gsm8k-rank.yaml", [f"data.path={gsm8k_folder}", *overrides])
        assert (config.sample.num_samples, config.stages) == (8, ["vft", "sample", "label"])
        judge = config.label.ratings
        assert (judge.name, judge.num_ratings, judge.min_score, judge.max_score) == ("judge", 3, 1.0, 10.0)
        return [question.id for question in Plan(config).training_questions(0)]

    ids = drawn()
    assert len(set(ids)) == 1000 and ids == drawn()
    places = sorted(int(name.removeprefix("gsm8k-train-")) for name in ids)
    assert places[0] < 20 and places[-1] > 1280, "from all over the file's 1,300"
    assert drawn("data.split_seed=1") != ids
