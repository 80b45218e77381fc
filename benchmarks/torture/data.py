"""Bad files of data, for every task and for aft-convert: refused by name and line, or used without harm."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .commands import Running
from .data_table import GOOD, MMLU, REFUSED, entries, line
from .verdict import _RAW, Ended, Result, flaws, refused, result
from .workshop import Case, TortureError, Workshop

_CODES = (2, 3)
_OUT_OF_MEMORY = 1  # of a question that is allowed, and too long for this machine
# the name of the file that is bad, by task; the files of the other splits are good
_BAD = {"gsm8k": "test", "aqua": "test", "ecqa": "ecqa_test", "svamp": "test", "math": "test", "jsonl": "test"}
_OTHERS = {"aqua": ("train", "dev"), "ecqa": ("ecqa_train", "ecqa_val")}
_SIZES = "num_validation: 0"
# what a small model is evaluated with
_CONFIG = """\
output_dir: run
stages: [evaluate]
data: {{name: {task}, {data}}}
prompt: {{template: "{{question}}"}}
model: {{name_or_path: {model}, max_length: 256}}
evaluate: {{models: [base], max_new_tokens: 4, batch_size: 8, num_questions: 4, assessment: null}}
"""
_MODEL = """\
output_dir: run
stages: [pretrain]
data: {name: jsonl, train: train.jsonl}
model:
  from_scratch:
    architecture: llama
    vocab_size: 300
    config: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64}
  max_length: 64
pretrain: {training: {max_steps: 2, per_device_train_batch_size: 4}}
"""


def cases(quick: bool, chance: random.Random) -> list[Case]:
    """Every entry of the tables, and files that are no files."""
    if quick:
        return [
            _case("groups", *next(entry for entry in entries("groups") if entry[0] == "half a line")),
            _case("preferences", *next(entry for entry in entries("preferences") if entry[0] == "not UTF-8")),
        ]
    made = [_case(surface, *entry) for surface in GOOD for entry in entries(surface)]
    made += [_case("mmlu", what, ".csv", content, None, must) for what, content, must in MMLU]
    made += [
        Case(f"{surface}: {name}", functools.partial(_special, surface, make))
        for surface in ("jsonl", "groups")
        for name, make in _SPECIAL.items()
    ]
    return made


def _case(surface: str, what: str, ending: str, content: bytes | None, make: Any, must: bool) -> Case:
    def run(shop: Workshop, folder: Path) -> Result:
        data = content if content is not None else make(line(GOOD[surface]))
        path = folder / f"{_BAD.get(surface, 'data')}{ending}"
        if surface == "mmlu":
            path = folder / "test" / "sums_test.csv"
            path.parent.mkdir()
        path.write_bytes(data)
        return _judge(_use(surface, path, shop, folder), must, folder)

    return Case(f"{surface}: {what}", run)


def _use(surface: str, path: Path, shop: Workshop, folder: Path) -> list[Ended]:
    """Lets the commands that read such a file read it."""
    if surface in ("groups", "preferences"):
        kinds = ["groups"] if surface == "preferences" else ["preference", "unpaired"]
        return [
            shop.command(folder, "aft-convert", "--to", kind, str(path.name), f"{kind}-out.jsonl", limit=60.0)
            for kind in kinds
        ]
    good = line(GOOD[surface]) if surface in GOOD else b""
    for name in _OTHERS.get(surface, ("train",)) if surface != "mmlu" else ():
        # another question than that of the bad file, which would be taken out as an overlap
        (folder / f"{name}.jsonl").write_bytes(good.replace(b"1 + 1?", b"1 + 2?").replace(b"Where?", b"When?") * 1)
    if surface == "mmlu":
        (folder / "dev").mkdir()
        (folder / "dev" / "sums_dev.csv").write_bytes(b"What is 2 + 2?,1,2,3,4,D\n")
    data = f"train: train.jsonl, test: {path.name}" if surface == "jsonl" else f"path: ., {_SIZES}"
    config = _CONFIG.format(task=surface, data=data, model=_model(shop))
    (folder / "given.yaml").write_text(config, encoding="utf-8")
    ended = [shop.stage(folder, "evaluate", config=Path("given.yaml"), limit=60.0)]
    if ended[0].code == 0:
        ended.append(shop.command(folder, "aft-report", "run"))
    return ended


def _judge(ended: list[Ended], must: bool, folder: Path) -> Result:
    found = [flaw for one in ended for flaw in flaws(one)]
    for one in ended:
        if one.code or must == REFUSED:
            found += refused(one, _CODES if must == REFUSED else (*_CODES, _OUT_OF_MEMORY))
    for path in (folder / "run").glob("report.*"):
        if path.suffix in (".md", ".csv") and _RAW.search(path.read_text("utf-8")):
            found.append(f"raw control character in {path.name}")
    return result(found)


def _model(shop: Workshop) -> Path:
    def make(folder: Path) -> Path:
        (folder / "given.yaml").write_text(_MODEL, encoding="utf-8")
        rows = [{**GOOD["jsonl"], "question": f"What is {n} + 1?"} for n in range(8)]
        (folder / "train.jsonl").write_bytes(b"".join(map(line, rows)))
        ended = Running(folder, "aft-train", "--config", "given.yaml").end()
        if ended.code != 0:
            raise TortureError(f"the model for the data failed:\n{ended.text}")
        return folder / "run" / "base"

    return shop.once("bytes", make)


_SPECIAL: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a pipe that nobody writes": lambda path: os.mkfifo(path),
}


def _special(surface: str, make: Callable[[Path], object], shop: Workshop, folder: Path) -> Result:
    path = folder / f"{_BAD.get(surface, 'data')}.jsonl"
    make(path)
    return _judge(_use(surface, path, shop, folder), REFUSED, folder)
