"""The loader of configurations: a file of these bytes. A first line `# key=value` is an override."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aft.config import load_config, to_yaml
from aft.errors import ConfigError

_FILE = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "given.yaml"

SEEDS = [
    b"output_dir: run\ndata: {name: arithmetic}\nmodel: {from_scratch: {architecture: llama}}\nmethods: {bcl: null}\n",
    b"# data.num_train=3\noutput_dir: run\ndata: {name: gsm8k, path: x}\nmodel: {name_or_path: x}\nmethods: {b: null}",
    b"extends: quickstart\nseeds: [0, 1]\nalign: {loss: {constraint: {name: boundary, beta: 0.5}}}\n",
    b"extends: quickstart\nlabel: {ratings: {name: judge, model: x}}\n",
    b"extends: quickstart\ntraining: &a {learning_rate: 2e-5}\nvft: {training: *a}\n",
]
WORDS = [
    *("output_dir", "extends", "quickstart", "data", "name", "model", "from_scratch", "methods", "align", "loss"),
    *("constraint", "boundary", "training", "stages", "seeds", "label", "ratings", "judge", "mixture", "parts", "null"),
    *(
        "<<: *a",
        "&a ",
        "*a",
        "!!python/object:os.system",
        "010",
        "1:30",
        "1e400",
        ".nan",
        "prompt",
        "{question}",
        "chat",
    ),
]


def one(data: bytes) -> None:
    """Loads a configuration; what it accepts must be written and read back alike."""
    first = data.split(b"\n", 1)[0]
    overrides = [first[2:].decode("utf-8", "replace")] if first.startswith(b"# ") else []
    _FILE.write_bytes(data)
    try:
        config = load_config(_FILE, overrides)
    except ConfigError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    _FILE.write_text(to_yaml(config), encoding="utf-8")
    if load_config(_FILE) != config and ".nan" not in to_yaml(config):
        raise AssertionError("written and read back, the configuration is another one")
