"""The layout of a run's folder: from a unit to its path, from a path back to its unit, and that it stands once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from aft.run import folder as layout
from aft.run.folder import METRICS, POOL, STAGES, RunFolder

RUN = RunFolder("runs/tiny")
ROOT = Path(__file__).resolve().parents[2]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


# ---- where things are ----


def test_the_files_of_a_run_keep_their_places():
    found = {
        RUN.config: "config.yaml",
        RUN.environment: "environment.json",
        RUN.data: "data.json",
        RUN.logs: "logs",
        RUN.judge_cache: "judge-cache",
        RUN.report("json"): "report.json",
        RUN.calibration: "calibration.png",
        RUN.checkpoint("base"): "base",
        RUN.checkpoint("vft", 3): "seed-3/vft",
        RUN.checkpoint("bcl", 3): "seed-3/align/bcl",
        RUN.completions(3): "seed-3/sample/completions.jsonl",
        RUN.groups(3): "seed-3/label/groups.jsonl",
        RUN.pool(3): "seed-3/label/pool.jsonl",
        RUN.counts(3): "seed-3/label/counts.json",
        RUN.evaluated("bcl", 3): "seed-3/evaluate/bcl/metrics.json",
        RUN.evaluated("bcl", 3, POOL): "seed-3/evaluate/bcl/pool.jsonl",
        RUN.unit("pretrain").manifest: "base/manifest.json",
        RUN.unit("align", 3, "bcl").manifest: "seed-3/align/bcl/manifest.json",
    }
    assert {path: RUN.within(path) for path in found} == found


@pytest.mark.parametrize("stage", STAGES)
def test_a_path_leads_back_to_its_unit(stage):
    unit = RUN.unit(stage, 12, "bcl")
    assert RUN.unit_of(unit.folder) == RUN.unit_of(unit.manifest) == RUN.unit_of(unit.folder / "a" / "b") == unit
    assert stage == "pretrain" or RunFolder.around(unit.manifest).path == RUN.path


def test_a_path_that_no_unit_owns_leads_to_none():
    strange = [
        "",
        "config.yaml",
        "logs/x.log",
        "seed-0",
        "seed-0/align",
        "seed-0/pretrain/x",
        "seed-x/vft",
        "seed-00/vft",
    ]
    assert [RUN.unit_of(RUN.path / name) for name in strange] == [None] * len(strange)
    assert RUN.unit_of("elsewhere/seed-0/vft") is None
    assert RunFolder.around("runs/tiny/config.yaml") is None
    # a run may lie in the folder of another: the innermost seed counts
    assert RunFolder.around("a/seed-1/b/seed-2/vft/config.json").path == Path("a/seed-1/b")


def test_the_units_on_disk_stand_by_seed_stage_and_name(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.seeds() == [] and run.units() == []
    units = [
        run.unit("pretrain"),
        *(run.unit(stage, 2, "bcl") for stage in ("vft", "align", "evaluate")),
        *(run.unit("evaluate", 10, name) for name in ("base", "rft")),
    ]
    for unit in reversed(units):
        touch(unit.manifest)
    touch(run.path / "seed-2" / "align" / "initial-scores-vft.json")
    touch(run.path / "seed-2" / "align" / ".rft.77.tmp" / "manifest.json")  # a copy that was cut
    touch(run.path / "replaced" / "1" / "seed-0" / "vft" / "manifest.json")
    touch(run.path / "seed-5")
    assert run.seeds() == [2, 10]
    assert run.units() == units
    assert run.units("evaluate", "vft") == [unit for unit in units if unit.stage in ("evaluate", "vft")]


def test_the_folders_that_a_run_writes_into_are_no_links_and_no_other_runs(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.folders() == []
    others = ["notes/x", "inner/.lock", "inner/seed-0/vft/x", "seed-1/.lock", "seed-1/vft/x", "seed-2/align/a/.lock"]
    for name in [".lock", "logs/x", "base/checkpoint-4/x", "base/other/x", "seed-0/align/bcl/adapter/x", *others]:
        touch(run.path / name)
    (run.path / "judge-cache").symlink_to(tmp_path, target_is_directory=True)
    (run.path / "seed-0" / "vft").symlink_to(run.path / "base", target_is_directory=True)
    own = ["logs", "seed-0", "seed-0/align", "seed-2", "seed-2/align"]
    of_models = ["base", "base/checkpoint-4", "seed-0/align/bcl", "seed-0/align/bcl/adapter"]
    expected = {(run.path, False), *((run.path / x, False) for x in own), *((run.path / x, True) for x in of_models)}
    assert set(run.folders()) == expected and len(run.folders()) == len(expected)


# ---- once ----

FILES = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str) and "." in value}
FILES = (FILES - {layout.TRAINER_STATE}) | {RUN.config.name, RUN.environment.name, RUN.data.name, "report.json"}
FOLDERS = {*STAGES, layout.BASE, RUN.logs.name, RUN.judge_cache.name, "replaced"}


def spelled(path: Path) -> list[str]:
    """The texts in a module's code that are part of a path in a run's folder, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = (node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    docstrings = {id(node.body[0].value) for node in bodies if node.body and isinstance(node.body[0], ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if node.value in FILES or "seed-" in node.value:
                found.append(f"{path.name}:{node.lineno}: {node.value}")
        elif isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and node.right.value in FOLDERS:
            found.append(f"{path.name}:{node.lineno}: / {node.right.value}")
    return found


def test_the_search_for_spelled_paths_finds_them(tmp_path):
    path = tmp_path / "reader.py"
    code = ['"""Reads seed-0/vft."""', 'f / "align" / n', 'f"seed-{s}"', 'f.glob("seed-*")', 'f / "metrics.json"']
    path.write_text("\n".join(code))
    found = [line.split(": ", 1)[1] for line in spelled(path)]
    assert METRICS in FILES and sorted(found) == ["/ align", "metrics.json", "seed-", "seed-*"]


def test_no_other_module_spells_a_path_in_a_runs_folder():
    modules = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert [line for path in modules if path != Path(layout.__file__) for line in spelled(path)] == []
