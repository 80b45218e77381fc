"""The layout of a run's folder: the path of each file, the unit of each path, and the order of the stages.

    RUN/
      config.yaml  environment.json  data.json      of the whole run
      .lock  .lock.json  .lock.writers              who is at work (run/lock)
      hub.json                                      what was pushed to the hub
      .progress.json                                how far the stage at work is
      report.{json,md,csv,html,png} calibration.png what aft-report writes
      logs/  judge-cache/  replaced/N/              output of processes, a judge's replies, outdated folders
      base/                                         stage pretrain
      seed-S/vft/                                   stage vft
      seed-S/sample/{completions,from_prefix}.jsonl stage sample
      seed-S/label/{groups,pool}.jsonl counts.json  stage label
      seed-S/align/METHOD/                          stage align
      seed-S/evaluate/MODEL/metrics.json ...        stage evaluate

Each unit of work has a folder. The folder has `manifest.json` once the unit is finished, and `started.json` before.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal, get_args

Stage = Literal["pretrain", "vft", "sample", "label", "align", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)  # in running order
TRAINING_STAGES = ("pretrain", "vft", "align")
_NAMED = ("align", "evaluate")  # one unit per seed and model

# Names of the models that are not methods.
BASE, VFT = "base", "vft"

MANIFEST, STARTED = "manifest.json", "started.json"
INITIAL_SCORES = "initial_scores.json"  # of the candidates of an alignment
TRAINER_STATE = "trainer_state.json"  # transformers' name for the training log
LIVE_LOG = "live_log.jsonl"  # the same log line by line, only while a unit trains
COMPLETIONS, GROUPS, POOL, COUNTS = "completions.jsonl", "groups.jsonl", "pool.jsonl", "counts.json"
FROM_PREFIX = "from_prefix.jsonl"  # completions that continue the beginning of a right one
METRICS, PREDICTIONS, POOL_QUESTIONS = "metrics.json", "predictions.jsonl", "pool_questions.jsonl"
ASSESSMENT, ASSESSMENT_QUESTIONS = "assessment.jsonl", "assessment_questions.jsonl"
REFERENCES, PATHS, VOTES = "references.jsonl", "paths.jsonl", "self_consistency.jsonl"
TRAINING_SCORES = "training_scores.jsonl"  # of candidates of the training groups, under an evaluated model
OWN_CHAINS = "own-*.jsonl"  # pattern of the rounds of a model's own chains

EVERY_SEED = "seed-*"  # pattern of all seeds' folders, for globs and messages
_SEED = re.compile(r"seed-(0|[1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Unit:
    """A piece of work with its own folder. `name` is the method (align) or the model (evaluate), otherwise None."""

    stage: str
    seed: int | None
    name: str | None
    folder: Path

    def __str__(self) -> str:
        parts = [self.stage, self.name, None if self.seed is None else f"seed {self.seed}"]
        return " ".join(part for part in parts if part)

    @property
    def manifest(self) -> Path:
        """The file that exists once the unit is finished."""
        return self.folder / MANIFEST


class RunFolder:
    """The paths in a run's folder, and the unit that a path belongs to. Only `move_aside` changes the disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.data = self.path / "data.json"
        self.hub = self.path / "hub.json"
        self.calibration = self.path / "calibration.png"
        self.logs = self.path / "logs"
        self.judge_cache = self.path / "judge-cache"
        self.lock, self.owner, self.writers = (self.path / f".lock{end}" for end in ("", ".json", ".writers"))
        self.progress = self.path / ".progress.json"
        self.replaced = self.path / "replaced"

    @classmethod
    def around(cls, path: str | Path) -> RunFolder | None:
        """Returns the run that has `path` in the folder of a seed, or None. Only the text of the path is read."""
        homes = [parent for parent in Path(path).parents if _SEED.fullmatch(parent.name)]
        return cls(homes[0].parent) if homes else None

    def report(self, ending: str) -> Path:
        """The path of the report as `json`, `md`, `csv`, `html` or `png`."""
        return self.path / f"report.{ending}"

    def unit(self, stage: str, seed: int | None = None, name: str | None = None) -> Unit:
        """Returns a unit. All stages except pretrain need a seed. align and evaluate need `name`: a method or model."""
        if stage == "pretrain":
            return Unit(stage, None, None, self.path / BASE)
        folder = self._home(seed) / stage
        return Unit(stage, seed, name, folder / (name or "")) if stage in _NAMED else Unit(stage, seed, None, folder)

    def _home(self, seed: int | None) -> Path:
        return self.path / f"seed-{seed}"

    def checkpoint(self, model: str, seed: int | None = None) -> Path:
        """The folder of a model that this run trains. `model`: base, vft or a method."""
        if model == BASE:
            return self.unit("pretrain").folder
        return (self.unit("vft", seed) if model == VFT else self.unit("align", seed, model)).folder

    def completions(self, seed: int | None) -> Path:
        """The file of a seed's sampled completions."""
        return self.unit("sample", seed).folder / COMPLETIONS

    def continuations(self, seed: int | None) -> Path:
        """The file of a seed's completions that continue the beginning of a right one."""
        return self.unit("sample", seed).folder / FROM_PREFIX

    def groups(self, seed: int | None) -> Path:
        """The file of a seed's labelled groups."""
        return self.unit("label", seed).folder / GROUPS

    def pool(self, seed: int | None) -> Path:
        """The file of a seed's held-out groups, which every model scores."""
        return self.unit("label", seed).folder / POOL

    def counts(self, seed: int | None) -> Path:
        """The file with the number of candidates of each label."""
        return self.unit("label", seed).folder / COUNTS

    def evaluated(self, model: str, seed: int | None, file: str = METRICS) -> Path:
        """A file of a model's evaluation."""
        return self.unit("evaluate", seed, model).folder / file

    # ---- from paths to units ----

    def within(self, path: Path) -> str:
        """Returns a path relative to the run's folder, with slashes."""
        return path.relative_to(self.path).as_posix()

    def seeds(self) -> list[int]:
        """Returns the seeds that have a folder, in order."""
        matches = (_SEED.fullmatch(path.name) for path in self.path.glob(EVERY_SEED) if path.is_dir())
        return sorted(int(match[1]) for match in matches if match)

    def units(self, *stages: str) -> list[Unit]:
        """Returns the units with a folder of these stages (without arguments: all), by seed, then stage, then name."""
        found = [self.unit("pretrain")]
        for seed in self.seeds():
            for stage in STAGES[1:]:
                # folders that are still being copied have names with a leading dot
                names = sorted(path.name for path in (self._home(seed) / stage).glob("[!.]*"))
                found += [self.unit(stage, seed, name) for name in (names if stage in _NAMED else [None])]
        return [unit for unit in found if (not stages or unit.stage in stages) and unit.folder.is_dir()]

    def folders(self) -> list[tuple[Path, bool]]:
        """Returns the folders that the run itself writes into, and whether models are saved there.

        Links, and what lies in the folder of another run, are left out.
        """
        homes = [self._home(seed) for seed in self.seeds()]
        found = [(self.path, False), (self.logs, False), (self.judge_cache, False)]
        found += [(folder, False) for home in homes for folder in (home, *(home / stage for stage in _NAMED))]
        for unit in self.units():
            inside = (unit.folder / "adapter", *sorted(unit.folder.glob("checkpoint-*")))
            found += [(folder, True) for folder in (unit.folder, *inside)]
        return [(folder, models) for folder, models in found if folder.is_dir() and self._is_own(folder)]

    def _is_own(self, folder: Path) -> bool:
        """True if no link and no other run's lock lies between the run's folder and `folder`."""
        parts = folder.relative_to(self.path).parts
        between = [self.path.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
        return not any(place.is_symlink() or (place / self.lock.name).exists() for place in between)

    def unit_of(self, path: str | Path) -> Unit | None:
        """Returns the unit whose folder is or contains `path`, or None. Only the text of the path is read."""
        try:
            parts = Path(path).relative_to(self.path).parts
        except ValueError:
            return None
        if parts[:1] == (BASE,):
            return self.unit("pretrain")
        seed = _SEED.fullmatch(parts[0]) if parts else None
        stage, name = (*parts[1:3], "", "")[:2]
        if seed is None or stage not in STAGES[1:] or (stage in _NAMED and not name):
            return None
        return self.unit(stage, int(seed[1]), name)

    # ---- outdated units ----

    def move_aside(self, folder: Path) -> Path:
        """Moves a unit's outdated folder to `replaced/N/`, with the first free N, so that nothing is lost."""
        number = 1
        while (target := self.replaced / str(number) / folder.relative_to(self.path)).exists():
            number += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        return target
