"""The plan of a run: its units in order, their inputs and outputs, and which are up to date. Does not import torch.

A unit is one stage for one seed and, in align and evaluate, one model. It is up to date while its inputs equal those in
its manifest. The inputs are the config sections it depends on, data, versions, and digests of the files it reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Config, align_config
from ..config.launch_file import count_processes
from ..config.load import merge
from ..config.ratings import JudgeRatings
from ..config.schema import AlignConfig, VftConfig, model_names
from ..errors import ConfigError
from ..labelling.rating_sources import FILE_KEYS, rating_files, rating_keys
from ..records import Question
from ..run.digest import changed_keys, digest_file
from ..run.environment import versions
from ..run.folder import BASE, MANIFEST, STAGES, STARTED, TRAINING_STAGES, RunFolder, Unit
from ..run.manifest import digest_checkpoint, read_manifest
from ..tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION, Task, make_task

# Increase a stage's number if a change of its code changes the result for the same inputs.
STAGE_VERSIONS = {"pretrain": 2, "vft": 2, "sample": 2, "label": 3, "align": 2, "evaluate": 4}

DONE, RESUME, RUN, RERUN = "done", "resume", "run", "rerun"


@dataclasses.dataclass(frozen=True)
class Status:
    """State of a unit (done, resume, run or rerun), and the reasons."""

    state: str
    reasons: tuple[str, ...] = ()


class Plan:
    """The units of a configuration and their state on disk."""

    def __init__(self, config: Config, task: Task | None = None) -> None:
        self.config = config
        self.run = RunFolder(config.output_dir)
        self.folder = self.run.path
        self.task = task or make_task(**vars(config.data))

    # ---- units ----

    def units(self, stage: str) -> list[Unit]:
        """Returns the units of one stage, in order."""
        if stage == "pretrain":
            return [self.run.unit(stage)]
        names: Sequence[str | None] = [None]
        if stage == "align":
            names = list(self.config.methods)
        elif stage == "evaluate":
            names = model_names(self.config)
        return [self.run.unit(stage, seed, name) for seed in self.config.seeds for name in names]

    def stages(self) -> list[str]:
        """Returns the configured stages in running order."""
        return [stage for stage in STAGES if stage in self.config.stages]

    # ---- paths and data ----

    def checkpoint(self, name: str, seed: int | None) -> str:
        """Returns the folder or hub name of a model: base, vft or a method."""
        named = self.config.model.name_or_path if name == BASE else None
        return named or str(self.run.checkpoint(name, seed))

    def gguf_file(self, checkpoint: str) -> str | None:
        """The GGUF file that holds a checkpoint's weights: of the base model alone, if it has one."""
        model = self.config.model
        return model.gguf_file if checkpoint == model.name_or_path else None

    def completions(self, seed: int | None) -> Path:
        """The file of a seed's sampled completions."""
        return self.run.completions(seed)

    def groups(self, seed: int | None) -> Path:
        """The file of a seed's labelled groups."""
        return self.run.groups(seed)

    def pool(self, seed: int | None) -> Path:
        """The file of a seed's held-out groups, which every model scores."""
        return self.run.pool(seed)

    def judge_cache(self) -> Path:
        """The folder of a judge's replies. It is outside the label units, so replies survive if a unit runs again."""
        section = self.config.label.ratings
        named = section.cache if isinstance(section, JudgeRatings) else None
        return Path(named) if named is not None else self.run.judge_cache

    def training_questions(self, seed: int) -> list[Question]:
        """Returns the questions of the groups: first those with a known chain, then those with only an answer."""
        return self.task.load(TRAIN, seed=seed) + self.task.load(ANSWER_ONLY, seed=seed)

    def pool_questions(self, seed: int) -> list[Question]:
        """Returns the held-out questions whose completions every model scores."""
        count = self.config.sample.pool_questions
        questions = self.task.load(VALIDATION, seed=seed) if count else []
        if count > len(questions):
            raise ConfigError(f"sample.pool_questions: {count}, but there are {len(questions)} validation questions")
        return questions[:count]

    def describe_data(self) -> dict[str, Any]:
        """Returns the number of questions in each split (with the first seed), and the task's fingerprint and notes."""
        splits = (TRAIN, ANSWER_ONLY, VALIDATION, TEST)
        return {
            "fingerprint": self.task.fingerprint(),
            "questions": {split: len(self.task.load(split, seed=self.config.seeds[0])) for split in splits},
            "notes": self.task.notes(),
        }

    def training(self, section: dict[str, Any]) -> dict[str, Any]:
        """Returns the shared TrainingArguments, overridden by a stage's own."""
        return merge(self.config.training, section)

    # ---- inputs ----

    def reads(self, unit: Unit) -> dict[str, str | Path]:
        """Returns what a unit reads. Checkpoints are text (a folder or hub name) and files are paths."""
        config, seed = self.config, unit.seed
        if unit.stage == "vft":
            return {BASE: self.checkpoint(BASE, seed)}
        if unit.stage == "sample":
            return {config.sample.model: self.checkpoint(config.sample.model, seed)}
        if unit.stage == "label":
            return {"completions": self.completions(seed), **rating_files(config.label.ratings, seed or 0)}
        if unit.stage == "align":
            start = align_config(config, unit.name or "").init_from
            return {start: self.checkpoint(start, seed), "groups": self.groups(seed)}
        if unit.stage == "evaluate":
            found: dict[str, str | Path] = {"model": self.checkpoint(unit.name or "", seed)}
            return {**found, "pool": self.pool(seed)} if config.sample.pool_questions else found
        return {}

    def inputs(self, unit: Unit) -> dict[str, Any] | None:
        """Returns everything that a unit's result depends on, as JSON, or None if something it reads is missing."""
        reads = {}
        for name, source in self.reads(unit).items():
            digest = self._digest(source)
            if digest is None:
                return None
            reads[name] = digest
        packages = versions()
        relevant = ("torch", "transformers", "peft", "tokenizers") if unit.stage != "label" else ()
        return {
            "stage_version": STAGE_VERSIONS[unit.stage],
            "seed": unit.seed,
            "data": self._fingerprint,
            "config": self._sections(unit),
            "reads": reads,
            "versions": {name: packages[name] for name in relevant},
        }

    @functools.cached_property
    def _fingerprint(self) -> str:
        return self.task.fingerprint()

    def _sections(self, unit: Unit) -> dict[str, Any]:
        """Returns the configuration keys that decide a unit's result, with their own names where possible."""
        config = self.config
        whole = dataclasses.asdict(config)
        # Where the data lie and what was left out do not matter: the fingerprint covers the content.
        other_stages = {"num_pretrain": "pretrain", "num_test": "evaluate"}
        data = {
            key: v
            for key, v in whole["data"].items()
            if key not in ("path", "skip_unreadable") and other_stages.get(key) in (None, unit.stage)
        }
        if unit.stage == "label":
            ratings = rating_keys(config.label.ratings, self._recorded_ratings(unit))
            return {"data": data, "label": {**whole["label"], "ratings": ratings}}
        sections = {"data": data, "prompt": whole["prompt"], "model": self.model_keys(unit.stage)}
        if unit.stage == "pretrain":
            return {**sections, "pretrain": {"training": self.training(config.pretrain.training)}}
        if unit.stage == "vft":
            return {**sections, "vft": self._trained(config.vft, whole["vft"])}
        if unit.stage == "sample":
            return {**sections, "sample": whole["sample"]}
        if unit.stage == "align":
            align = align_config(config, unit.name or "")
            return {**sections, "align": self._trained(align, dataclasses.asdict(align))}
        return {**sections, "evaluate": {key: value for key, value in whole["evaluate"].items() if key != "models"}}

    def _recorded_ratings(self, unit: Unit) -> Any:
        """Returns `label.ratings` from the last run of a label unit, or None."""
        for name in (MANIFEST, STARTED):
            if (found := read_manifest(unit.folder / name)) is not None:
                for key in ("inputs", "config", "label", "ratings"):
                    found = found.get(key) if isinstance(found, dict) else None
                return found
        return None

    def model_keys(self, stage: str) -> dict[str, Any]:
        """Returns the keys of how a stage uses the model. The checkpoint's digest identifies the weights."""
        model = self.config.model
        if stage == "pretrain":
            names = ["from_scratch", "max_length", "overlong"]
        elif stage in ("vft", "align"):
            names = ["dtype", "attn_implementation", "max_length", "overlong", "lora"]
        else:
            dtype = model.inference_dtype or model.dtype
            return {"inference_dtype": dtype, "attn_implementation": model.attn_implementation}
        return {name: value for name, value in dataclasses.asdict(model).items() if name in names}

    def _trained(self, section: VftConfig | AlignConfig, keys: dict[str, Any]) -> dict[str, Any]:
        """Returns a training section with the shared arguments, and with `max_new_tokens` for its validation."""
        validation = section.validation and {
            **keys["validation"],
            "max_new_tokens": self.config.evaluate.max_new_tokens,
        }
        return {**keys, "training": self.training(section.training), "validation": validation}

    def _digest(self, source: str | Path) -> str | None:
        if isinstance(source, Path):
            return digest_file(source) if source.is_file() else None
        folder, gguf = Path(source), self.gguf_file(source)
        if folder.is_dir() and gguf is not None:
            path = folder / gguf
            # Such files are large. A new one differs in size or time.
            return f"gguf:{gguf}:{path.stat().st_size}:{path.stat().st_mtime_ns}" if path.is_file() else None
        if folder.is_dir():
            return digest_checkpoint(folder)
        if folder.is_relative_to(self.folder):
            return None  # an earlier stage has not written it yet
        return f"hub:{source}@{self.config.model.revision or 'main'}" + (f"#{gguf}" if gguf else "")

    # ---- state ----

    def processes(self, unit: Unit) -> int | None:
        """Returns how many processes share a training unit, or None if the launch file does not say.

        None for units that do not train.
        """
        return count_processes(self.config.launch.config) if unit.stage in TRAINING_STAGES else None

    def status(self, unit: Unit) -> Status:
        """Returns whether a unit is up to date, can resume, or must run, from the current files."""
        inputs = self.inputs(unit)
        manifest = read_manifest(unit.folder / MANIFEST)
        if inputs is None:
            missing = [str(source) for source in self.reads(unit).values() if self._digest(source) is None]
            return Status(RERUN if manifest else RUN, tuple(f"waits for {source}" for source in missing))
        if manifest is not None:
            reasons = changed_keys(manifest["inputs"], inputs)
            reasons += [f"{name} is missing" for name in manifest["outputs"] if not (unit.folder / name).exists()]
            return Status(RERUN, tuple(reasons)) if reasons else Status(DONE)
        started = read_manifest(unit.folder / STARTED)
        if started is None:
            return Status(RUN)
        reasons = changed_keys(started["inputs"], inputs)
        # Not part of `inputs`: otherwise a finished run would look outdated on a machine with another process count.
        before, now = started.get("processes"), self.processes(unit)
        if None not in (before, now) and before != now:
            reasons.append(f"cut with {before} processes, now {now}: a step would see another batch")
        return Status(RERUN, tuple(reasons)) if reasons else Status(RESUME, ("was cut",))

    def forecast(self, stages: list[str]) -> list[tuple[Unit, Status]]:
        """Returns every unit of `stages` with its expected status, if units that run change what later units read."""
        result: list[tuple[Unit, Status]] = []
        moving: dict[str, Unit] = {}  # folder -> unit that will write it
        for stage in stages:
            for unit in self.units(stage):
                status = self.status(unit)
                sources = [Path(source) for source in self.reads(unit).values()]
                before = [moving[str(f)] for s in sources for f in (s, *s.parents) if str(f) in moving]
                if before and status.state == DONE:
                    status = Status(RERUN, (f"unless {before[0]} gives the same result again",))
                elif before:
                    known = [reason for reason in status.reasons if not reason.startswith("waits for ")]
                    status = Status(status.state, (*known, f"after {before[0]}"))
                if status.state != DONE:
                    moving[str(unit.folder)] = unit
                result.append((unit, status))
        return result

    def check_reads(self, stage: str) -> None:
        """Raises `ConfigError` if something that a unit of `stage` reads is missing or unfinished."""
        reads = {str(source): (name, source) for unit in self.units(stage) for name, source in self.reads(unit).items()}
        problems = []
        for name, source in reads.values():
            if self._digest(source) is not None:
                continue
            if name in FILE_KEYS:
                problems.append(f"{FILE_KEYS[name]}: no file {source} (looked in {Path.cwd()})")
                continue
            maker = self.run.unit_of(source)
            hint = f"; make it with: aft-train --config {self.run.config} --stage {maker.stage}" if maker else ""
            problems.append(f"stage {stage} reads {source}, which is not there or not finished{hint}")
        if problems:
            raise ConfigError(problems)
