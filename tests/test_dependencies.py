"""What src/aft imports is declared in pyproject.toml: core packages for every module, an extra's for its own alone."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from test_layers import MODULES, others, package

tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROVIDED_BY = importlib.metadata.packages_distributions()
# package of ours -> the extra whose packages it may import
EXTRAS = {"answers": "math", "report": "plots", "scoring": "flash-attn", "model": "gguf"} | {
    "training": "trackers",
    "quantised": "qlora",
}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def named(requirements: list[str]) -> set[str]:
    """The distributions that requirements such as `torch>=2.6` name."""
    return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def distribution_of(imported: str) -> str:
    """The distribution that an import comes from; one that is not installed has the import's name."""
    return normal(PROVIDED_BY.get(imported, [imported])[0])


CORE = named(PROJECT["dependencies"])
# transformers renders chat templates with it, and does not install it
OF_TRANSFORMERS = {"jinja2"}
# a script that runs in the environment of another package
OF_ANOTHER_INTERPRETER = {"aft.sampling.vllm_worker": {"vllm"}}


@pytest.mark.parametrize("name", MODULES)
def test_every_import_is_declared(name):
    extra = EXTRAS.get(package(name))
    allowed = CORE | (named(PROJECT["optional-dependencies"][extra]) if extra else set())
    assert {distribution_of(imported) for imported in others(name)} <= allowed | OF_ANOTHER_INTERPRETER.get(name, set())


def test_every_core_package_is_imported():
    assert {distribution_of(imported) for name in MODULES for imported in others(name)} >= CORE - OF_TRANSFORMERS


def test_every_extra_of_a_package_is_needed():
    for ours, extra in EXTRAS.items():
        used = {distribution_of(imported) for name in MODULES if package(name) == ours for imported in others(name)}
        assert used >= named(PROJECT["optional-dependencies"][extra]), (ours, extra)


def test_the_oldest_versions_are_those_that_the_project_allows():
    text = (Path(__file__).resolve().parents[1] / "constraints-oldest.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    pinned = {normal(name): version for name, version in pinned.items()}
    extras = [
        requirement for name in ("gguf", "math", "plots") for requirement in PROJECT["optional-dependencies"][name]
    ]
    floors = dict(requirement.split(",<")[0].split(">=") for requirement in [*PROJECT["dependencies"], *extras])
    assert {normal(name) for name in floors} <= set(pinned)
    for name, floor in floors.items():
        # 2.11 names 2.11.0
        assert re.fullmatch(rf"{re.escape(floor)}(\.0)*", pinned[normal(name)]), (name, floor)
