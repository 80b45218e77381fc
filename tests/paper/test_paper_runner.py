"""The runner: which commands a table takes at each scale, that each would be accepted, and what is copied."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from paper_runs import write_run

from aft.cli import report
from aft.config import align_config, load_config
from aft.config.load import parse_overrides
from aft.errors import AftError, ConfigError
from aft.paper import runner
from aft.paper.commands import Command, Copy
from aft.paper.controls import matched_steps
from aft.paper.methods import ALIASES, CONTROLS, METHODS, changes, parent, variants
from aft.paper.runs import METHOD_RATES, RATES, SCALES, Run, methods_of, page_of, plan, real_grid, seeds_of
from aft.paper.specs import SPECS
from limits import HUNG_AFTER

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    match[1]: path
    for path in sorted((ROOT / "scripts").glob("*.py"))
    if (match := re.search(r'main\("([\w-]+)"\)', path.read_text(encoding="utf-8")))
}
ALL = [(key, scale) for key in SCRIPTS for scale in SCALES if plan(key, scale)]


def options(scale="tiny", **given) -> argparse.Namespace:
    known = {"scale": scale, "seeds": None, "tuning_seeds": (100, 101), "rates": [1e-3], "output": Path("runs/tables")}
    known |= {"overrides": [], "only": None, "print": True, "same_rate": None, "accelerate": False, "slurm": False}
    known |= {"data": None, "page": False, "method_rates": [1e-3]}
    return argparse.Namespace(**{**known, **given})


def commands(key, scale, **given):
    """What can be said before anything has been run: controls of equal work come after what they are matched with."""
    known = options(scale, **given)
    steps = runner.steps_of(runner._chosen(key, known), known, seeds_of(key, scale))
    found = []
    with contextlib.suppress(runner._Waiting) if CONTROLS.keys() & methods_of(key) else contextlib.nullcontext():
        # what comes before the error stays in the list
        found.extend(step for step in steps if isinstance(step, Command))
    return found


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # where configs/ is


def test_every_table_has_its_script():
    # a real model's page is Table 2 at another scale
    assert set(SCRIPTS) == set(SPECS) - {"real"} and page_of("2", "small") == "real"
    assert all(plan(key, scale) for key in SCRIPTS for scale in ("tiny", "gpu"))
    # worlds of several hardness can be made up only where the task is
    assert [key for key in SPECS if key in SCRIPTS and not plan(key, "paper")] == [
        "laboratory",
        "rounds",
        "laboratory-losses",
        "boundaries",
        "wrong-chains",
        "size",
    ]
    assert [key for key in SCRIPTS if plan(key, "small")] == ["boundaries", "rounds", "2", "wrong-chains"]


@pytest.mark.parametrize("path", SCRIPTS.values(), ids=lambda path: path.stem)
def test_a_script_tells_what_it_takes(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0 and "--scale {tiny,small,gpu,paper}" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "scale"), ALL)
def test_every_command_would_be_accepted(key, scale):
    for command in commands(key, scale):
        config = load_config(ROOT / command.config, command.overrides)
        assert config.output_dir == str(command.folder)
        assert config.output_dir.startswith(f"runs/tables/{scale}/")
        if "align" in config.stages:
            assert all(align_config(config, name) for name in config.methods)


@pytest.mark.parametrize(("key", "scale"), ALL)
def test_one_folder_is_one_run(key, scale):
    # within a folder nothing but methods and seeds may differ, or its units would be made again and again
    def essence(config):
        evaluate = dataclasses.replace(config.evaluate, models=None)
        return dataclasses.replace(config, evaluate=evaluate, methods={}, seeds=[0], stages=[])

    seen = {}
    for other in ("2", "4", "k", "sensitivity", key):
        for command in commands(other, scale) if plan(other, scale) else []:
            config = command.load()
            assert seen.setdefault(config.output_dir, essence(config)) == essence(config)


def test_table_2_at_the_papers_scale():
    configs = [command.load() for command in commands("2", "paper")]
    assert len(configs) == 12 and all(config.seeds == [0, 1, 2] for config in configs)
    assert all(list(config.methods) == ["rft", "aft-dc", "aft-bc"] for config in configs)
    betas = {config.output_dir: align_config(config, "aft-bc").loss.constraint.beta for config in configs}
    assert betas["runs/tables/paper/llama2-7b-aqua"] == 0.4 and betas["runs/tables/paper/llama2-13b-ecqa"] == 0.2
    rates = {align_config(config, "aft-dc").training.get("learning_rate") for config in configs}
    assert rates == {None} and {config.training["learning_rate"] for config in configs} == {2e-5}
    epochs = {config.data.name: config.training["num_train_epochs"] for config in configs}
    assert epochs == {"gsm8k": 3, "aqua": 3, "ecqa": 1}
    assert {align_config(config, "aft-bc").init_from for config in configs} == {"base"}


def test_sensitivity_draws_one_sample_set_for_all_k():
    by_folder = {command.folder.name: command.load() for command in commands("sensitivity", "tiny")}
    assert by_folder["binary-9"].sample.num_samples == 9
    candidates = [align_config(by_folder["binary-9"], name).max_candidates for name in by_folder["binary-9"].methods]
    assert candidates == [3, 6, 9]
    assert by_folder["binary-t1.3"].sample.temperature == 1.3
    assert by_folder["small"].model.name_or_path == "runs/tables/tiny/small-base/base"
    assert by_folder["small-base"].stages == ["pretrain"]
    # boundaries are compared where learning rates are chosen, on as many seeds as a claim needs
    assert by_folder["small-grid"].evaluate.split == "validation" and by_folder["small-grid"].seeds == [100, 101, 102]


@pytest.mark.parametrize("scale", ["tiny", "gpu"])
def test_sizes_share_a_base_model_over_data_and_k(scale):
    by_folder = {command.folder.name: command.load() for command in commands("size", scale)}
    bases = {name: config for name, config in by_folder.items() if config.stages == ["pretrain"]}
    assert len(bases) == 4 and "harsh-base" in bases and len(by_folder) == 4 + 3 * 4
    for name, config in by_folder.items():
        if name not in bases:
            size = re.sub(r"^harsh(-few)?|-12$", "", name)
            base = "harsh-base" if size in ("-0.35m", "-25m") else f"harsh-base{size}"
            assert config.model.name_or_path == f"runs/tables/{scale}/{base}/base"
    # all bases read the same chains in the same steps, the wider ones at a lower rate
    assert len({(str(config.data), config.pretrain.training["max_steps"]) for config in bases.values()}) == 1
    shapes = [config.model.from_scratch.config for config in bases.values()]
    rates = [config.pretrain.training["learning_rate"] for config in bases.values()]
    assert [shape["hidden_size"] for shape in shapes] == sorted(shape["hidden_size"] for shape in shapes)
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 4
    assert all(shape["hidden_size"] // shape["num_attention_heads"] % 2 == 0 for shape in shapes)
    few = {"tiny": 100, "gpu": 400}[scale]
    assert by_folder["harsh-few-1m"].data.num_answer_only == few < by_folder["harsh-1m"].data.num_answer_only
    again = by_folder["harsh-4m-12"]
    candidates = [align_config(again, name).max_candidates for name in again.methods]
    assert again.sample.num_samples == 12 and candidates == [3, 6, 12] * 3


def test_a_grid_tries_the_rates_of_its_size_in_order():
    known = options("tiny", rates=None)
    grids = {run.grid.name: list(runner._rates(run.grid, known)) for run in plan("size", "tiny")}
    assert grids["harsh-0.14m-grid"] == grids["harsh-0.35m-grid"] == [3e-5, 1e-4, 3e-4, 1e-3, 3e-3]
    assert grids["harsh-few-4m-grid"] == [1e-5, 3e-5, 1e-4, 3e-4, 1e-3] and len(grids) == 8


def test_vft_of_a_size_takes_the_best_rate_of_the_tuning_seeds(tmp_path):
    known = options("tiny", rates=[3e-4, 1e-3], output=tmp_path, only=["harsh-1m", "harsh-few-1m"])
    steps = runner.steps_of(runner._chosen("size", known), known, (0, 1, 2))
    base, *trials = (next(steps) for _ in range(3))
    assert base.folder.name == "harsh-base-1m"
    assert [trial.folder.name for trial in trials] == ["harsh-base-1m-vft-lr0.0003", "harsh-base-1m-vft-lr0.001"]
    for trial, accuracies in zip(trials, [(0.5, 0.7), (0.9, 0.4)], strict=True):
        config = trial.load()
        assert config.stages == ["vft"] and config.seeds == [100, 101] and config.vft.training["load_best_model_at_end"]
        for seed, best in zip((100, 101), accuracies, strict=True):
            vft = trial.folder / f"seed-{seed}" / "vft"
            vft.mkdir(parents=True)
            (vft / "manifest.json").write_text("{}")
            log = [{"eval_task_accuracy": best}, {"eval_task_accuracy": 0.1}]  # the best is kept, not the last
            (vft / "trainer_state.json").write_text(json.dumps({"log_history": log, "best_metric": best}))
    copied = next(steps)
    assert copied == Copy(trials[1].folder, tmp_path / "tiny" / "harsh-1m-grid", ("vft",))
    # both amounts of data take it, in the grid of the methods too
    for name in ("harsh-1m-grid", "harsh-few-1m-grid"):
        grid = next(steps)
        assert grid.folder.name == name and grid.load().vft.training["learning_rate"] == 1e-3
    (name, page) = next(runner._grid_pages(runner._chosen("size", known), known, (0, 1, 2)))
    assert name == "harsh-base-1m-vft-grid" and page[1]["learning_rates"] == {"vft": 1e-3}


@pytest.mark.parametrize("only", ["harsh-1m", "harsh-few-1m", "harsh-1m-12"])
def test_the_trials_of_vft_are_those_of_the_base_model_whatever_is_asked_for(only, tmp_path):
    known = options("tiny", rates=[3e-4, 1e-3], output=tmp_path, only=[only])
    steps = runner.steps_of(runner._chosen("size", known), known, (0, 1, 2))
    _, *trials = (next(steps) for _ in range(3))
    assert [trial.folder.name for trial in trials] == ["harsh-base-1m-vft-lr0.0003", "harsh-base-1m-vft-lr0.001"]
    config = trials[0].load()
    assert (config.data.num_answer_only, config.sample.num_samples) == (700, 6)


def test_without_trials_the_rate_of_vft_is_not_known(tmp_path):
    known = options("tiny", rates=[3e-4, 1e-3], output=tmp_path)
    steps = runner.steps_of(runner._chosen("size", known), known, (0, 1, 2))
    with pytest.raises(runner._Waiting, match="validation accuracies of VFT of "):
        list(steps)


def test_user_overrides_beat_the_tables():
    (command,) = commands("2", "tiny", overrides=["sample.num_samples=2", "align.loss.constraint.beta=0.3"])
    config = command.load()
    assert config.sample.num_samples == 2 and align_config(config, "aft-bc").loss.constraint.beta == 0.3
    assert config.seeds == [0, 1, 2, 3, 4]


# ---- grids ----


def grid_report(folder, accuracies):
    folder.mkdir(parents=True)
    models = [{"name": name, "task_accuracy": {"mean": mean}} for name, mean in accuracies.items()]
    (folder / "report.json").write_text(json.dumps({"models": models}))


def test_methods_take_the_rate_that_the_grid_found(tmp_path):
    rates = [1e-4, 1e-3]
    names = [f"{name}-lr{rate:g}" for name in ("vft-more", "rft", "aft-dc", "aft-bc") for rate in rates]
    grid_report(tmp_path / "tiny" / "binary-grid", {name: name in ("rft-lr0.001", "aft-bc-lr0.0001") for name in names})
    grid, final = commands("2", "tiny", output=tmp_path, rates=rates)
    assert set(grid.load().methods) == set(names) and grid.load().seeds == [100, 101]
    assert grid.load().evaluate.assessment is None and grid.load().evaluate.split == "validation"
    config = final.load()
    found = {name: align_config(config, name).training["learning_rate"] for name in config.methods}
    assert found == {"vft-more": 1e-4, "rft": 1e-3, "aft-dc": 1e-4, "aft-bc": 1e-4}
    same = commands("2", "tiny", output=tmp_path, rates=rates, same_rate=3e-4)[1].load()
    assert align_config(same, "rft-lr0.0003").training["learning_rate"] == 3e-4 and len(same.methods) == 8


def test_a_variant_takes_its_methods_rate(tmp_path):
    grid_report(tmp_path / "tiny" / "binary-grid", {"aft-bc-lr0.0001": 0.2, "aft-bc-lr0.001": 0.6})
    _, final = commands("beta", "tiny", output=tmp_path, rates=[1e-4, 1e-3])
    config = final.load()
    assert {align_config(config, name).training["learning_rate"] for name in config.methods} == {1e-3}
    betas = [align_config(config, name).loss.constraint.beta for name in config.methods]
    assert betas == [-0.8, -0.4, -0.2, 0.0, 0.05, 0.15, 0.2, 0.4, 0.5, 0.8, 1.0]


def test_printing_says_that_a_grid_comes_first(tmp_path, capsys):
    runner.main("2", ["--print", "--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("aft-train --config configs/tables/tiny-binary.yaml ")
    folder = tmp_path / "tiny" / "binary-grid"
    assert lines[1] == f"# the rest needs the learning rates of {folder}: print again when that is done"


# ---- controls of equal work ----


def trained(folder, *, steps, entries, **epoch):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(
        json.dumps({"inputs": {}, "outputs": {}, "steps": steps, "entries": entries, "epoch": epoch})
    )


def two_seeds(folder):
    for seed, positives in ((0, 1500), (1, 3000)):
        units = folder / f"seed-{seed}" / "align"
        trained(units / "aft-dc", steps=50, entries=1000, sequences=6000, response_tokens=90_000)
        trained(units / "rft", steps=50, entries=1000, sequences=positives, response_tokens=30_000)


def test_a_control_takes_the_steps_of_equal_work(tmp_path):
    two_seeds(tmp_path)
    # four and two times as many sequences a step; three times as many tokens
    assert matched_steps(CONTROLS["rft-sequences"], tmp_path, (0, 1)) == 150
    assert matched_steps(CONTROLS["rft-tokens"], tmp_path, (0, 1)) == 150
    assert matched_steps(CONTROLS["rft-sequences"], tmp_path, (1,)) == 100
    assert matched_steps(CONTROLS["rft-sequences"], tmp_path, (0, 2)) is None


def test_a_method_with_fewer_entries_trains_on_each_more_often(tmp_path):
    units = tmp_path / "seed-0" / "align"
    trained(units / "aft-dc", steps=50, entries=800, sequences=4800)
    trained(units / "rft", steps=50, entries=400, sequences=800)  # half of the questions have no right chain
    assert matched_steps(CONTROLS["rft-sequences"], tmp_path, (0,)) == 150


def test_controls_come_after_what_they_are_matched_with(tmp_path):
    steps = runner.steps_of([plan("laboratory", "tiny")[0]], options(output=tmp_path, seeds=[0, 1]), (0, 1))
    first = next(steps)
    assert not {"rft-sequences", "rft-tokens"} & set(first.load().methods)
    two_seeds(first.folder)
    config = next(steps).load()
    rft, control = (align_config(config, name) for name in ("rft", "rft-sequences"))
    assert control.training == {**rft.training, "max_steps": 150} and control.supervise == rft.supervise
    assert set(config.methods) == set(first.load().methods) | {"rft-sequences", "rft-tokens"}


def test_a_control_takes_the_best_rate_at_its_own_steps(tmp_path):
    rates = [1e-4, 1e-3]
    first = {"rft-lr0.0001": 0.9, "rft-lr0.001": 0.8}
    own = {"rft-sequences-lr0.0001": 0.7, "rft-sequences-lr0.001": 0.8}
    others = {f"{name}-lr{rate:g}": 0.5 for name in METHODS for rate in rates}
    grid_report(tmp_path / "tiny" / "binary-grid", {**others, **first, **own})
    two_seeds(tmp_path / "tiny" / "binary")
    _, _, again, final = commands("laboratory", "tiny", output=tmp_path, rates=rates, seeds=[0, 1], only=["binary"])
    assert again.folder.name == "binary-grid" and again.load().seeds == [100, 101]
    tried = {name: align_config(again.load(), name).training for name in again.load().methods}
    assert set(tried) == {f"{name}-lr{rate:g}" for name in CONTROLS for rate in rates}
    assert {keys["max_steps"] for keys in tried.values()} == {150}
    found = {name: align_config(final.load(), name).training["learning_rate"] for name in ("rft", *CONTROLS)}
    assert found == {"rft": 1e-4, "rft-sequences": 1e-3, "rft-tokens": 1e-4}


def test_printing_waits_for_a_grid_that_has_only_a_part_of_what_it_needs(tmp_path, capsys):
    methods = [name for name in METHODS if name not in CONTROLS]
    for world in ("binary", "harsh"):
        rates = [3e-5, 1e-4, 3e-4, 1e-3]
        grid_report(tmp_path / "tiny" / f"{world}-grid", {f"{name}-lr{r:g}": 0.5 for name in methods for r in rates})
    two_seeds(tmp_path / "tiny" / "binary")
    shown = ["--print", "--seeds", "0", "1", "--output", str(tmp_path)]
    # the harsher world's rate is not there: neither are its runs
    runner.main("laboratory", [*shown, "--only", "binary", "harsh"])
    *commands, note = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("# set"))
    assert [shlex.split(line)[3].rpartition("/")[2] for line in commands] == ["harsh-base", "binary-grid", "harsh-grid"]
    folder = tmp_path / "tiny" / "harsh-grid"
    assert note == f"# the rest needs the learning rates of {folder}: print again when that is done"
    # the controls' grid comes after what they are matched with, and they are not in it yet
    runner.main("laboratory", [*shown, "--only", "binary"])
    *commands, note = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[3].rpartition("/")[2] for line in commands] == ["binary-grid", "binary", "binary-grid"]
    assert (
        note
        == f"# the rest needs the learning rates of {tmp_path / 'tiny' / 'binary-grid'}: print again when that is done"
    )


def test_harsher_worlds_try_a_higher_rate():
    tried = {run.name: runner._rates(run.grid, options(rates=None))[-1] for run in plan("laboratory", "tiny")}
    assert tried == {"binary": 1e-3, "harsh": 3e-3, "harsher": 3e-3, "harsh-few": 3e-3}


def test_printing_says_that_controls_come_later(tmp_path, capsys):
    runner.main("laboratory", ["--print", "--only", "binary", "--rates", "1e-4", "--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / "tiny" / "binary"
    wanted = f"# the rest needs the steps for rft-sequences, rft-tokens of {folder}: print again when that is done"
    assert lines[0].startswith("aft-train ") and wanted in lines


# ---- printing ----


def test_printed_commands_read_back(capsys):
    runner.main("3", ["--scale", "paper", "--print", "--only", "llama-13b-rank", "evaluate.batch_size=8"])
    note, line, last = capsys.readouterr().out.splitlines()
    program, flag, path, *overrides = shlex.split(line)
    problems: list[str] = []
    assert (program, flag) == ("aft-train", "--config") and parse_overrides(overrides, problems) and not problems
    config = load_config(path, overrides)
    assert config.model.name_or_path == "huggyllama/llama-13b" and config.evaluate.batch_size == 8
    assert "rrhf" in config.methods and config.label.ratings.name == "judge"
    assert note == (
        "# a judge rates: set OPENAI_BASE_URL (without it https://api.openai.com/v1), OPENAI_API_KEY where it"
        " needs a key, AFT_JUDGE_MODEL (or label.ratings.model=NAME)"
    )
    assert last == f"aft-report --table 3 {config.output_dir} --output runs/tables/paper --format all"


def test_printed_commands_end_with_those_of_the_table(capsys):
    runner.main("2", ["--rates", "1e-3", "--same-rate", "3e-4", "--format", "csv", "--output", "my tables", "--print"])
    run, *reports = capsys.readouterr().out.splitlines()
    assert run.startswith("aft-train ")
    known = [report.parse_table(shlex.split(line)[1:]) for line in reports]
    folder = "my tables/tiny"
    assert [(k.table, k.runs, k.output, k.format, k.suffix) for k in known] == [
        ("2", [f"{folder}/binary"], folder, "csv", ""),
        ("2", [f"{folder}/binary"], folder, "csv", "lr0.0003"),
    ]


def test_a_judge_that_is_named_is_not_asked_for(capsys):
    runner.main("4", ["--scale", "paper", "--slurm", "label.ratings.model=some-judge"])
    text = capsys.readouterr().out
    assert "# a judge rates: set OPENAI_BASE_URL" in text and "AFT_JUDGE_MODEL" not in text
    runner.main("2", ["--scale", "paper", "--slurm"])
    assert "a judge rates" not in capsys.readouterr().out


def test_accelerate_commands_are_one_for_each_stage(capsys):
    runner.main("5", ["--scale", "paper", "--accelerate"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "accelerate",
        "accelerate",
        "aft-label",
        *["accelerate"] * 2,
        "aft-report",
    ]
    assert lines[0].startswith(
        "accelerate launch --config_file configs/accelerate/fsdp2.yaml -m aft.cli.train --config"
    )
    assert [line.split("--stage ")[-1] for line in lines if "--stage" in line] == ["vft", "sample", "align", "evaluate"]


def test_slurm_makes_an_array_of_independent_runs(capsys, tmp_path):
    runner.main("2", ["--scale", "paper", "--slurm"])
    text = capsys.readouterr().out
    assert "#SBATCH --array=0-11" in text and "#SBATCH --gpus-per-node=8" in text
    assert text.count("aft-train --config") == 12
    *_, closing, last = text.splitlines()  # no job of an array knows when the others are done
    assert closing == "# when every job is done:" and last.startswith("# aft-report --table 2 runs/tables/paper/")
    runner.main("sensitivity", ["--scale", "paper", "--slurm"])  # where runs copy from each other, in order
    ordered = capsys.readouterr().out
    assert "--array" not in ordered and "cp -rn" in ordered
    assert ordered.splitlines()[-1].startswith("aft-report --table sensitivity ")
    runner.main("1", ["--scale", "gpu", "--slurm"])  # the base model comes before the runs that start from it
    assert "--array" not in capsys.readouterr().out
    for script in (text, ordered):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("key", [key for key, scale in ALL if scale == "tiny"])
def test_the_tiny_scale_runs_on_the_cpu(key):
    assert {command.load().launch.device for command in commands(key, "tiny")} == {"cpu"}


def test_slurm_on_several_nodes(capsys):
    given = ["--scale", "paper", "--slurm", "launch.slurm={nodes: 2, gpus_per_node: 8}"]
    runner.main("2", given)
    text = capsys.readouterr().out
    assert "#SBATCH --nodes=2" in text and text.index("export MASTER_ADDR") < text.index("run aft-train")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    with pytest.raises(ConfigError, match="--accelerate: not with --slurm on several nodes"):
        runner.main("2", [*given, "--accelerate"])


def test_slurm_asks_for_what_the_configuration_uses(capsys):
    def asked(*arguments):
        runner.main("1", ["--slurm", *arguments])
        return re.findall(r"#SBATCH --(gpus\S+|cpus\S+)", capsys.readouterr().out)

    assert asked("--scale", "tiny") == ["cpus-per-task=2"]
    assert asked("--scale", "tiny", "launch.device=auto") == ["gpus-per-node=1", "cpus-per-task=8"]
    assert asked("--scale", "gpu") == ["gpus-per-node=1", "cpus-per-task=8"]
    assert asked("--scale", "paper", "launch.config=cpu") == ["cpus-per-task=1"]


def test_problems_are_told():
    with pytest.raises(AftError, match="table laboratory: not available at --scale paper; others have it: tiny, gpu"):
        runner.main("laboratory", ["--scale", "paper"])
    with pytest.raises(ConfigError, match="--only: no run llama; this table has llama-7b-rank"):
        runner.main("4", ["--scale", "paper", "--print", "--only", "llama"])
    with pytest.raises(ConfigError, match="--rates, --same-rate: --scale paper has the paper's learning rate"):
        runner.main("4", ["--scale", "paper", "--same-rate", "1e-3"])
    with pytest.raises(ConfigError, match="--same-rate: --scale small has --method-rates RATE"):
        runner.main("2", ["--scale", "small", "--same-rate", "1e-3"])
    with pytest.raises(ConfigError, match="--method-rates: only --scale small takes it"):
        runner.main("2", ["--scale", "tiny", "--method-rates", "1e-3"])
    with pytest.raises(ConfigError, match=r"--data: only --scale small takes it; data\.path=DIR is for"):
        runner.main("2", ["--data", "folder"])
    with pytest.raises(SystemExit):
        runner.main("4", ["--scale", "paper", "align.training.max_steps"])


# ---- a real model ----


@pytest.mark.parametrize("scale", ["tiny", "gpu"])
def test_wrong_chains_take_over_what_a_world_has_trained_and_longer_questions_train_anew(scale):
    runs = {run.name: run for run in plan("wrong-chains", scale)}
    assert sorted(runs) == sorted(f"{world}-{part}" for part in ("chains", "long") for world in ("harsh", "harsh-few"))
    worlds = {run.name: run for run in plan("laboratory", scale)}
    by_folder = {command.folder.name: command.load() for command in commands("wrong-chains", scale)}
    known = {command.folder.name: command.load() for command in commands("laboratory", scale)}
    for world in ("harsh", "harsh-few"):
        run, shifted = runs[f"{world}-chains"], runs[f"{world}-long"]
        assert (run.source, run.takes) == (world, ("vft", "sample", "label", "align"))
        same = ("data", "vft", "sample", "label", "align", "model", "training")
        assert all(getattr(by_folder[run.name], key) == getattr(known[world], key) for key in same)
        grids = [worlds[world].grid, run.grid, shifted.grid]
        assert len({(grid.name, grid.config, grid.overrides) for grid in grids}) == 1
        assert all(getattr(by_folder[shifted.name], key) == getattr(known[world], key) for key in ("vft", "model"))
        own, parts = known[world].data, by_folder[shifted.name].data.parts
        sums, long = parts["sums"].data, parts["long"].data
        for key in ("num_train", "num_answer_only", "num_validation"):
            assert getattr(sums, key) == getattr(own, key)
        assert parts["long"].share == long.num_validation == 0 and sums.num_test == long.num_test == own.num_test / 2
        lengths = ("min_statements", "max_statements")
        for options_of in (sums.options, long.options, own.options):
            rest = {key: value for key, value in options_of.items() if key not in lengths}
            assert rest == {key: value for key, value in own.options.items() if key not in lengths}
        # the base model has read the length that is never trained on
        read = known["harsh-base"].data.options.get("max_statements", 4)
        assert long.options["min_statements"] == long.options["max_statements"] == read
        assert sums.options["max_statements"] == read - 1
    assert all(config.evaluate.self_consistency.chains for name, config in by_folder.items() if name in runs)


def test_wrong_chains_on_a_real_model_have_no_controls_of_equal_work():
    (run,) = plan("wrong-chains", "small")
    assert (run.name, run.source) == ("arithmetic-chains", "arithmetic") and not CONTROLS.keys() & set(run.methods)
    *_, last = commands("wrong-chains", "small")
    assert last.load().evaluate.models == ["vft", *run.methods]
    section = last.load().evaluate.self_consistency
    assert (section.num_questions, section.num_paths, section.ns) == (48, 32, [1, 2, 4, 8, 16, 32])


@pytest.mark.parametrize("key", ["wrong-chains", "rounds"])
def test_a_run_that_takes_over_a_real_models_units_takes_over_its_trials_of_learning_rates(tmp_path, key):
    runs = plan(key, "small")
    known = options("small", rates=None, output=tmp_path)
    (own,) = (run for run in plan("2", "small") if run.name == "arithmetic")
    steps = [runner.steps_of([run], known, (0, 1)) for run in (own, *runs)]
    first, *trials = [next(step for step in of_run if isinstance(step, Command)) for of_run in steps]
    assert {trial.folder for trial in trials} == {first.folder}
    assert all(trial.load().vft == first.load().vft for trial in trials)
    grids = [real_grid(run) for run in (own, *runs)]
    assert {grid.name for grid in grids} == {"arithmetic-grid"}


def test_a_real_models_seeds_come_one_after_the_other_from_one_vft(monkeypatch):
    monkeypatch.setattr(runner, "_precision", lambda _: (["training.bf16=false"], "computes in float32"))
    found = commands("2", "small", data=Path("my data"), overrides=["seeds=[7]"])
    runs = [(command.folder.name, command.load()) for command in commands("2", "small", data=Path("my data"))]
    assert [(name, config.seeds) for name, config in runs] == [
        (name, seeds) for name in ("ecqa", "gsm8k", "arithmetic") for seeds in ([0], [0, 1], [0, 1, 2])
    ]
    assert found[0].load().seeds == [7]  # what the user gives comes last
    for name, config in runs:
        assert list(config.methods) == ["vft-more", "rft", "aft", "aft-dc", "aft-bc", "rft-bc"]
        assert config.evaluate.models == ["vft", *config.methods]
        assert {align_config(config, method).init_from for method in config.methods} == {"vft"}
        assert {align_config(config, method).training["learning_rate"] for method in config.methods} == {1e-3}
        assert config.vft.training["learning_rate"] == 1e-3 and config.training["bf16"] is False
        assert config.evaluate.self_consistency.num_paths == 16
        assert getattr(config.data, "path", None) == (None if name == "arithmetic" else f"my data/{name}")


def test_a_real_models_rate_is_vfts_best_on_validation_questions(tmp_path):
    rates = RATES["small"]
    (run, *_) = plan("2", "small")
    known = options("small", rates=None, output=tmp_path)
    steps = runner.steps_of([run], known, (0, 1))
    trials = [next(steps) for _ in rates]
    assert [(c.load().stages, c.load().seeds, c.load().vft.training["learning_rate"]) for c in trials] == [
        (["vft"], [0], rate) for rate in rates
    ]
    with pytest.raises(AftError, match=r"validation accuracies of VFT of .*-lr0.0001.* not known yet"):
        next(steps)
    for trial, accuracy in zip(trials, (0.25, 0.5), strict=True):
        folder = trial.folder / "seed-0" / "vft"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text('{"inputs": {}, "outputs": {}}')
        log = [{"eval_task_accuracy": 1.0}, {"loss": 2.0}, {"eval_task_accuracy": accuracy}]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    known.method_rates = [1e-6]
    *_, copied, first, second = runner.steps_of([run], known, (0, 1))
    assert copied == Copy(trials[1].folder, tmp_path / "small" / run.name, ("vft",))
    assert first.load().vft.training["learning_rate"] == rates[1]
    assert align_config(first.load(), "aft").training["learning_rate"] == 1e-6
    # a trial and the run have one VFT, or it would be trained again
    assert dataclasses.replace(trials[1].load().vft) == first.load().vft and second.load().seeds == [0, 1]


def test_a_real_models_methods_have_their_best_rates_on_validation_questions(tmp_path):
    (run, *_) = plan("2", "small")
    known = options("small", output=tmp_path, method_rates=None)
    steps = runner.steps_of([run], known, (0, 1))
    labelled, copied, grid = next(steps), next(steps), next(steps)
    assert labelled.load().stages == ["vft", "sample", "label"] and labelled.load().seeds == [0]
    assert copied == Copy(labelled.folder, tmp_path / "small" / f"{run.name}-grid", ("vft", "sample", "label"))
    config = grid.load()
    assert (grid.folder, config.seeds, config.evaluate.split) == (copied.target, [0], "validation")
    names = [f"{name}-lr{rate:g}" for name in run.methods for rate in METHOD_RATES]
    assert list(config.methods) == names and config.evaluate.assessment is config.evaluate.self_consistency is None
    # the grid takes over VFT and samples, or it would make them again
    assert config.vft == labelled.load().vft and config.sample == labelled.load().sample
    assert align_config(config, "rft-lr1e-05").training["learning_rate"] == 1e-5
    with pytest.raises(AftError, match=r"learning rates of .*-grid: not known yet"):
        next(steps)
    best = dict(zip(run.methods, (1e-5, 3e-5, 1e-4, 1e-5, 3e-5, 1e-4), strict=True))
    winners = {f"{method}-lr{rate:g}" for method, rate in best.items()}
    grid_report(grid.folder, {name: float(name in winners) for name in names})
    *_, first, second = runner.steps_of([run], known, (0, 1))
    rates = {name: align_config(first.load(), name).training["learning_rate"] for name in run.methods}
    assert rates == best and second.load().seeds == [0, 1]
    (told,) = runner._trials_told([run], known)
    assert told.startswith("  and 6 methods of one seed a world 3 times")
    (shown,) = runner._grids([run], known)
    assert shown[1:] == (run.methods, METHOD_RATES)


def test_a_page_of_what_has_finished_names_what_has_not(tmp_path, capsys):
    given = ["--scale", "small", "--page", "--output", str(tmp_path), "--format", "markdown"]
    with pytest.raises(AftError, match="no page yet: nothing has been evaluated"):
        runner.main("2", given)
    write_run(tmp_path / "small" / "ecqa", {"vft": [[1, 0]], "rft": [[1, 1]]})
    for name in ("vft", "rft"):
        (tmp_path / "small" / "ecqa" / "seed-0" / "evaluate" / name / "manifest.json").write_text(
            '{"inputs": {}, "outputs": {}, "seconds": 60}'
        )
    runner.main("2", given)
    text = capsys.readouterr().out
    assert "ecqa: 2 of 45 units are finished" in text
    page = (tmp_path / "small" / "real.md").read_text()
    assert "not finished: ecqa, seed 1: every unit" in page and "not finished: gsm8k, seed 0: every unit" in page
    assert "not finished: ecqa, seed 0: vft, sample, align vft-more" in page and "; seeds 0; test questions" in page
    assert "not in this run: VFT, further steps, AFT, no constraint, AFT DC, AFT BC, RFT + AFT BC." in page


# ---- methods ----


def test_methods_and_their_variants():
    assert changes("aft-dc-k8") == {"loss": {"constraint": {"name": "detached"}}, "max_candidates": 8}
    assert changes("aft-bc-beta-0.4") == {"loss": {"constraint": {"name": "boundary", "beta": -0.4}}}
    assert changes("rrhf-w0.3") == {"loss": {"name": "rrhf", "weight": 0.3}}
    assert [parent(name) for name in ("aft-bc-beta-0.4", "aft-dc2", "rrhf-w0.3")] == ["aft-bc", "aft-dc2", "rrhf"]
    assert variants("aft-bc", "beta", [0.05, -0.8, 1.0]) == ("aft-bc-beta0.05", "aft-bc-beta-0.8", "aft-bc-beta1")
    with pytest.raises(AftError, match=r"method rft2: unknown\. Did you mean 'rft'\? Allowed: vft-more, rft"):
        changes("rft2")
    assert not {alias for names in ALIASES.values() for alias in names} & set(METHODS)


def test_rates_are_those_of_every_scale_with_a_grid():
    grids = {scale for key, scale in ALL for run in plan(key, scale) if run.grid is not None}
    assert grids == set(RATES) - {"small"}  # whose grid rests on the VFT of the run itself


# ---- copies ----


def unit(folder, *, finished=True):
    folder.mkdir(parents=True)
    (folder / "weights").write_text(folder.name)
    if finished:
        (folder / "manifest.json").write_text("{}")


def test_finished_units_are_copied_once(tmp_path):
    source, target = tmp_path / "binary", tmp_path / "binary-paths"
    for seed in (0, 1):
        unit(source / f"seed-{seed}" / "vft")
        unit(source / f"seed-{seed}" / "align" / "rft", finished=seed == 0)
    for name in ("checkpoint-5", "damaged-checkpoint-4", "damaged-checkpoint-4-2"):
        (source / "seed-0" / "vft" / name).mkdir()
    unit(source / "seed-0" / "evaluate" / "rft")
    step = Copy(source, target, ("vft", "sample", "align"))
    made = runner.copy_units(step)
    names = {str(path.relative_to(target)) for path in made}
    assert names == {"seed-0/vft", "seed-1/vft", "seed-0/align/rft"}
    assert not list((target / "seed-0" / "vft").glob("*checkpoint-*"))
    (target / "seed-0" / "vft" / "weights").write_text("another")
    assert runner.copy_units(step) == []
    assert (target / "seed-0" / "vft" / "weights").read_text() == "another"


def test_only_what_is_there_is_copied(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    wanted = options(output=tmp_path, print=False)
    copies = [step for step in runner.steps_of(plan("k", "tiny"), wanted, (0,)) if isinstance(step, Copy)]
    assert copies == []
    (folder / "binary").mkdir()
    copies = [step for step in runner.steps_of(plan("k", "tiny"), wanted, (0,)) if isinstance(step, Copy)]
    assert copies == [Copy(folder / "binary", folder / "binary-64", ("vft",))]


def test_runs_are_told_apart_by_name():
    assert Run("a", "b.yaml") == Run("a", "b.yaml") and hash(Run("a", "b.yaml")) == hash(Run("a", "b.yaml"))


SMALL = [
    *("data.num_train=16", "data.num_answer_only=8", "data.num_validation=8", "data.num_test=12"),
    *("vft.training.num_train_epochs=1", "vft.validation.num_questions=4", "align.training.max_steps=1"),
    *("sample.pool_questions=4", "sample.num_samples=4", "launch.workers=1", "evaluate.assessment=null"),
]


@pytest.mark.slow
def test_a_script_makes_a_table_from_nothing_and_once(tmp_path):
    arguments = [
        ROOT / "scripts" / "table8_rank_constraints.py",
        "--output",
        tmp_path,
        "--seeds",
        "0",
        "--rates",
        "1e-4",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def run():
        command = [sys.executable, *map(str, arguments), *SMALL]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=HUNG_AFTER, env=environment)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    out = run()
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")]
    assert rows[:7] == ["constraint", "---", "VFT", "RBC", "RDC1", "RDC2", "none"]
    assert "paper (LLama-7B, GSM8K-RANK)" in out and "**not tested**" in out
    assert {path.suffix for path in (tmp_path / "tiny").glob("table-8.*")} >= {".md", ".json", ".csv", ".tex"}
    ratings = json.loads((tmp_path / "tiny" / "rank" / "seed-0" / "label" / "counts.json").read_text())
    assert ratings["groups_with_pair"] > 0
    weights = tmp_path / "tiny" / "rank" / "seed-0" / "vft" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert "| RDC2 |" in run() and weights.stat().st_mtime_ns == before
