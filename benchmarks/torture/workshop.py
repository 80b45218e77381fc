"""What the cases share: folders to work in, and runs that are made once, when the first case needs them."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .commands import HERE, LAUNCHED, Forks, Running
from .folders import contents
from .verdict import Ended, Result

CONFIG = HERE / "run.yaml"
OTHER = "pretrain.training.learning_rate=0.02"  # an override that gives another result
_T = TypeVar("_T")


class TortureError(Exception):
    """The uncut run failed, so nothing can be compared with it."""


@dataclass(frozen=True)
class Case:
    """One thing that is done to the product, and what came of it. `run` gets a folder of its own."""

    name: str
    run: Callable[[Workshop, Path], Result]


class Workshop:
    """Materials for the cases, in `path`. Safe to use from several threads; a thread has one fork server.

    `quick`: the stages run in forks, so that a run takes seconds.
    """

    def __init__(self, path: Path, *, quick: bool = False) -> None:
        self.path, self.quick = path, quick
        self._made: dict[str, object] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self._servers: list[Forks] = []

    @property
    def forks(self) -> Forks:
        """This thread's server."""
        if not hasattr(self._local, "forks"):
            self._local.forks = Forks()
            with self._lock:
                self._servers.append(self._local.forks)
        server: Forks = self._local.forks
        return server

    def close(self) -> None:
        """Ends the servers."""
        for server in self._servers:
            server.close()

    def once(self, name: str, make: Callable[[Path], _T]) -> _T:
        """Returns `make(folder)`, called for the first case that asks for `name`."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._made:
                folder = self.path / "materials" / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                self._made[name] = make(folder)
            return self._made[name]  # type: ignore[return-value]

    def stage(
        self, folder: Path, stage: str, *overrides: str, config: Path = CONFIG, limit: float = 120.0, **order: Any
    ) -> Ended:
        """Runs one stage in a fork, in itself, as `accelerate launch` would have it do."""
        arguments = ("--config", str(config), "--stage", stage, *overrides)
        return self.forks.run(folder, "aft-train", *arguments, limit=limit, extra=LAUNCHED, **order)

    def command(self, folder: Path, program: str, *arguments: str, limit: float = 120.0) -> Ended:
        """Runs a command in a fork. The processes that it starts are started as always."""
        return self.forks.run(folder, program, *arguments, limit=limit)

    # ---- materials ----

    def uncut(self) -> Uncut:
        """The whole run, never disturbed."""
        return self.once("uncut", self._quick_run if self.quick else lambda folder: _uncut(folder, ()))

    def _quick_run(self, folder: Path) -> Uncut:
        begun = time.monotonic()
        for stage in ("pretrain", "vft", "sample", "label", "align", "evaluate"):
            ended = self.stage(folder, stage)
            if ended.code != 0:
                raise TortureError(f"the uncut run failed in {stage}:\n{ended.text}")
        return Uncut(folder / "run", contents(folder / "run"), time.monotonic() - begun)

    def other(self) -> Uncut:
        """The base model under another learning rate."""
        return self.once("other", lambda folder: _uncut(folder, ("--stage", "pretrain", OTHER)))

    def cut_training(self) -> Path:
        """A folder with a run whose first training was killed after some checkpoints."""
        return self.once("cut", self._quick_cut if self.quick else _cut_training)

    def _quick_cut(self, folder: Path) -> Path:
        self.cut_stage(folder)
        return _only_whole(folder / "run")

    def cut_stage(self, folder: Path) -> None:
        """Kills the first training in a fork, at its second checkpoint."""
        for _ in range(5):  # a busy machine may see the checkpoint late
            if self.stage(folder, "pretrain", until="run/base/checkpoint-40").code != 0:
                return
            shutil.rmtree(folder / "run")
        raise TortureError("no training was cut")

    def copy(self, source: Path, folder: Path) -> Path:
        """Copies a run into the folder of a case, with the times of its files. Returns the copy."""
        target = folder / "run"
        shutil.copytree(source, target, symlinks=True)
        return target


@dataclass(frozen=True)
class Uncut:
    """An undisturbed run. `expected`: the digests of its results."""

    run: Path
    expected: dict[str, str]
    seconds: float


def _uncut(folder: Path, arguments: tuple[str, ...]) -> Uncut:
    ended = Running(folder, "aft-train", "--config", str(CONFIG), *arguments).end()
    if ended.code != 0:
        raise TortureError(f"the uncut run failed:\n{ended.text}")
    return Uncut(folder / "run", contents(folder / "run"), ended.seconds)


def _cut_training(folder: Path) -> Path:
    """Kills the first training between two checkpoints: after the third and before the end."""
    base = folder / "run" / "base"
    for _ in range(10):
        shutil.rmtree(folder / "run", ignore_errors=True)
        running = Running(folder, "aft-train", "--config", str(CONFIG), "--stage", "pretrain")
        running.wait(until=lambda: (base / "checkpoint-60").exists())
        running.send(signal.SIGKILL, everyone=True)
        running.kill()
        with contextlib.suppress(TortureError):
            return _only_whole(folder / "run")
    raise TortureError("no training was cut between two checkpoints")


def _only_whole(run: Path) -> Path:
    """Removes a checkpoint that was being written: every checkpoint is to be whole before a case damages one."""
    for path in (run / "base").glob("checkpoint-*"):
        if not _is_whole(path):
            shutil.rmtree(path)
    if not list((run / "base").glob("checkpoint-*")) or (run / "base" / "manifest.json").exists():
        raise TortureError("no training was cut between two checkpoints")
    return run


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        json.loads((checkpoint / "parts.json").read_text("utf-8"))  # written last
    except (OSError, ValueError):
        return False
    return True
