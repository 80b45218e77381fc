"""The layout of a run's folder: the path of each file, the unit of each path, and the order of the stages.

    RUN/
      config.yaml  environment.json  data.json      of the whole run
      .lock  .lock.json  .lock.writers              who is at work (run/lock)
      hub.json                                      what was pushed to the hub
      rounds.json                                   validation of each round, and the final models
      .progress.json                                how far the stage at work is
      report.{json,md,csv,html,png}                 what aft-report writes
      calibration.png rounds.png
      logs/  judge-cache/  replaced/N/              output of processes, a judge's replies, outdated folders
      base/                                         stage pretrain
      seed-S/vft/                                   stage vft
      seed-S/sample/{completions,from_prefix}.jsonl stage sample
      seed-S/label/{groups,pool}.jsonl counts.json  stage label
      seed-S/align/METHOD/                          stage align
      seed-S/validate/MODEL/validation.json ...     stage validate, in runs with rounds
      seed-S/evaluate/MODEL/metrics.json ...        stage evaluate
      seed-S/rounds/METHOD@R/{sample,label}/        stages sample and label of a method's round R > 1

A method's model of round R > 1 is called METHOD@R, where METHOD is that of round 1.
Each unit of work has a folder. The folder has `manifest.json` once the unit is finished, and `started.json` before.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

Stage = Literal["pretrain", "vft", "sample", "label", "align", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)  # in running order
VALIDATE = "validate"  # made by `rounds`, and no stage that a configuration lists
STAGES_OF_UNITS = (*STAGES[:-1], VALIDATE, STAGES[-1])  # in running order
ROUND_STAGES = ("sample", "label", "align", VALIDATE)  # run once in every round
TRAINING_STAGES = ("pretrain", "vft", "align")
_NAMED = ("align", VALIDATE, "evaluate")  # one unit per seed and model
_OF_ROUNDS = ("sample", "label")  # from round 2 on one unit per seed and method

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
PATH_CHAINS = "path_chains.jsonl"  # of each path: whether it is right, its tokens and its score
TRAINING_SCORES = "training_scores.jsonl"  # of candidates of the training groups, under an evaluated model
OWN_CHAINS = "own-*.jsonl"  # pattern of the rounds of a model's own chains
VALIDATION = "validation.json"  # of a round's model

EVERY_SEED = "seed-*"  # pattern of all seeds' folders, for globs and messages
_SEED = re.compile(r"seed-(0|[1-9]\d*)")
_ROUNDS = "rounds"  # the folder of a seed with the samples and labels from round 2 on
_ROUND = re.compile(r"(.+)@([2-9]|[1-9]\d+)")


def round_name(method: str, number: int) -> str:
    """Returns the name of a method's model of a round, counted from 1."""
    return method if number == 1 else f"{method}@{number}"


def method_round(name: str) -> tuple[str, int]:
    """Returns the method and the round of a model's name. No method's name contains '@'."""
    found = _ROUND.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 1)


def count_rounds(section: Any) -> int:
    """Returns how many rounds a section `rounds` allows, built or as a file has it: a number, keys or null."""
    count = section.get("count", 1) if isinstance(section, Mapping) else getattr(section, "count", section)
    return count if isinstance(count, int) else 1


def round_names(methods: Iterable[str], rounds: int, stopped: Mapping[str, int] | None = None) -> list[str]:
    """Returns the names of the models of all rounds, each method followed by its rounds.

    `stopped`: the last round of methods that have stopped.
    """
    last = {method: min(rounds, (stopped or {}).get(method, rounds)) for method in methods}
    return [round_name(method, number) for method, count in last.items() for number in range(1, count + 1)]


@dataclasses.dataclass(frozen=True)
class Unit:
    """A piece of work with its own folder.

    `name` is the method (align) or the model (validate, evaluate). In sample and label it is the model METHOD@R that a
    round R > 1 makes. Otherwise it is None.
    """

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

    @property
    def round(self) -> int:
        """The round that the unit belongs to. Units before the rounds, and those of round 1, have 1."""
        return method_round(self.name or "")[1]


