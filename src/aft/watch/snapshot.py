"""What the files of a run's folder say about it now: its units, the work at hand, the training curve, the memory.

Reads files only, also half-written and damaged ones. Does not import torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import load_config
from ..errors import AftError, DataError
from ..json_files import read_json, read_lines_leniently
from ..run.folder import LIVE_LOG, STAGES_OF_UNITS, STARTED, TRAINER_STATE, TRAINING_STAGES, RunFolder, Unit
from ..run.lock import HolderWatch
from ..run.manifest import read_manifest
from ..stages.plan import Plan

# States of a run. The last one also stands for a run of which only some stages were asked for.
AT_WORK, FINISHED, KILLED, NOT_STARTED, STOPPED = "at work", "finished", "killed", "not started", "stopped"
# States of a unit.
DONE, BUSY, CUT, DAMAGED, TO_DO = "done", "at work", "cut", "damaged", "to do"

_LOGS_OF_SPEED = 20  # the last ones, from which the speed of a training is taken


@dataclasses.dataclass(frozen=True)
class Work:
    """A piece of work of a process. `total`: 0 if unknown. `left`: seconds, 0 if unknown. `note`: losses or speed."""

    what: str
    done: int
    total: int
    note: str = ""
    left: float = 0.0


@dataclasses.dataclass(frozen=True)
class Training:
    """The log of a unit that trains or has trained.

    `curves`: key of the log -> (step, value) for each log that has a finite value. `speed`: steps a second.
    """

    unit: Unit
    step: int
    max_steps: int
    curves: dict[str, list[tuple[int, float]]]
    speed: float | None

    def last(self, key: str) -> float | None:
        """The last logged value of a key."""
        points = self.curves.get(key)
        return points[-1][1] if points else None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    `words`: what there is to say about the state. `units`: stage -> its units with their states, in running order.
    `left`: seconds until the run is done, without the stages in `unknown`, of which no unit is done yet.
    `memory`: bytes of all processes of the run, if it is at work on this host. `peak` and `gpu_peak`: the largest
    memory of one process, and of its tensors on a GPU.
    """

    folder: Path
    state: str
    words: str
    units: dict[str, list[tuple[Unit, str]]]
    work: list[Work]
    training: Training | None
    left: float | None
    unknown: list[str]
    memory: int | None
    peak: int | None
    gpu_peak: int | None

    def count(self, *states: str) -> int:
        """The number of units in one of these states."""
        return sum(state in states for units in self.units.values() for _, state in units)


