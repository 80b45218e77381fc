"""An interpreter with a stand-in for vLLM: `data/fake_vllm/vllm`, which the real worker script imports."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aft.run import engines

PACKAGE = Path(__file__).parent / "data" / "fake_vllm"


def _token() -> Any:
    """The stand-in's own function. It is not imported as `vllm`: other libraries would take it for the real one."""
    spec = importlib.util.spec_from_file_location("fake_vllm_tokens", PACKAGE / "vllm" / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.token


token = _token()


class FakeVllm:
    """Points AFT_VLLM_PYTHON to the stand-in. `faults(...)` orders what goes wrong; `asked` is what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None = "9.9.9") -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        folder.mkdir(parents=True)
        (folder / "lib").mkdir()
        if version is not None:
            (folder / "lib" / "vllm").symlink_to(PACKAGE / "vllm")
            about = folder / "lib" / f"vllm-{version}.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}/lib" exec "{sys.executable}" "$@"\n')
        self.python.chmod(0o755)
        monkeypatch.setenv(engines.PYTHON, str(self.python))
        self.faults()

    def faults(self, **faults: Any) -> None:
        """What the stand-in does from its next start on."""
        self.monkeypatch.setenv("FAKE_VLLM", json.dumps({"record": str(self.folder / "record.jsonl"), **faults}))

    @property
    def records(self) -> list[dict[str, Any]]:
        """Everything that it was asked, in order."""
        path = self.folder / "record.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Arguments and environment of each process."""
        return [record for record in self.records if "arguments" in record]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The requests."""
        return [record for record in self.records if "asked" in record]
