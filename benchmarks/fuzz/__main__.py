"""The command: `python -m fuzz`, with benchmarks/ and src/ on the PYTHONPATH. Needs atheris."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

TARGETS = {
    "configuration": "configuration loader",
    "json_lines": "readers of JSON lines",
    "answers": "answers",
    "conversion": "aft-convert",
}
SLOW = 5.0  # seconds; an input of a few kilobytes that takes longer is a finding
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Fuzz each target in a process of its own, print and write down the counts; the number of findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what reads text from outside.")
    parser.add_argument("--only", choices=TARGETS, action="append", help="this target; can be repeated")
    parser.add_argument(
        "--seconds", type=int, default=int(os.environ.get("SECONDS", "600")), help="each (default: 600)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "aft-fuzz", help="corpus and findings"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of reliability.md and .json")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    known = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(f"fuzz: atheris is not installed for {sys.executable}; pip install 'aft[fuzz]'", file=sys.stderr)
        return 1
    if known.here:
        _fuzz(known.only[0], known.seconds, known.work)
    from torture import page

    counts = {name: _run(name, known.seconds, known.work) for name in known.only or TARGETS}
    if not known.only:
        page.store_figures(known.output, "fuzz", {"python": platform.python_version(), "targets": counts})
        page.write(known.output)
    return sum(one["findings"] for one in counts.values())


def _run(name: str, seconds: int, work: Path) -> dict[str, int]:
    """Runs one fuzzer and reads its counts from libFuzzer's words."""
    work.mkdir(parents=True, exist_ok=True)
    log, begun = work / f"{name}.log", time.monotonic()
    command = [sys.executable, "-m", "fuzz", "--here", "--only", name, "--seconds", str(seconds), "--work", str(work)]
    with log.open("w") as handle:
        ended = subprocess.run(command, stdout=handle, stderr=subprocess.STDOUT).returncode
    words = log.read_text(encoding="utf-8", errors="replace")
    found = sorted((work / "findings").glob(f"{name}-*.txt"))
    runs, features = re.findall(r"^#(\d+)\s", words, re.MULTILINE), re.findall(r" ft: (\d+)", words)
    counts = {
        "inputs": int(runs[-1]) if runs else 0,
        "seconds": round(time.monotonic() - begun),
        "features": int(features[-1]) if features else 0,
        "findings": len(found) + (ended != 0),
    }
    print(f"{name}: {json.dumps(counts)}" + (f"; ended with {ended}, see {log}" if ended else ""), flush=True)
    for path in found:
        print(f"  {path}: {path.read_text(encoding='utf-8').splitlines()[-1][:200]}")
    return counts


def _fuzz(name: str, seconds: int, work: Path) -> None:
    """Fuzzes in this process until the time is over. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["aft", "yaml", "json", "fuzz"]):
        target = importlib.import_module(f"fuzz.{name}")
    corpus, findings = work / f"corpus-{name}", work / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.SEEDS:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        target.one(seed)  # whatever is imported at first use is no slowness of an input
    words = work / f"{name}.dict"
    written = (
        re.sub(r'["\\]|[^ -~]', lambda m: "".join(f"\\x{b:02x}" for b in m[0].encode()), w) for w in target.WORDS
    )
    words.write_text("".join(f'"{word}"\n' for word in written), encoding="utf-8")

    def one(data: bytes) -> None:
        begun = time.process_time()  # of the processor: a busy machine makes no finding
        try:
            target.one(data)
        except Exception as error:
            _keep(findings, name, data, error)
        if (took := time.process_time() - begun) > SLOW:
            _keep(findings, name, data, TimeoutError(f"{took:.1f} s for {len(data)} bytes"))

    options = [f"-max_total_time={seconds}", "-timeout=60", "-max_len=4096", "-rss_limit_mb=4096", f"-dict={words}"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={findings}/{name}-crash-", str(corpus)], one)
    atheris.Fuzz()
    sys.exit(0)


def _keep(findings: Path, name: str, data: bytes, error: Exception) -> None:
    """Keeps the first input of each kind of failure: one file with the bytes, one with the traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/aft/" in frame.filename]
    where = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "slow"
    stem = findings / f"{name}-{type(error).__name__}-{where}"
    with contextlib.suppress(FileExistsError), stem.with_suffix(".txt").open("x", encoding="utf-8") as handle:
        stem.with_suffix(".bin").write_bytes(data)
        text = "".join(traceback.format_exception(error))
        handle.write(text.encode("utf-8", "backslashreplace").decode())


if __name__ == "__main__":
    sys.exit(main())
