"""Who may import whom: read from the source, so that an import inside a function counts as well."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from limits import HUNG_AFTER

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "aft").rglob("*.py"))
}
HEAVY = {"torch", "transformers", "datasets", "accelerate", "peft", "tokenizers"}
STANDARD = sys.stdlib_module_names


def imports(name: str, *, late: bool = True) -> set[str]:
    """Modules that module `name` imports, in full; without `late` only those that importing it imports."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *(node.module or "").split(".")]).strip(".")
            # `from . import run` imports the module, `from .run import read_json` a name in it
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names)
        for child in ast.iter_child_nodes(node):
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if late or not (guarded or function):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def ours(name: str, *, late: bool = True) -> set[str]:
    return {module for module in imports(name, late=late) if module.split(".")[0] == "aft"}


def others(name: str, *, late: bool = True) -> set[str]:
    """Top-level packages beyond the standard library and this package."""
    return {module.split(".")[0] for module in imports(name, late=late)} - STANDARD - {"aft"}


def reached(name: str) -> set[str]:
    """The module and all of ours that importing it imports, directly or not."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += ours(module, late=False)
    return seen


def below(package: str) -> list[str]:
    return [name for name in MODULES if name == package or name.startswith(package + ".")]


# Who may import whom, a line a package (a flat module is a package of one). Everything may import `aft` and `errors`.
MAY_IMPORT = {
    "errors": "",
    "ending": "",
    "shown": "",
    "text_files": "",
    "json_files": "text_files",
    "markdown": "shown",
    "progress": "ending shown",
    "endpoint": "shown",
    "prompts": "",
    "sizes": "",
    "device": "",
    "own_code": "",
    "losses": "",
    "logps": "",
    "records": "json_files",
    "answers": "ending",
    "stats": "",
    "yaml_files": "shown text_files",
    "run": "json_files shown",
    "config": "records run yaml_files",
    "model": "json_files progress",
    "quantised": "model",
    "encoding": "model prompts text_files",
    "tasks": "json_files text_files records answers own_code",
    "grading": "records answers tasks",
    "scoring": "logps model records",
    "sampling": "endpoint json_files model progress records shown sizes",
    "training": "ending json_files losses model progress scoring",
    "labelling": "config endpoint json_files text_files markdown own_code progress records answers run stats"
    " tasks grading",
    "evaluation": "records stats tasks",
    "convert": "config json_files text_files markdown prompts records shown tasks",
    "report": "answers json_files markdown records run shown stats yaml_files",
    "stages": "config device encoding ending json_files losses markdown model progress prompts quantised records run"
    " shown tasks grading"
    " scoring sampling training labelling evaluation sizes stats",
    "slurm": "config run",
    "forecast": "config device json_files model run scoring stages tasks",
    "launch": "config device ending endpoint forecast json_files markdown model progress report run shown sizes stats"
    " tasks labelling stages training",
    "paper": "slurm config device ending endpoint json_files markdown run shown stats report yaml_files",
    "watch": "config json_files progress run shown stages",
    "api": "cli config ending json_files report run shown yaml_files",
    "cli": "slurm config ending forecast json_files markdown progress prompts records shown convert labelling launch"
    " paper report run stages watch",
    # old names of public modules
    "packing": "scoring",
    "forward": "scoring",
    "layouts": "scoring",
}

# What a package may import beyond the standard library, inside functions too.
MAY_USE = {
    "losses": "torch",
    "logps": "torch",
    "device": "torch",
    "progress": "tqdm",
    "yaml_files": "yaml",
    "answers": "math_verify",  # an extra, in a process of its own
    "tasks": "datasets",  # the hub's data sets, imported where they are read
    "convert": "datasets pyarrow yaml",
    "run": "filelock",
    "labelling": "",
    "paper": "matplotlib numpy",
    "report": "matplotlib numpy",
    "stats": "numpy",
    "evaluation": "numpy",
    "model": "torch transformers peft safetensors tokenizers gguf",
    "quantised": "torch transformers peft bitsandbytes",
    "encoding": "transformers tokenizers",
    "scoring": "torch transformers flash_attn",
    "sampling": "torch transformers accelerate vllm",
    # the last four are trackers, an extra
    "training": "torch transformers accelerate safetensors tqdm mlflow tensorboard trackio wandb",
    "stages": "torch transformers accelerate huggingface_hub",
    "forecast": "torch transformers",
    "launch": "torch transformers accelerate huggingface_hub tqdm",
    "watch": "rich",
    "api": "datasets",
    "cli": "torch rich",
}


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def test_the_reader_of_imports_reads_them():
    assert ours("aft.stages.plan") >= {"aft.run.manifest", "aft.config", "aft.config.load", "aft.errors", "aft.tasks"}
    assert others("aft.model") >= {"torch", "transformers", "peft"} and "peft" not in others("aft.model", late=False)
    assert "aft.losses" in ours("aft.stages.loss_section")
    assert set().union(*map(ours, MODULES)) <= set(MODULES)


def test_every_package_is_in_the_table():
    assert {package(name) for name in MODULES} - {"aft"} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_table(name):
    allowed = {"aft", "errors", package(name), *MAY_IMPORT.get(package(name), "").split()}
    # `aft` names them for type checkers and imports them at their first use
    assert {package(module) for module in ours(name)} <= (allowed if name != "aft" else {"api", "errors"})
    assert others(name) <= set(MAY_USE.get(package(name), "").split())


def test_the_table_has_no_circle_and_no_unused_arrow():
    used = {(package(name), package(module)) for name in MODULES for module in ours(name)}
    for name, line in MAY_IMPORT.items():
        assert all((name, other) in used for other in line.split()), name
    waiting = {name: set(line.split()) for name, line in MAY_IMPORT.items()}
    while free := [name for name, below_it in waiting.items() if not below_it]:
        for name in free:
            del waiting[name]
        for below_it in waiting.values():
            below_it -= set(free)
    assert not waiting


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_itself_in_a_circle(name):
    assert all(name not in reached(other) for other in ours(name, late=False))


WITHOUT_TORCH = [
    *("aft.records", "aft.prompts", "aft.grading", "aft.progress", "aft.own_code", "aft.json_files", "aft.markdown"),
    "aft.yaml_files",
    *("aft.stages", "aft.stages.plan", "aft.stages.label", "aft.stages.card", "aft.stages.complete"),
    *("aft.stages.recompute", "aft.cli.verify", "aft.forecast.optimizers", "aft.forecast.hardware"),
    *("aft.api", "aft.cli.watch", *below("aft.watch")),
    *(
        name
        for top in ("answers", "tasks", "config", "convert", "labelling", "evaluation")
        for name in below(f"aft.{top}")
    ),
    *(name for top in ("evaluation", "stats", "run", "report", "paper") for name in below(f"aft.{top}")),
]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_needs_no_model_imports_no_torch(name):
    # the hub's and saved data sets alone need `datasets`, and it is imported where they are read
    late = {"datasets"} if name in ("aft.tasks.sources", "aft.convert.files", "aft.api") else set()
    assert others(name) & HEAVY <= late
    assert {other for module in reached(name) for other in others(module, late=False)} & HEAVY == set()


def test_the_layout_of_a_row_knows_torch_alone():
    for name, allowed in (("aft.scoring.segments", set()), ("aft.scoring.packing", {"aft.scoring.segments"})):
        assert others(name) <= {"torch"} and ours(name) == allowed


def test_the_loop_over_the_cache_knows_tokens_alone():
    assert ours("aft.sampling.slots") == set() and ours("aft.sampling.decoding") == {"aft.errors", "aft.sampling.slots"}
    assert others("aft.sampling.slots") | others("aft.sampling.decoding") == {"torch", "transformers"}


def test_a_judge_knows_no_configuration():
    for name in below("aft.labelling.judge"):
        assert others(name) == set()
        assert {package(module) for module in ours(name)} <= {
            "aft",
            "endpoint",
            "errors",
            "json_files",
            "text_files",
            "progress",
            "shown",
            "labelling",
        }


def test_stages_do_not_import_each_other():
    stages = {f"aft.stages.{name}" for name in ("train", "sample", "label", "evaluate")}
    for name in below("aft.stages"):
        assert not ours(name) & stages, name


def test_the_trainer_knows_no_loss_by_name():
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(MODULES["aft.training.trainer"].read_text(encoding="utf-8")))
        if isinstance(node, (ast.Name, ast.Attribute))
    }
    assert not {name for name in names if name in ("LOSSES", "CONSTRAINTS") or name.endswith("alignment_loss")}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("aft", set()),
        ("aft.errors", set()),
        ("aft.config", {"yaml"}),
        ("aft.tasks", set()),
        ("aft.stages.plan", {"yaml"}),
        ("aft.labelling.labels", set()),
        ("aft.convert", set()),
        ("aft.launch.conductor", {"yaml", "tqdm"}),
        ("aft.launch.preflight", {"yaml", "tqdm"}),
        ("aft.stages.label", {"yaml", "tqdm"}),
        *(
            (f"aft.cli.{name}", set())
            for name in ("train", "sample", "label", "evaluate", "report", "verify", "convert", "main")
        ),
    ],
)
def test_an_import_brings_in_no_more_than_it_needs(module, allowed):
    watched = HEAVY | {"yaml", "tqdm", "numpy", "matplotlib", "scipy", "pandas"}
    code = f"import sys, {module}\nprint(*sorted({watched!r} & {{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HUNG_AFTER)
    assert set(ran.stdout.split()) <= allowed


@pytest.mark.parametrize("name", ["packing", "forward", "layouts"])
def test_old_names_of_public_modules_still_import_and_say_so(name):
    sys.modules.pop(f"aft.{name}", None)
    with pytest.warns(DeprecationWarning, match=r"import from aft\.scoring"):
        old = importlib.import_module(f"aft.{name}")
    new = importlib.import_module(f"aft.scoring.{name}")
    assert all(getattr(new, key) is value for key, value in vars(old).items() if key in vars(new) and key[0] != "_")