class Watcher:
    """Looks at a run's folder again and again. Files that did not change are not read again."""

    def __init__(self, folder: str | Path) -> None:
        self.run = RunFolder(folder)
        self._holder = HolderWatch(self.run)
        self._read: dict[tuple[Any, Path], tuple[tuple[int, int], Any]] = {}

    def look(self) -> Snapshot:
        """Returns what the files say now. Never raises for their content."""
        run = self.run
        holder, planned = self._holder.look(), self._units()
        manifests = {unit: self._manifest(unit) for units in planned.values() for unit in units}
        alive = holder is not None and holder.is_alive
        units = {
            stage: [(unit, _state(unit, manifests[unit], alive)) for unit in members]
            for stage, members in planned.items()
        }
        flat = [found for members in units.values() for found in members]
        state, words = self._describe(holder.words if holder else None, alive, [of for _, of in flat])
        busy = [unit for unit, of in flat if of in (BUSY, CUT)]
        training = self._training(busy, [unit for unit, of in flat if of == DONE])
        work = self._work(busy, training, alive) if busy else []
        logged = self._logs(training.unit) if training else []
        left, unknown = _time_left(units, manifests, work) if alive else (None, [])
        return Snapshot(
            run.path,
            state,
            words,
            units,
            work,
            training,
            left,
            unknown,
            _memory_of(holder.process) if holder is not None and holder.process is not None else None,
            _largest("peak_memory_bytes", [*manifests.values(), *logged]),
            _largest("peak_gpu_memory_bytes", [*manifests.values(), *logged]),
        )

    # ---- the parts ----

    def _describe(self, holder: str | None, alive: bool, states: Sequence[str]) -> tuple[str, str]:
        if holder is not None and alive:
            return AT_WORK, holder
        if holder is not None:
            return KILLED, f"the same command goes on from here; it was {holder}"
        if not self.run.config.exists():
            what = "has no config.yaml yet" if self.run.path.is_dir() else "does not exist yet"
            return NOT_STARTED, f"the folder {what}"
        if states and all(state == DONE for state in states):
            report = self.run.report("md")
            return FINISHED, f"the report is {report}" if report.exists() else "there is no report yet"
        if CUT in states:
            return STOPPED, "the same command goes on from here; an error or a signal ended it"
        return STOPPED, "nobody is at work, and not every unit is done"

    def _units(self) -> dict[str, list[Unit]]:
        """The units of the run's configuration, or those with a folder if the configuration cannot be read."""
        plan = self._cached(_plan, self.run.config)
        if plan is not None:
            plan.run = self.run  # the folder may have moved; the validation in it decides which rounds there are
            return {stage: plan.units(stage) for stage in plan.stages()}
        there = self.run.units()
        return {s: units for s in STAGES_OF_UNITS if (units := [unit for unit in there if unit.stage == s])}

    def _manifest(self, unit: Unit) -> dict[str, Any] | str | None:
        """The manifest of a unit; `DAMAGED` if it cannot be read; None if there is none."""
        return self._cached(_manifest_or_damage, unit.manifest)

    def _training(self, busy: Sequence[Unit], done: Sequence[Unit]) -> Training | None:
        """The first unit that trains; otherwise the last one that has trained, with scores if there is one."""
        for unit in busy:
            if unit.stage in TRAINING_STAGES and (logs := self._logs(unit)):
                return _training(unit, logs)
        trained = [unit for unit in reversed(done) if unit.stage in TRAINING_STAGES]
        found = [_training(unit, logs) for unit in trained[:8] if (logs := self._logs(unit))]
        return next((one for one in found if "scores/positive" in one.curves), next(iter(found), None))

    def _logs(self, unit: Unit) -> list[dict[str, Any]]:
        """The lines of a training log: the live one, that of the end, or that of the newest checkpoint."""
        live = self._cached(read_lines_leniently, unit.folder / LIVE_LOG)
        if live:
            return live
        states = sorted(unit.folder.glob(f"checkpoint-*/{TRAINER_STATE}"), key=_changed)
        for path in (unit.folder / TRAINER_STATE, *reversed(states)):
            if state := self._cached(_history, path):
                return state
        return []

    def _work(self, busy: Sequence[Unit], training: Training | None, alive: bool) -> list[Work]:
        """What the processes do: as they told the conductor, otherwise as far as the files of the units show."""
        told = self._cached(_progress, self.run.progress)
        if told:
            return told if alive else [dataclasses.replace(work, left=0.0) for work in told]
        found = []
        for unit in busy:
            if training is not None and unit == training.unit:
                found.append(Work(str(unit), training.step, training.max_steps))
            elif count := sum(self._cached(_count_lines, path) or 0 for path in unit.folder.glob("*.jsonl")):
                found.append(Work(f"{unit}: lines written", count, 0))
            else:
                found.append(Work(str(unit), 0, 0))
        return found

    def _cached(self, read: Any, path: Path) -> Any:
        """What `read` returns for a file, read again once its size or time changes; None if there is no file."""
        try:
            found = path.stat()
        except OSError:
            return None
        state = (found.st_size, found.st_mtime_ns)
        before = self._read.get((read, path))
        if before is None or before[0] != state:
            before = self._read[read, path] = (state, read(path))
        return before[1]


# ---- files ----


def _plan(path: Path) -> Plan | None:
    try:
        return Plan(load_config(path))
    except AftError:
        return None


