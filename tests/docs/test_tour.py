"""The notebook docs/tour.ipynb: its cells run in order in one namespace, and it is committed without outputs.

The cells are plain Python, so that no Jupyter is needed: nbclient brings a kernel, zmq and twenty packages more, to do
the same.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tour.ipynb"


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == kind]


def notebook() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def execute(code: str, names: dict[str, Any], name: str) -> Any:
    """Runs a cell and returns the value of its last line if that is an expression, which a notebook shows."""
    body = ast.parse(code, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), names)


def test_the_notebook_has_no_outputs_and_every_cell_compiles():
    assert notebook()["nbformat"] == 4 and len(cells("code")) >= 8 and len(cells("markdown")) >= 6
    for cell in notebook()["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    for number, code in enumerate(cells("code"), 1):
        compile(code, f"cell {number}", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [execute(code, names, f"cell {number}") for number, code in enumerate(cells("code"), 1)]
    told = capsys.readouterr().out
    assert [model["name"] for model in shown[1]["models"]] == ["vft", "aft-boundary"]
    assert shown[1]._repr_markdown_().startswith("# ")
    for words in ("task_accuracy", "negative", "right chains:", "right minus wrong", "sedes: unknown key"):
        assert words in told, words
