"""A grid of learning rates: names, the best of each method, ties, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paper_runs import write_run

from aft.config import load_config
from aft.errors import AftError
from aft.json_files import write_json
from aft.paper import runner
from aft.paper.rates import accuracies, at_rate, at_rates, best_rates, grid_page
from aft.paper.vft_rates import vft_grid_page
from aft.report.build import write_report
from aft.run.digest import digest_file

ROOT = Path(__file__).resolve().parents[2]
RIGHT, HALF, WRONG = [1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]


METHODS = {"aft": {"loss": {"name": "alignment"}, "training": {"max_steps": 5}}, "rft": None}


def test_every_method_gets_every_rate_and_keeps_its_own_keys():
    grid = at_rates(METHODS, [3e-5, 1e-3])
    assert list(grid) == ["aft-lr3e-05", "aft-lr0.001", "rft-lr3e-05", "rft-lr0.001"]
    assert grid["aft-lr3e-05"] == {
        "loss": {"name": "alignment"},
        "training": {"max_steps": 5, "learning_rate": 3e-5},
    }
    assert grid["rft-lr0.001"] == at_rate(None, 1e-3) == {"training": {"learning_rate": 1e-3}}
    assert METHODS["aft"]["training"] == {"max_steps": 5}


def test_the_best_rate_is_the_lowest_of_equals():
    found = {
        "models": [
            {"name": n, "task_accuracy": {"mean": m}}
            for n, m in {"aft-lr3e-05": 0.7, "aft-lr0.001": 0.9, "rft-lr3e-05": 0.8, "rft-lr0.001": 0.8}.items()
        ]
    }
    assert best_rates(found, ["aft", "rft"], [3e-5, 1e-3]) == {"aft": 1e-3, "rft": 3e-5}
    assert accuracies(found, ["aft"], [3e-5, 1e-3])["aft"][1e-3].mean == 0.9


def test_a_method_without_any_figure_is_named():
    found = {"models": [{"name": "aft-lr0.001", "task_accuracy": None}]}
    with pytest.raises(AftError, match=r"aft: no accuracy at any of the learning rates 0\.001"):
        best_rates(found, ["aft"], [1e-3])


def evaluated(folder: Path, answers, seeds=(0, 1)) -> Path:
    """A run whose evaluations have manifests, with its report."""
    write_run(folder, answers, {"seeds": list(seeds)})
    for unit in folder.glob("seed-*/evaluate/*"):
        write_json(unit / "manifest.json", {"inputs": {}, "outputs": {}, "git_revision": "abc"})
    write_report(folder, picture=False)
    return folder


def test_the_best_is_bold_and_every_cell_has_its_manifests(tmp_path):
    answers = {"vft": [HALF, HALF], "rft-lr0.1": [RIGHT, HALF], "rft-lr0.5": [WRONG, HALF], "aft-lr0.1": [RIGHT, RIGHT]}
    folder = evaluated(tmp_path / "grid", answers)
    text, results = grid_page(folder, ["rft"], [0.1, 0.5])
    assert text.splitlines() == [
        f"Validation accuracy (%) by learning rate, {folder}; seeds 0, 1; evaluated at commit abc:",
        "",
        "| method | 0.1 | 0.5 |",
        "| --- | ---: | ---: |",
        "| rft | **75.0 ± 35.4** | 25.0 ± 35.4 |",
        "",
        "Best at the edge of the grid, beyond which a better rate may lie: rft (0.1, the lowest).",
    ]
    assert results["learning_rates"] == {"rft": 0.1}
    assert {seed: value["value"] for seed, value in results["accuracy"]["rft"][0.1]["by_seed"].items()} == {
        "0": 1.0,
        "1": 0.5,
    }
    paths = [folder / f"seed-{seed}/evaluate/rft-lr{rate}/manifest.json" for seed in (0, 1) for rate in (0.1, 0.5)]
    assert results["manifests"] == {path.as_posix(): digest_file(path) for path in paths}


def test_a_method_that_is_not_measured_has_dashes(tmp_path):
    folder = evaluated(tmp_path / "grid", {"rft-lr0.1": [HALF], "rft-lr0.5": [RIGHT], "rft-lr0.9": [HALF]}, [0])
    text, results = grid_page(folder, ["rft", "aft"], [0.1, 0.5, 0.9])
    assert text.splitlines()[-1] == "| aft | – | – | – |" and "edge" not in text
    assert results["learning_rates"] == {"rft": 0.5}


def finished(folder, seed, accuracy):
    vft = folder / f"seed-{seed}" / "vft"
    vft.mkdir(parents=True)
    (vft / "manifest.json").write_text("{}")
    (vft / "trainer_state.json").write_text(json.dumps({"log_history": [{"eval_task_accuracy": accuracy}]}))


def test_the_grid_of_vft_has_a_page(tmp_path):
    folders = {rate: tmp_path / f"base-vft-lr{rate:g}" for rate in (0.1, 0.5)}
    assert vft_grid_page(folders, "base-vft", (100, 101)) is None
    finished(folders[0.1], 100, 0.5)
    finished(folders[0.1], 101, 0.6)
    finished(folders[0.5], 100, 0.7)
    text, results = vft_grid_page(folders, "base-vft", (100, 101))
    assert text.endswith("Not finished: 0.5, seed 101.") and results["learning_rates"] == {}
    finished(folders[0.5], 101, 0.8)
    text, results = vft_grid_page(folders, "base-vft", (100, 101))
    assert text.splitlines() == [
        "Validation accuracy (%) of VFT by learning rate, base-vft; seeds 100, 101:",
        "",
        "| model | 0.1 | 0.5 |",
        "| --- | ---: | ---: |",
        "| VFT | 55.0 ± 7.1 | **75.0 ± 7.1** |",
        "",
        "Best at the edge of the grid, beyond which a better rate may lie: VFT (0.5, the highest).",
    ]
    assert results["learning_rates"] == {"vft": 0.5} and len(results["manifests"]) == 4
    assert vft_grid_page({0.1: folders[0.1]}, "base-vft", (100, 101)) is None


def test_no_page_without_a_grid(tmp_path):
    assert grid_page(tmp_path, ["rft"], [0.1, 0.5]) is None
    assert grid_page(evaluated(tmp_path / "grid", {"rft-lr0.1": [RIGHT]}, [0]), ["rft"], [0.1]) is None


@pytest.fixture
def trained(monkeypatch):
    """In place of aft-train: whatever models a call asks for are evaluated, half right at the higher rate."""

    def train(arguments):
        assert arguments[0] == "--config"
        config = load_config(arguments[1], arguments[2:])
        answers = {name: [HALF if name.endswith("-lr0.001") else RIGHT] * len(config.seeds) for name in config.methods}
        evaluated(Path(config.output_dir), {"vft": [HALF] * len(config.seeds), **answers}, config.seeds)

    monkeypatch.setattr(runner, "train", train)
    monkeypatch.chdir(ROOT)  # where configs/ is


def test_a_part_of_a_table_does_not_replace_the_whole(tmp_path, trained):
    arguments = ["--output", str(tmp_path), "--rates", "1e-4", "1e-3", "--format", "markdown", "--only", "rank"]
    runner.main("3", [*arguments, "--same-rate", "1e-3"])
    written = {path.name for path in (tmp_path / "tiny").iterdir() if path.is_file()}
    stems = ("table-3-rank", "table-3-rank-lr0.001", "table-3-rank-rank-grid")
    assert written == {f"{stem}{ending}" for stem in stems for ending in (".md", ".json")}
    grid = json.loads((tmp_path / "tiny" / "table-3-rank-rank-grid.json").read_text())
    assert grid["learning_rates"]["rrhf"] == 1e-4 and grid["manifests"]