class RunFolder:
    """The paths in a run's folder, and the unit that a path belongs to. Only `move_aside` changes the disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.data = self.path / "data.json"
        self.hub = self.path / "hub.json"
        self.rounds = self.path / "rounds.json"
        self.calibration = self.path / "calibration.png"
        self.rounds_picture = self.path / "rounds.png"
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
        """Returns a unit. All stages except pretrain need a seed.

        align, validate and evaluate need `name`: a method or model. sample and label have one from round 2 on.
        """
        if stage == "pretrain":
            return Unit(stage, None, None, self.path / BASE)
        if stage in _OF_ROUNDS and name is not None:
            return Unit(stage, seed, name, self._home(seed) / _ROUNDS / name / stage)
        folder = self._home(seed) / stage
        return Unit(stage, seed, name, folder / (name or "")) if stage in _NAMED else Unit(stage, seed, None, folder)

    def _home(self, seed: int | None) -> Path:
        return self.path / f"seed-{seed}"

    def checkpoint(self, model: str, seed: int | None = None) -> Path:
        """The folder of a model that this run trains. `model`: base, vft or a method."""
        if model == BASE:
            return self.unit("pretrain").folder
        return (self.unit("vft", seed) if model == VFT else self.unit("align", seed, model)).folder

    def completions(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's sampled completions. `name`: of the round that makes this model; None: of round 1."""
        return self.unit("sample", seed, name).folder / COMPLETIONS

    def continuations(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's completions that continue the beginning of a right one. `name`: as in `completions`."""
        return self.unit("sample", seed, name).folder / FROM_PREFIX

    def groups(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's labelled groups. `name`: as in `completions`."""
        return self.unit("label", seed, name).folder / GROUPS

    def pool(self, seed: int | None) -> Path:
        """The file of a seed's held-out groups, which every model scores."""
        return self.unit("label", seed).folder / POOL

    def counts(self, seed: int | None, name: str | None = None) -> Path:
        """The file with the number of candidates of each label. `name`: as in `completions`."""
        return self.unit("label", seed, name).folder / COUNTS

    def validation(self, model: str, seed: int | None) -> Path:
        """The file with a model's validation accuracy."""
        return self.unit(VALIDATE, seed, model).folder / VALIDATION

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
            rounds = _sorted_names(self._home(seed) / _ROUNDS)
            for stage in STAGES_OF_UNITS[1:]:
                names: list[str | None] = [*_sorted_names(self._home(seed) / stage)] if stage in _NAMED else [None]
                names += rounds if stage in _OF_ROUNDS else []
                found += [self.unit(stage, seed, name) for name in names]
        return [unit for unit in found if (not stages or unit.stage in stages) and unit.folder.is_dir()]

    def folders(self) -> list[tuple[Path, bool]]:
        """Returns the folders that the run itself writes into, and whether models are saved there.

        Links, and what lies in the folder of another run, are left out.
        """
        homes = [self._home(seed) for seed in self.seeds()]
        found = [(self.path, False), (self.logs, False), (self.judge_cache, False)]
        inner = (*_NAMED, _ROUNDS)
        found += [(folder, False) for home in homes for folder in (home, *(home / name for name in inner))]
        found += [(path, False) for home in homes for path in sorted((home / _ROUNDS).glob("[!.]*"))]
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
        stage, name, below = (*parts[1:4], "", "", "")[:3]
        if seed is None:
            return None
        if stage == _ROUNDS:
            return self.unit(below, int(seed[1]), name) if name and below in _OF_ROUNDS else None
        if stage not in STAGES_OF_UNITS[1:] or (stage in _NAMED and not name):
            return None
        return self.unit(stage, int(seed[1]), name if stage in _NAMED else None)

    # ---- outdated units ----

    def move_aside(self, folder: Path) -> Path:
        """Moves a unit's outdated folder to `replaced/N/`, with the first free N, so that nothing is lost."""
        number = 1
        while (target := self.replaced / str(number) / folder.relative_to(self.path)).exists():
            number += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        return target


def _sorted_names(folder: Path) -> list[str]:
    """The names in a folder, with rounds in numerical order. Those that are still being copied begin with a dot."""
    return sorted((path.name for path in folder.glob("[!.]*")), key=method_round)
