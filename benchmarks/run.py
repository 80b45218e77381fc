"""Measure everything, or one part, and write it to docs/performance.md and docs/performance.json.

    python benchmarks/run.py                        every part on the CPU
    python benchmarks/run.py --only step            one part; the others keep their figures and dates
    python benchmarks/run.py --device cuda          the parts that a GPU is measured by
    python benchmarks/run.py --smoke                the GPU's parts on the CPU, on tiny shapes, to see that they run
    python benchmarks/run.py --tables               write the tables again from the JSON file, measuring nothing

Each part runs in a process of its own. The text between the marks of docs/performance.md is written; the rest is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page
from timing import Settings

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Parse, dispatch; the number of parts that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", choices=list(dict.fromkeys([*page.PARTS, *page.GPU_PARTS])), help="measure this part in this process"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the CPU (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="batches of each size, or rounds (default: 3)")
    parser.add_argument("--smoke", action="store_true", help="the GPU's parts on tiny shapes; docs/ stays as it is")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of performance.md and .json")
    known = parser.parse_args()
    settings = Settings(known.device, known.threads, known.repeats, known.smoke)
    if known.smoke and known.output == ROOT / "docs":
        return smoke(sys.argv[1:])
    if settings.on_gpu and not _has_gpu():
        print("no CUDA device here: the GPU's figures stay as they are", file=sys.stderr)
        return 1
    if known.tables:
        page.write(known.output)
        return 0
    if known.only:
        return measure(known.only, settings, known.output)
    begun = time.perf_counter()
    arguments = [*sys.argv[1:]]
    names = page.GPU_PARTS if settings.on_gpu or settings.smoke else page.PARTS
    failed = [
        name for name in names if subprocess.run([sys.executable, __file__, *arguments, "--only", name]).returncode
    ]
    print(f"{(time.perf_counter() - begun) / 60:.1f} minutes; {known.output / page.TEXT}")
    if failed:
        print(f"failed, and left as they were: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def smoke(arguments: list[str]) -> int:
    """The same command with a copy of the page, which is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        for name in (page.TEXT, page.JSON):
            shutil.copy(ROOT / "docs" / name, folder)
        return subprocess.run([sys.executable, __file__, *arguments, "--output", folder]).returncode


def measure(name: str, settings: Settings, folder: Path) -> int:
    """Measure one part and write it down; 1 if it cannot be."""
    # before torch starts its threads
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    part = page.load_part(name)
    reason = part.missing() if hasattr(part, "missing") else None
    if reason:
        print(f"{name}: skipped, {reason}")
        return 0
    import torch

    torch.set_num_threads(settings.threads)
    begun = time.perf_counter()
    figures = part.measure(settings)
    page.store(folder, name, settings, figures, time.perf_counter() - begun)
    page.write(folder)
    print(f"{name}: {time.perf_counter() - begun:.0f} s\n\n{part.render(figures)}\n", flush=True)
    return 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
