"""Checkpoints from strangers: nothing in them is run, nothing is contacted, and what is wrong is said in a line."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .commands import ROOT
from .strangers_table import CONFIGS, FILES, JSON_CHANGES, REFUSED, TEMPLATES, WEIGHTS
from .verdict import Result, flaws, refused, result
from .workshop import Case, Workshop

_CODES = (1, 2, 3)
_MODEL = ROOT / "models" / "arithmetic-base"
_CONFIG = """\
output_dir: run
stages: [evaluate]
data: {{name: arithmetic, num_train: 4, num_answer_only: 0, num_validation: 0, num_test: 2, num_pretrain: 4}}
prompt: {{template: "{{question}}", chat: {chat}}}
model: {{name_or_path: ./model, max_length: 128}}
evaluate: {{models: [base], max_new_tokens: 4, batch_size: 8, assessment: null}}
"""


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every change to a good checkpoint."""
    made = [
        *(_case(f"weights: {name}", change, must) for name, (change, must) in WEIGHTS.items()),
        *(_case(f"config.json: {name}", _write("config.json", content), REFUSED) for name, content in CONFIGS.items()),
        *(
            _case(f"{file}: {json.dumps(changes)[:70]}", _merge(file, changes), must)
            for file, changes, must in JSON_CHANGES
        ),
        *(_case(f"files: {name}", change, must) for name, (change, must) in FILES.items()),
        *(_case(f"chat template: {name}", _template(text), False, chat=True) for name, text in TEMPLATES.items()),
    ]
    if quick:
        names = ("weights: a pickle", "config.json: a list", "files: code for every class")
        made = [case for case in made if case.name in names]
    return made


def _case(name: str, change: Callable[[Path, Path], object], must: bool, *, chat: bool = False) -> Case:
    def run(shop: Workshop, folder: Path) -> Result:
        model, canary = folder / "model", folder / "canary"
        shutil.copytree(_MODEL, model)
        (model / "manifest.json").unlink(missing_ok=True)
        change(model, canary)
        (folder / "given.yaml").write_text(_CONFIG.format(chat=str(chat).lower()), encoding="utf-8")
        ended = shop.stage(folder, "evaluate", config=Path("given.yaml"), limit=90.0)
        found = flaws(ended)
        if ended.code or must:
            found += refused(ended, _CODES)
        if canary.exists() or os.path.lexists(folder.parent / "canary"):
            found.append("foreign code was run")
        return result(found)

    return Case(name, run)


def _write(file: str, content: bytes) -> Callable[[Path, Path], object]:
    return lambda model, canary: (model / file).write_bytes(content)


def _merge(file: str, changes: dict[str, Any]) -> Callable[[Path, Path], object]:
    def change(model: Path, canary: Path) -> None:
        path = model / file
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(json.dumps({**known, **changes}), encoding="utf-8")

    return change


def _template(text: str) -> Callable[[Path, Path], object]:
    return lambda model, canary: (model / "chat_template.jinja").write_text(text, encoding="utf-8")
