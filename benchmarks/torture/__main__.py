"""The command: `python -m torture`, with benchmarks/ on the PYTHONPATH."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import page
from .commands import ROOT
from .disk import unmount_below
from .verdict import LOST, SKIPPED, SURVIVED, Result
from .workshop import Case, TortureError, Workshop

# the short ones first
AREAS = {
    "configurations": "bad configurations",
    "data": "bad data files",
    "strangers": "checkpoints of strangers",
    "judges": "judges that misbehave",
    "artifacts": "damaged artifacts of a finished run",
    "checkpoints": "damaged checkpoints of a cut training",
    "together": "two commands in one folder",
    "disk": "a disk that is full, read-only or gone",
    "kills": "runs killed at random moments",
}


def main() -> int:
    """Parse, try, write the page; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m torture", description="Count what cuts and damage cost.")
    parser.add_argument("--only", choices=AREAS, action="append", help="this area; can be repeated")
    parser.add_argument("--quick", action="store_true", help="a few cases of each area; the page stays as it is")
    parser.add_argument("--seed", type=int, default=0, help="of moments and places (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="cases side by side (default: 2)")
    parser.add_argument("--case", metavar="TEXT", help="only cases with this in their name; the page stays as it is")
    parser.add_argument("--fresh", action="store_true", help="try again what an earlier, cut torture has tried")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "aft-torture", help="folder for the runs"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of reliability.md and .json")
    known = parser.parse_args()
    # a shell starts a background command with SIGINT ignored, and the commands that are tortured would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    if known.fresh:
        shutil.rmtree(known.work, ignore_errors=True)
    shop = Workshop(known.work.resolve() / ("quick" if known.quick else "whole"), quick=known.quick)
    lost = 0
    try:
        for area in known.only or AREAS:
            results, seconds = _try_area(area, known, shop)
            lost += sum(one.verdict == LOST for one in results.values())
            if not known.quick and not known.case:
                page.store(known.output, area, AREAS[area], results, seconds, known.seed)
                page.write(known.output)
    except TortureError as error:
        print(f"torture: {error}", file=sys.stderr)
        return 1
    finally:
        shop.close()
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes, {lost} lost")
    return int(lost > 0)


def load_cases(area: str, quick: bool, seed: int) -> list[Case]:
    """The cases of an area. The same seed gives the same cases."""
    found: list[Case] = importlib.import_module(f"{__package__}.{area}").cases(quick, random.Random(f"{area} {seed}"))
    return found


def _try_area(area: str, known: argparse.Namespace, shop: Workshop) -> tuple[dict[str, Result], float]:
    begun = time.monotonic()
    cases = load_cases(area, known.quick, known.seed)
    cases = [case for case in cases if known.case is None or known.case in case.name]
    record = _Record(known.work / "results.jsonl", f"{area} {known.seed} {_source_digest()}")
    left = [case for case in cases if case.name not in record.known]
    print(
        f"{area}: {len(cases)} cases" + (f", {len(cases) - len(left)} already tried" if len(left) < len(cases) else ""),
        flush=True,
    )
    folder = known.work / area
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with ThreadPoolExecutor(known.jobs) as pool:
        for case, one in zip(
            left, pool.map(lambda case: _try(case, shop, folder / f"{cases.index(case):03d}"), left), strict=True
        ):
            record.add(case.name, one)
            if one.verdict == LOST:
                print(f"  lost: {case.name}: {one.detail}", flush=True)
            if len(record.known) % 25 == 0:
                print(f"  {len(record.known)} of {len(cases)} tried, {time.monotonic() - begun:.0f} s", flush=True)
    results = {case.name: record.known[case.name] for case in cases}
    counts = {verdict: sum(one.verdict == verdict for one in results.values()) for verdict in (SURVIVED, LOST, SKIPPED)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or verdict != SKIPPED)
    print(f"{area}: {len(results) - counts[SKIPPED]} tried, {told}; {time.monotonic() - begun:.0f} s", flush=True)
    return results, time.monotonic() - begun


def _try(case: Case, shop: Workshop, folder: Path) -> Result:
    folder.mkdir(parents=True)
    try:
        one = case.run(shop, folder.resolve())
    except TortureError:
        raise
    except Exception as error:  # a fault of the harness is no success of the product
        one = Result(LOST, f"the case itself failed: {type(error).__name__}: {error}")
    if one.verdict != LOST:  # what was lost stays for a look
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.parent / f"{folder.name}.words", ignore_errors=True)
    return one


class _Record:
    """The results so far, in a file, so that a torture that was cut goes on. `key`: of what they hold for."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key, self._lock = path, key, threading.Lock()
        self.known: dict[str, Result] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:  # the line that was being written
                continue
            if value["key"] == key:
                self.known[value["name"]] = Result(value["verdict"], value["detail"])

    def add(self, name: str, one: Result) -> None:
        self.known[name] = one
        self._path.parent.mkdir(parents=True, exist_ok=True)
        value = {"key": self._key, "name": name, "verdict": one.verdict, "detail": one.detail}
        with self._lock, self._path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(value) + "\n")


def _source_digest() -> str:
    """Of the product and of the torture: results of other code do not count."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *Path(__file__).parent.glob("*")]):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
