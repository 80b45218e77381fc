"""aft-convert: a file of these bytes as groups or as a preference set. The first byte chooses target and options."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

from aft.cli.convert import convert, parse_arguments
from aft.errors import ConfigError, DataError

_FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
_GROUP = {
    "question_id": "q",
    "question": "?",
    "answer": "2",
    "reference": "It is 2",
    "candidates": [
        {"completion": "2", "rating": 1.0, "label": "positive", "answer": "2", "index": 0},
        {"completion": "3", "rating": 0.0, "label": "negative", "answer": "3", "index": 1},
    ],
}
_PAIR = {"prompt": "?", "chosen": "It is 2.", "rejected": "It is 3.", "score_chosen": 2, "score_rejected": 1}
_TURNS = {
    "prompt": [{"role": "user", "content": "?"}],
    "chosen": [{"role": "assistant", "content": "2"}],
    "rejected": [{"role": "assistant", "content": "3"}],
}
_CHOICES = [
    ["--to", "preference"],
    ["--to", "preference", "--conversational", "--pairs", "covering"],
    ["--to", "unpaired"],
    ["--to", "unpaired", "--threshold", "0.5"],
    ["--to", "prompt-completion", "--completions", "best"],
    ["--to", "llama-factory-ranking", "--pairs", "best-worst"],
    ["--to", "groups"],
    ["--to", "groups", "--skip-unusable", "--ratings", "order"],
]

SEEDS = [bytes([n]) + json.dumps(_GROUP).encode() + b"\n" for n in range(6)] + [
    bytes([n]) + json.dumps(value).encode() + b"\n" + json.dumps({**value, "extra": 1}).encode() + b"\n"
    for n in (6, 7)
    for value in (_PAIR, _TURNS)
]
WORDS = [
    *('"candidates"', '"rating"', '"label"', '"reference"', '"question_id"', '"prompt"', '"chosen"', '"rejected"'),
    *('"score_chosen"', '"role"', '"content"', '"assistant"', '"system"', "null", "NaN", "1e400", "\\ud800", "\n"),
]


def one(data: bytes) -> None:
    """Converts the file; what is written is JSON."""
    chosen = _CHOICES[(data[0] if data else 0) % len(_CHOICES)]
    given, output = _FOLDER / "given.jsonl", _FOLDER / "output.jsonl"
    given.write_bytes(data[1:])
    for path in _FOLDER.glob("*"):
        if path != given:
            path.unlink()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            convert(parse_arguments([*chosen, str(given), str(output)]))
    except (ConfigError, DataError) as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    for line in output.read_text(encoding="utf-8").split("\n")[:-1]:
        json.loads(line)
