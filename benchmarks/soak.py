"""Trains for 2,000 steps and samples 20,000 completions with a tiny model, and writes down the memory on the way.

    PYTHONPATH=benchmarks:src python benchmarks/soak.py                     the whole soak; docs/reliability.md
    PYTHONPATH=benchmarks:src python benchmarks/soak.py --steps 200         a shorter one; nothing is written

Each part is one command in a process of its own. The memory is that of the process that works (resident, MiB).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture import page
from torture.commands import LAUNCHED, ROOT
from torture.workshop import CONFIG

STEPS, SAMPLES, EVERY = 2000, 20_000, 100
QUESTIONS = 28  # of run.yaml: those of its training, and four of the pool
ALLOWED = 16.0  # MiB that the memory may grow between the first tenth and the end


def main() -> int:
    """Soak both parts; 1 if the memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of reliability.md and .json")
    known = parser.parse_args()
    begun = time.monotonic()
    overrides = [
        *(f"pretrain.training.max_steps={known.steps}", "pretrain.training.logging_steps=10"),
        *("pretrain.training.save_steps=500", "sample.batch_size=64"),
        f"sample.num_samples={known.samples // QUESTIONS}",  # the questions are few, so each is sampled often
    ]
    with tempfile.TemporaryDirectory() as folder:
        training = _soak(Path(folder), "pretrain", _steps, overrides)
        _soak(Path(folder), "vft", lambda folder: 0, overrides)
        sampling = _soak(Path(folder), "sample", _sampled, overrides)
    parts = {f"training, {known.steps:,} steps": training, f"sampling, {known.samples:,} completions": sampling}
    for name, one in parts.items():
        print(f"{name}: {one['first']:.1f} MiB, then {one['last']:.1f} MiB: {one['growth']:+.2f} MiB")
        print(f"  {' '.join(f'{value:.0f}' for value in one['notes'])}")
    if (known.steps, known.samples) == (STEPS, SAMPLES):
        page.store_figures(known.output, "soak", {"seconds": round(time.monotonic() - begun), "parts": parts})
        page.write(known.output)
    return int(any(one["growth"] > ALLOWED for one in parts.values()))


def _soak(folder: Path, stage: str, progress: Callable[[Path], int], overrides: list[str]) -> dict[str, Any]:
    """Runs one stage and notes the memory whenever `progress` has grown."""
    arguments = ["--config", str(CONFIG), "--stage", stage, *overrides]
    environment = {**os.environ, **LAUNCHED, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    log = (folder / f"{stage}.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "aft.cli.train", *arguments], cwd=folder, env=environment, stdout=log, stderr=log
    )
    notes: list[float] = []
    known = 0
    while process.poll() is None:
        done = progress(folder)
        if done > known:
            known = done
            notes.append(_resident(process.pid))
        time.sleep(0.05)
    if process.returncode != 0:
        log.seek(0)
        sys.exit(f"soak: {stage} failed:\n{log.read()}")
    notes = [note for note in notes if note] or [0.0]
    settled = notes[len(notes) // 10 :]
    return {"notes": notes, "first": settled[0], "last": settled[-1], "growth": settled[-1] - settled[0]}


def _steps(folder: Path) -> int:
    """Hundreds of steps, by what the training says and by its checkpoints."""
    found = sorted((folder / "run" / "base").glob("checkpoint-*/trainer_state.json"))
    words = (folder / "pretrain.log").read_text(errors="replace")
    told = [int(number.replace(",", "")) for number in re.findall(r"\(([\d,]+)/[\d,]+", words)]
    steps = [json.loads(path.read_text())["global_step"] for path in found if path.stat().st_size]
    return max([*told, *steps, 0]) // EVERY


def _sampled(folder: Path) -> int:
    """Half seconds of sampling: the completions reach the disk in few, large parts."""
    begun = folder / "run" / "seed-0" / "sample" / "started.json"
    return int((time.time() - begun.stat().st_mtime) * 2) + 1 if begun.exists() else 0


def _resident(process: int) -> float:
    try:
        words = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+)", words)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
