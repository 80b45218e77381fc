"""Chunked log-probs at response positions against the whole logits: time and peak memory, forward and backward.

    python benchmarks/logps.py            writes docs/performance.md

Times: both ways alternate in one process; median and range. Peak memory: a process each, less what it held before.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from aft.logps import token_logps
from aft.run import versions

VOCABULARY, HIDDEN, TOKENS, RESPONSE_SHARE = 32_000, 512, 8_192, 0.55
REPEATS = 5
CHUNK_MB = 64


def make_inputs() -> tuple[Tensor, Tensor, Tensor, torch.nn.Linear]:
    """Hidden states of a batch, the positions before response tokens, those tokens, and a head."""
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    positions = torch.randperm(TOKENS)[: int(TOKENS * RESPONSE_SHARE)].sort().values
    targets = torch.randint(VOCABULARY, (len(positions),))
    return hidden, positions, targets, torch.nn.Linear(HIDDEN, VOCABULARY, bias=False)


def whole(hidden: Tensor, positions: Tensor, targets: Tensor, head: torch.nn.Linear) -> Tensor:
    """The plain way: logits at every position, then the log-probs that are needed."""
    return head(hidden).float().log_softmax(-1)[positions, targets]


def chunked(hidden: Tensor, positions: Tensor, targets: Tensor, head: torch.nn.Linear) -> Tensor:
    """This library's way."""
    rows = CHUNK_MB * 2**20 // (4 * VOCABULARY)
    return token_logps(hidden.index_select(0, positions), targets, head, chunk_size=rows)


WAYS = {"whole": whole, "chunked": chunked}


def peak_mb(way: str) -> float:
    """Peak resident memory that one forward and backward pass adds, measured in a process of its own."""
    command = [sys.executable, __file__, "--measure", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(way: str) -> None:
    """Print the memory that one pass adds, in MB."""
    inputs = make_inputs()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    WAYS[way](*inputs).mean().backward()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("docs/performance.md"))
    known = parser.parse_args()
    if known.measure:
        measure(known.measure)
        return
    # first, while this process is small: a child's peak begins at its parent's
    memory = {way: peak_mb(way) for way in WAYS}
    inputs = make_inputs()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(REPEATS + 1):
        for way, run in WAYS.items():
            begun = time.perf_counter()
            run(*inputs).mean().backward()
            times[way].append(time.perf_counter() - begun)
    rows = []
    plain = statistics.median(times["whole"][1:])
    for way, label in (("whole", "whole logits"), ("chunked", f"chunks of {CHUNK_MB} MB, response positions only")):
        taken = times[way][1:]  # the first warms up
        median = statistics.median(taken)
        rows.append(
            f"| {label} | {median:.2f} s ({min(taken):.2f}–{max(taken):.2f}) | {plain / median:.2f}× |"
            f" {memory[way]:,.0f} MB |"
        )
    found = versions()
    text = f"""# Performance

## Log-probs without the whole logits

`make bench` wrote this on {datetime.date.today()}: {platform.machine()} CPU, {torch.get_num_threads()} threads of
{os.cpu_count()} cores, torch {found["torch"]}, Python {found["python"]}. {TOKENS:,} positions, of which
{RESPONSE_SHARE:.0%} predict a response token; hidden size {HIDDEN}, vocabulary {VOCABULARY:,}, float32; forward and
backward; median (range) of {REPEATS}, alternating; the memory is what one pass adds, each in a process of its own.

| way | time | speed | peak memory |
|---|---|---|---|
{chr(10).join(rows)}

The layout of batches is the padded one: a question is computed once for each of its responses. Sharing it, and the
measures that follow from that, are not built yet.
"""
    known.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
