"""What only a GPU can show, in one command of at most ten minutes: `make gpu-checks`.

First the trial of layouts for Llamas of 1B and 7B shape in bfloat16, then `pytest -m gpu`, then the benchmarks of one
GPU. Each part has a time limit. A part that fails does not stop the others. `--smoke` runs the same on the CPU, on
tiny shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

import shapes
from groups import PAD_ID, alignment_items, load_groups, typical_batches

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {"1B": shapes.LLAMA_1B, "7B": shapes.LLAMA_7B, "smallest": shapes.SMALLEST}
GROUPS = 4


def main() -> int:
    """Run the parts; the number of parts that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trial", choices=SHAPES, help="only the trial of this shape, in this process")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="of --trial")
    parser.add_argument("--smoke", action="store_true", help="on the CPU, on tiny shapes, to see that every part runs")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT") or ROOT / "gpu-checks"))
    known = parser.parse_args()
    if known.smoke:
        known.device = "cpu"
    if known.device == "cuda" and not torch.cuda.is_available():
        print("gpu-checks: torch finds no CUDA device here; nothing was checked")
        return 1
    known.output.mkdir(parents=True, exist_ok=True)
    if known.trial:
        figures = try_shape(SHAPES[known.trial], known.device)
        (known.output / f"trial-{known.trial}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(figures))
        return int(figures["layout"] != "shared")
    for name in ("performance.md", "performance.json"):
        shutil.copy(ROOT / "docs" / name, known.output)
    own = [sys.executable, str(Path(__file__)), "--output", str(known.output), "--device", known.device, "--trial"]
    benchmarks = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--output", str(known.output)]
    tests = [sys.executable, "-m", "pytest", "-m", "gpu"]
    parts = [
        ("trial-1B", 45, [*own, "1B"]),
        ("trial-7B", 75, [*own, "7B"]),
        ("pytest", 120, tests),
        ("benchmarks", 350, [*benchmarks, "--device", "cuda", "--repeats", "2"]),
    ]
    if known.smoke:
        parts = [
            ("trial-smallest", 300, [*own, "smallest"]),
            ("pytest", 300, [*tests, "--collect-only"]),
            ("benchmarks", 900, [*benchmarks, "--smoke", "--repeats", "1"]),
        ]
    failed = [name for name, seconds, command in parts if not run(name, seconds, command, known.output)]
    print(f"gpu-checks: {', '.join(failed)} failed" if failed else f"gpu-checks: all passed; see {known.output}")
    return len(failed)


def run(name: str, seconds: int, command: list[str], output: Path) -> bool:
    """Run one part with its output in a file; True if it ended well and in time."""
    begun = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with (output / f"{name}.log").open("w", encoding="utf-8") as log:
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=seconds)
            how = "passed" if done.returncode == 0 else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            how = f"ended after its {seconds} s"
    print(f"gpu-checks: {name}: {how}, {time.monotonic() - begun:.0f} s", flush=True)
    if how != "passed":
        print("".join(f"  {line}\n" for line in (output / f"{name}.log").read_text().splitlines()[-8:]), flush=True)
    return how == "passed"


def try_shape(shape: shapes.Shape, device: str) -> dict[str, object]:
    """The layout that the trial takes for a model of this shape in bfloat16, with its differences in nats."""
    from functools import partial

    from aft.scoring.forward import enable_scoring
    from aft.scoring.layouts import try_layouts
    from aft.scoring.responses import to_device

    shape = shapes.that_fits(shape, device)
    model = shapes.build(shape, torch.bfloat16, device).eval()
    enable_scoring(model)
    (batch,) = typical_batches(load_groups()[0], GROUPS, 1)
    entries = [(item,) for item in alignment_items(batch, shape.vocabulary)]
    begun = time.monotonic()
    prepare = partial(to_device, device=torch.device(device))
    trial = try_layouts(model, entries, PAD_ID, rough=True, prepare=prepare)
    found = {"shape": shape.name, "device": device, "layout": trial.layout, "reasons": trial.reasons}
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else None
    versions = {"torch": torch.__version__}
    return {**found, **trial.figures(), "seconds": time.monotonic() - begun, "peak_bytes": memory, **versions}


if __name__ == "__main__":
    sys.exit(main())
