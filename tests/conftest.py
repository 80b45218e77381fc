"""What several tests share: the tiny run, a made-up GSM8K folder, and the commands called in this process."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Tests run side by side. With as many threads as cores in each process, they would wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts a background command with SIGINT ignored, and `nohup` one with SIGHUP. Commands under test would
# inherit that, and rightly stay deaf to the signals that tests send.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)


class Ran(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def tiny() -> Path:
    """A configuration that runs every stage in seconds. Give it an `output_dir` of the test's own."""
    return Path(__file__).parent / "data" / "tiny.yaml"


@pytest.fixture(scope="session")
def gsm8k_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up questions in GSM8K's format, as many as the configurations of configs/gsm8k/ take."""
    folder = tmp_path_factory.mktemp("gsm8k")
    for name, count in (("train", 1300), ("test", 450)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as handle:
            for i in range(count):
                row = {
                    "question": f"Ann has {i} pens and buys {i + 2} in the {name} shop. How many has she?",
                    "answer": f"She has {i}+{i + 2}=<<{i}+{i + 2}={2 * i + 2}>>{2 * i + 2} pens.\n#### {2 * i + 2}",
                }
                handle.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ran]]:
    """`command("train", "--config", ...)` runs aft-train in this process."""
    for name in list(os.environ):
        if name.startswith("ACCELERATE_") or name in ("AFT_PROGRESS", "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name)

    def run(program: str, *arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"aft.cli.{program}").main([str(argument) for argument in arguments])
        return Ran(ended.value.code or 0, *capsys.readouterr())

    yield run
