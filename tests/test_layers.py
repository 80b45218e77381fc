"""Who may import whom: read from the source, so that an import inside a function counts as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_reader_of_imports_reads_them():
    assert ours("aft.pipeline") >= {"aft.run", "aft.config", "aft.config.load", "aft.errors", "aft.tasks"}
    assert others("aft.model") >= {"torch", "transformers", "peft"} and "peft" not in others("aft.model", late=False)
    assert "aft.losses" in ours("aft.stages.train")
    assert set().union(*map(ours, MODULES)) <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_itself_in_a_circle(name):
    assert all(name not in reached(other) for other in ours(name, late=False))


def test_errors_and_the_package_itself_import_nothing_of_ours():
    assert ours("aft.errors") == set() and others("aft.errors") == set()
    assert imports("aft") == set()


@pytest.mark.parametrize("name", [*below("aft.losses"), "aft.logps"])
def test_losses_and_logps_know_torch_alone(name):
    assert others(name) <= {"torch"}
    assert all(module.startswith("aft.losses") for module in ours(name))


@pytest.mark.parametrize(("name", "allowed"), [("aft.segments", set()), ("aft.packing", {"aft.segments"})])
def test_the_layout_of_a_row_knows_torch_alone(name, allowed):
    assert others(name) <= {"torch"} and ours(name) == allowed


@pytest.mark.parametrize("name", ["aft.records", *below("aft.answers"), "aft.intervals", "aft.prompts"])
def test_plain_data_and_text_know_the_standard_library_alone(name):
    # the symbolic engine is an extra, imported where it is used, which is in a process of its own
    assert others(name, late=False) == set()
    assert others(name) <= ({"math_verify"} if name == "aft.answers.symbolic_worker" else set())
    assert {module for module in ours(name) if not module.startswith("aft.answers")} <= {"aft.errors"}


WITHOUT_TORCH = [
    *(
        "aft.records",
        *below("aft.answers"),
        "aft.prompts",
        "aft.reading",
        "aft.labelling",
        "aft.evaluation",
        "aft.intervals",
    ),
    *("aft.pipeline", "aft.run", "aft.progress", "aft.results", "aft.tables", "aft.card"),
    *("aft.own_code", "aft.ratings", "aft.rating_inputs", *below("aft.judge")),
    *below("aft.config"),
    *below("aft.tasks"),
    *below("aft.convert"),
    *("aft.stages", "aft.stages.label"),
    *below("aft.paper"),
]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_needs_no_model_imports_no_torch(name):
    # the hub's and saved data sets alone need `datasets`, and it is imported where they are read
    late = {"datasets"} if name in ("aft.tasks.sources", "aft.convert.files") else set()
    assert others(name) & HEAVY <= late
    assert {other for module in reached(name) for other in others(module, late=False)} & HEAVY == set()


@pytest.mark.parametrize("name", below("aft.config"))
def test_config_does_not_know_what_it_configures(name):
    assert all(module.startswith("aft.config") or module == "aft.errors" for module in ours(name))
    assert others(name) <= {"yaml"}


@pytest.mark.parametrize("name", below("aft.tasks"))
def test_tasks_know_data_and_answers_alone(name):
    allowed = ("aft.errors", "aft.records", "aft.answers", "aft.own_code", "aft.tasks")
    assert all(module.startswith(allowed) for module in ours(name))


@pytest.mark.parametrize("name", below("aft.judge"))
def test_a_judge_knows_the_standard_library_and_no_configuration(name):
    assert others(name) == set()
    beyond = {module for module in ours(name) if not module.startswith("aft.judge")}
    assert beyond <= {"aft", "aft.errors", "aft.records", *({"aft.progress"} if name == "aft.judge.judge" else set())}


def test_the_code_of_a_user_is_loaded_without_ours():
    assert ours("aft.own_code") == {"aft.errors"} and others("aft.own_code") == set()


@pytest.mark.parametrize("name", below("aft.convert"))
def test_conversion_knows_plain_data_alone(name):
    allowed = ("aft.errors", "aft.records", "aft.prompts", "aft.convert")
    assert all(module.startswith(allowed) for module in ours(name))
    assert others(name, late=False) == set()


def test_stages_do_not_import_each_other():
    for name in below("aft.stages"):
        assert {module for module in ours(name) if module.startswith("aft.stages")} <= {"aft.stages.context"}, name
    assert not {module for module in ours("aft.stages.context") if module.startswith("aft.stages")}


def test_stages_are_started_by_launch_alone():
    users = {name for name in MODULES if any(module.startswith("aft.stages") for module in ours(name))}
    assert {name for name in users if not name.startswith("aft.stages")} == {"aft.launch"}


def test_nothing_imports_the_commands_but_commands():
    users = {name for name in MODULES if any(module.startswith("aft.cli") for module in ours(name))}
    assert all(name.startswith("aft.cli") for name in users)


def test_the_machinery_knows_no_configuration_and_no_plan():
    above = {
        "aft.config",
        "aft.pipeline",
        "aft.launch",
        "aft.checks",
        "aft.card",
        "aft.report",
        "aft.stages",
        "aft.cli",
    }
    machinery = (
        "trainer",
        "objective",
        "score_log",
        "sharding",
        "segments",
        "packing",
        "batching",
        "attention",
        "forward",
        "layouts",
        "items",
        "model",
        "sampling",
        "decoding",
        "slots",
        "scoring",
        "collect",
        "evaluation",
        "labelling",
        "own_code",
        "run",
    )
    for name in machinery:
        found = {module for module in ours(f"aft.{name}") for top in above if (module + ".").startswith(top + ".")}
        assert found == set(), name


def test_the_loop_over_the_cache_knows_tokens_alone():
    assert ours("aft.slots") == set() and ours("aft.decoding") == {"aft.errors", "aft.slots"}
    assert others("aft.slots") | others("aft.decoding") == {"torch", "transformers"}


def test_the_trainer_knows_no_loss_by_name():
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(MODULES["aft.trainer"].read_text(encoding="utf-8")))
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
        ("aft.pipeline", {"yaml"}),
        ("aft.labelling", set()),
        ("aft.convert", set()),
        ("aft.launch", {"yaml", "tqdm"}),
        ("aft.checks", {"yaml", "tqdm"}),
        ("aft.stages.label", {"yaml", "tqdm"}),
        *((f"aft.cli.{name}", set()) for name in ("train", "sample", "label", "evaluate", "report", "convert", "main")),
    ],
)
def test_an_import_brings_in_no_more_than_it_needs(module, allowed):
    watched = HEAVY | {"yaml", "tqdm", "numpy", "matplotlib", "scipy", "pandas"}
    code = f"import sys, {module}\nprint(*sorted({watched!r} & {{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(ran.stdout.split()) <= allowed
