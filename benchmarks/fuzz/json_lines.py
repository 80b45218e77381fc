"""The readers of JSON lines. The first byte says which reader and whether the file is packed."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aft.errors import DataError
from aft.json_files import iter_json_lines, json_line, read_json
from aft.records import read_completions, read_groups, read_questions

_FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
_READERS: list[Callable[[Path], Any]] = [
    *(read_questions, read_completions, read_groups, read_json),
    lambda path: list(iter_json_lines(path)),
]
_GROUP = {
    "question_id": "q",
    "question": "?",
    "answer": "2",
    "reference": None,
    "candidates": [{"completion": "2", "rating": 1.0, "label": "positive", "answer": "2", "index": 0}],
}
_COMPLETION = {
    "question_id": "q",
    "index": 0,
    "completion": "2",
    "truncated": False,
    "num_tokens": 1,
    "seed": 3,
    "token_ids": [1, 2],
}

SEEDS = [
    b"\0" + json.dumps({"id": "q", "question": "?", "answer": "2", "options": ["a"], "category": "c"}).encode() + b"\n",
    b"\1" + json.dumps(_COMPLETION).encode() + b"\n",
    b"\2" + json.dumps(_GROUP).encode() + b"\n",
    b"\3" + json.dumps({"inputs": {}, "outputs": {}}).encode() + b"\n",
    b"\x0c" + gzip.compress(b'{"a": 1}\n', mtime=0),
]
WORDS = [
    *('"question_id"', '"candidates"', '"rating"', '"label"', '"token_ids"', '"index"', '"truncated"', "null", "NaN"),
    *("Infinity", "1e400", "\\ud800", "true", "[]", "{}", "\n"),
]


def one(data: bytes) -> None:
    """Reads a file; every record that is read can be written."""
    kind = data[0] if data else 0
    path = _FOLDER / ("given.jsonl.gz" if kind & 8 else "given.jsonl")
    path.write_bytes(data[1:])
    try:
        found = _READERS[kind % 8 % len(_READERS)](path)
    except DataError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    for record in found if isinstance(found, list) else []:
        json_line(record[1] if isinstance(record, tuple) else record).encode("utf-8")