def _manifest_or_damage(path: Path) -> dict[str, Any] | str | None:
    try:
        return read_manifest(path)
    except DataError:
        return DAMAGED


def _history(path: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(DataError):
        state = read_json(path) or {}
        log, steps = state.get("log_history"), state.get("max_steps")
        return [{"max_steps": steps, **entry} for entry in _objects(log)]
    return []


def _progress(path: Path) -> list[Work]:
    """The progress that the conductor wrote. Empty for a damaged file."""
    with contextlib.suppress(DataError):
        return [
            Work(
                str(worker.get("what", "")),
                int(_number(worker.get("done")) or 0),
                int(_number(worker.get("total")) or 0),
                str(worker.get("note", "")),
                _number(worker.get("left")) or 0.0,
            )
            for worker in _objects((read_json(path) or {}).get("workers"))
        ]
    return []


def _count_lines(path: Path) -> int:
    count = 0
    with contextlib.suppress(OSError), path.open("rb") as handle:
        while part := handle.read(2**20):
            count += part.count(b"\n")
    return count


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# ---- numbers ----


def _state(unit: Unit, manifest: dict[str, Any] | str | None, alive: bool) -> str:
    if manifest == DAMAGED:
        return DAMAGED
    if manifest is not None:
        return DONE
    return (BUSY if alive else CUT) if (unit.folder / STARTED).exists() else TO_DO


def _training(unit: Unit, logs: Sequence[Mapping[str, Any]]) -> Training:
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in logs:
        step = _number(entry.get("step"))
        for key, value in entry.items() if step is not None else ():
            if (number := _number(value)) is not None:
                curves.setdefault(key, []).append((int(step or 0), number))
    steps = [int(step) for entry in logs if (step := _number(entry.get("step"))) is not None]
    return Training(
        unit,
        max(steps, default=0),
        int(_number(logs[-1].get("max_steps")) or 0),
        curves,
        _speed(curves.get("time", [])[-_LOGS_OF_SPEED:]),
    )


def _speed(times: Sequence[tuple[int, float]]) -> float | None:
    """Steps a second, from (step, time). A median: a training that was resumed has one long pause."""
    pairs = [(a, b) for a, b in itertools.pairwise(times) if b[0] > a[0] and b[1] > a[1]]
    return statistics.median((b[0] - a[0]) / (b[1] - a[1]) for a, b in pairs) if pairs else None


def _time_left(
    units: Mapping[str, Sequence[tuple[Unit, str]]],
    manifests: Mapping[Unit, Any],
    work: Sequence[Work],
) -> tuple[float, list[str]]:
    """Seconds until all units are done, and the stages that wait and of which no unit is done.

    A unit that waits takes as long as those of its stage that are done, and as many run at once as now.
    """
    left, unknown = max((piece.left for piece in work), default=0.0), []
    for stage, members in units.items():
        waiting = sum(state in (TO_DO, CUT, DAMAGED) for _, state in members)
        took = [_number(manifests[unit].get("seconds")) for unit, state in members if state == DONE]
        known = [seconds for seconds in took if seconds is not None]
        if waiting and known:
            left += waiting * statistics.fmean(known) / max(1, len(work))
        elif waiting:
            unknown.append(stage)
    return left, unknown


def _largest(key: str, entries: Iterable[Any]) -> int | None:
    found = (_number(entry.get(key)) for entry in entries if isinstance(entry, Mapping))
    return max((int(number) for number in found if number is not None), default=None)


def _number(value: Any) -> float | None:
    """A finite number as float, otherwise None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value) if math.isfinite(value) else None
    return None


def _memory_of(process: int) -> int | None:
    """The resident bytes of a process and of all that it started, as /proc tells them; None where it does not."""
    waiting, total = [process], 0
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{number}/status").read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
            for path in Path(f"/proc/{number}/task").glob("*/children"):
                waiting += map(int, path.read_text(encoding="ascii").split())
    return total or None
