"""The plan of a run: its units in order, their inputs and outputs, and which are up to date. Does not import torch.

A unit is one stage for one seed and, in align and evaluate, one model. It is up to date while its inputs equal those in
its manifest. The inputs are the config sections it depends on, data, versions, and digests of the files it reads.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import Config, align_config
from ..config.launch_file import count_processes
from ..config.load import merge, with_date
from ..config.packaged import find_model
from ..config.ratings import JudgeRatings
from ..config.rounds import DEFAULT_QUESTIONS
from ..config.schema import DEFAULT_POOL, AlignConfig, ModelConfig, VftConfig, model_names
from ..errors import ConfigError, DataError
from ..json_files import read_json
from ..labelling.rating_sources import FILE_KEYS, rating_files, rating_keys
from ..prompts import CLOCK
from ..records import Question
from ..run.digest import changed_keys
from ..run.engines import vllm_versions_or_none
from ..run.environment import package_versions, versions
from ..run.folder import (
    BASE,
    GROUPS,
    MANIFEST,
    ROUND_STAGES,
    STAGES_OF_UNITS,
    STARTED,
    TRAINING_STAGES,
    VALIDATE,
    RunFolder,
    Unit,
    method_round,
    round_name,
)
from ..run.integrity import Integrity, describe_manifest
from ..run.manifest import digest_checkpoint, read_manifest
from ..shown import shown_line
from ..tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION, Task, make_task
from ..training.ranks import questions_of_a_step, share_step
from .planned_rounds import PlannedRounds

# Increase a stage's number if a change of its code changes the result for the same inputs.
STAGE_VERSIONS = {"pretrain": 3, "vft": 3, "sample": 3, "label": 3, "align": 3, "validate": 1, "evaluate": 4}

# Files that can hold a checkpoint's chat template.
_TEMPLATES = ("chat_template.*", "tokenizer_config.json", "additional_chat_templates/*")

ADAPTER_CONFIG = "adapter_config.json"  # peft's name, in the folder of an adapter
_MOST_READ = 20  # adapters that name each other as their base models end here

# Keys of `align` that choose groups and candidates, with the values that choose all of them as they are.
CANDIDATES_BY_DEFAULT = {"negatives": "all", "response_mask": True, "groups": "all"}

DONE, RESUME, RUN, RERUN, DAMAGED = "done", "resume", "run", "rerun", "damaged"


@dataclasses.dataclass(frozen=True)
class Status:
    """State of a unit (done, resume, run, rerun or damaged), and the reasons.

    damaged: what the unit wrote is not what its manifest says. It runs again only if that was asked for.
    """

    state: str
    reasons: tuple[str, ...] = ()


class Plan(PlannedRounds):
    """The units of a configuration and their state on disk.

    `sees_data`: False for a dry run without the data. Finished units are then taken to have been made of the same data.
    `integrity`: how the files of finished units are compared with their manifests. `repair`: damaged units of the
    stages that run are made again; otherwise they stop the run.
    """

    def __init__(
        self,
        config: Config,
        task: Task | None = None,
        *,
        sees_data: bool = True,
        integrity: Integrity | None = None,
        repair: bool = False,
    ) -> None:
        self.config = with_date(config)
        self.run = RunFolder(config.output_dir)
        self.folder = self.run.path
        self.sees_data = sees_data
        self.integrity = integrity or Integrity()
        self.repair = repair
        self._given_task = task

    @functools.cached_property
    def task(self) -> Task:
        """The task, made at its first use: making a task of the user's own runs its code."""
        return self._given_task or make_task(**vars(self.config.data))

    # ---- units ----

    def units(self, stage: str, number: int | None = None) -> list[Unit]:
        """Returns the units of one stage, in order: by round, then seed, then method.

        `number`: only those of a round. Rounds behind a stop have no units.
        """
        is_behind = self.behind_stops()
        return [unit for unit in self._all_units(stage, number) if not is_behind(unit)]

    def ready_units(self, stage: str) -> list[Unit]:
        """Returns the units of one stage, without those of later rounds that have nothing to read yet."""
        units = self.units(stage)
        return [unit for unit in units if stage == "evaluate" or unit.round == 1 or self.can_begin(unit)]

    def _all_units(self, stage: str, number: int | None = None) -> list[Unit]:
        """Returns the units that a stage has if no round stops."""
        if stage == "pretrain":
            return [self.run.unit(stage)]
        rounds = range(1, self.num_rounds + 1) if stage in ROUND_STAGES else (1,)
        return [
            self.run.unit(stage, seed, name)
            for one in rounds
            if number in (None, one)
            for seed in self.config.seeds
            for name in self._names(stage, one)
        ]

    def _names(self, stage: str, number: int) -> Sequence[str | None]:
        if stage == "evaluate":
            return model_names(self.config)
        if stage == VALIDATE and not self.validates:
            return []
        if stage in ("align", VALIDATE) or (stage in ROUND_STAGES and number > 1):
            return [round_name(method, number) for method in self.config.methods]
        return [None]

    def stages(self) -> list[str]:
        """Returns the configured stages in running order, with the validation of rounds."""
        wanted = {*self.config.stages, *([VALIDATE] if self.validates and "align" in self.config.stages else [])}
        return [stage for stage in STAGES_OF_UNITS if stage in wanted]

    def steps(self, stages: Sequence[str]) -> Iterator[tuple[str, int | None]]:
        """Yields (stage, round) in running order. The round is None for stages that run once."""
        looped = [stage for stage in stages if stage in ROUND_STAGES]
        yield from ((stage, None) for stage in stages if stage in ("pretrain", "vft"))
        yield from ((stage, number) for number in range(1, self.num_rounds + 1) for stage in looped)
        yield from ((stage, None) for stage in stages if stage == "evaluate")

    # ---- paths and data ----

    def checkpoint(self, name: str, seed: int | None) -> str:
        """Returns the folder or hub name of a model: base, vft or a method."""
        named = self.config.model.name_or_path if name == BASE else None
        return find_model(named) if named else str(self.run.checkpoint(name, seed))

    def gguf_file(self, checkpoint: str) -> str | None:
        """The GGUF file that holds a checkpoint's weights: of the base model alone, if it has one."""
        model = self.config.model
        return model.gguf_file if model.gguf_file and checkpoint == self.checkpoint(BASE, None) else None

    def base_of(self, checkpoint: str) -> str | None:
        """The model that a checkpoint is an adapter of, a folder or hub name. None: it is a whole model.

        Raises `ConfigError` for an adapter from elsewhere that does not name its model.
        """
        unit, lora = self.run.unit_of(checkpoint), self.config.model.lora
        if unit is not None:
            if unit.stage not in ("vft", "align") or lora is None or lora.save != "adapter":
                return None
            start = BASE if unit.stage == "vft" else self.start_of(unit.name or "")
            return self.checkpoint(start, unit.seed)
        try:
            found = read_json(Path(checkpoint) / ADAPTER_CONFIG)
        except DataError as error:
            raise ConfigError(f"model.name_or_path: {str(error).removesuffix('.')}") from None
        if found is None:
            return None
        named = found.get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise ConfigError(f"model.name_or_path: {checkpoint}/{ADAPTER_CONFIG} names no base_model_name_or_path")
        if named == checkpoint:
            raise ConfigError(f"model.name_or_path: {checkpoint}/{ADAPTER_CONFIG} names itself as its base model")
        if not _is_here(model := find_model(named)):
            raise ConfigError(
                f"model.name_or_path: {checkpoint}/{ADAPTER_CONFIG} names '{shown_line(named)}' as its base model,"
                " which is not on this machine. A name that your configuration does not hold is not looked up:"
                " fetch it first (hf download NAME), or put the path of a folder there"
            )
        return model

    def completions(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's sampled completions. `name`: of the round that makes this model; None: of round 1."""
        return self.run.completions(seed, name)

    def continuations(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's completions that continue right ones (`sample.from_prefix`)."""
        return self.run.continuations(seed, name)

    def groups(self, seed: int | None, name: str | None = None) -> Path:
        """The file of a seed's labelled groups. `name`: as in `completions`."""
        return self.run.groups(seed, name)

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
        questions = self.task.load(VALIDATION, seed=seed) if count != 0 else []
        if count is None:
            return questions[:DEFAULT_POOL]
        if count > len(questions):
            raise ConfigError(f"sample.pool_questions: {count}, but there are {len(questions)} validation questions")
        return questions[:count]

    def check_rounds(self) -> None:
        """Raises `ConfigError` if rounds are validated and a seed has too few validation questions."""
        for seed in self.config.seeds if self.validates else ():
            self.validation_questions(seed)

    def validation_questions(self, seed: int) -> list[Question]:
        """Returns the questions that each round's model answers. Raises `ConfigError` if there are too few.

        Also for a run that has no rounds any more: its folder may hold validations, which can be checked.
        """
        count, questions = self.rounds.validation_questions, self.task.load(VALIDATION, seed=seed)
        key = "rounds.validation_questions"
        if not questions:
            raise ConfigError(f"{key}: the data have no validation questions; 0: the last round is the final model")
        if count is not None and count > len(questions):
            raise ConfigError(f"{key}: {count}, but there are {len(questions)} validation questions")
        return questions[: DEFAULT_QUESTIONS if count is None else count]

    def pool_of(self, unit: Unit) -> list[Question]:
        """Returns the pool's questions that a sample or label unit has. The pool is sampled once, in round 1."""
        return self.pool_questions(unit.seed or 0) if unit.round == 1 else []

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

    def unit_training(self, unit: Unit) -> dict[str, Any]:
        """Returns the TrainingArguments of a unit that trains."""
        config = self.config
        section = align_config(config, unit.name or "") if unit.stage == "align" else getattr(config, unit.stage)
        return self.training(section.training)

    # ---- inputs ----

    def reads(self, unit: Unit) -> dict[str, str | Path]:
        """Returns what a unit reads. Checkpoints are text (a folder or hub name) and files are paths.

        The model that an adapter stands on is read with it, as `NAME_base`.
        """
        found: dict[str, str | Path] = {}
        for name, source in self._reads(unit).items():
            found[name] = source
            for _ in range(_MOST_READ):
                if not isinstance(source, str) or (below := self.base_of(source)) is None:
                    break
                name, source = f"{name}_base", below
                found[name] = source
        return found

    def _reads(self, unit: Unit) -> dict[str, str | Path]:
        config, seed = self.config, unit.seed
        if unit.stage == "vft":
            return {BASE: self.checkpoint(BASE, seed)}
        if unit.stage == "sample":
            sampled = self.sampled_model(unit)
            return {sampled: self.checkpoint(sampled, seed)}
        if unit.stage == "label":
            found: dict[str, str | Path] = {"completions": self.completions(seed, unit.name)}
            if config.sample.from_prefix is not None:
                found["from_prefix"] = self.continuations(seed, unit.name)
            return {**found, **rating_files(config.label.ratings, seed or 0)}
        if unit.stage == "align":
            start, labels = self.start_of(unit.name or ""), self.label_units(unit)
            groups = {f"groups of round {label.round}": label.folder / GROUPS for label in labels[:-1]}
            return {start: self.checkpoint(start, seed), **groups, "groups": labels[-1].folder / GROUPS}
        if unit.stage == VALIDATE:
            return {"model": self.checkpoint(unit.name or "", seed)}
        if unit.stage == "evaluate":
            found = {"model": self.checkpoint(unit.name or "", seed)}
            return {**found, "pool": self.pool(seed)} if self._scores_pool(seed) else found
        return {}

    def _scores_pool(self, seed: int | None) -> bool:
        """True if evaluation reads the pool's file. Without labelling, the default is a pool if its file exists."""
        count = self.config.sample.pool_questions
        return bool(count) or (count is None and ("label" in self.config.stages or self.pool(seed).is_file()))

    def inputs(self, unit: Unit) -> dict[str, Any] | None:
        """Returns everything that a unit's result depends on, as JSON, or None if something it reads is missing."""
        reads = self._digests(unit)
        return None if None in reads.values() else self._inputs(unit, reads, self._fingerprint)

    def _digests(self, unit: Unit) -> dict[str, str | None]:
        return {name: self._digest(source) for name, source in self.reads(unit).items()}

    def _inputs(self, unit: Unit, reads: dict[str, str | None], data: Any) -> dict[str, Any]:
        packages = versions()
        relevant = ("torch", "transformers", "peft", "tokenizers") if unit.stage != "label" else ()
        return {
            "stage_version": STAGE_VERSIONS[unit.stage],
            "seed": unit.seed,
            "data": data,
            "config": self._sections(unit),
            "reads": reads,
            "versions": {name: packages[name] for name in relevant} | self._engine_versions(unit.stage),
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
            # limits decide whether a run goes on, and change no label
            label = {key: value for key, value in whole["label"].items() if key not in ("warn", "stop")}
            from_prefix = config.sample.from_prefix
            # labels that left out a continuation with the text of a sample do not have this key
            continued = {} if from_prefix is None else {"credit": from_prefix.credit, "as_samples": "kept"}
            sample = {"sample": {"from_prefix": continued}} if continued else {}
            return {"data": data, "label": {**label, "ratings": ratings}, **sample, **_round_key(unit)}
        sections = {"data": data, "prompt": self.prompt_keys(unit), "model": self.model_keys(unit.stage)}
        if unit.stage == "pretrain":
            return {**sections, "pretrain": {"training": _untracked(self.training(config.pretrain.training))}}
        if unit.stage == "vft":
            return {**sections, "vft": self._trained(config.vft, whole["vft"])}
        if unit.stage == "sample":
            # from round 2 on, a method's own model is sampled, and no pool
            unused = ("model", "pool_questions") if unit.round > 1 else ()
            sample = {
                key: value for key, value in _engine_keys(_without_credit(whole["sample"])).items() if key not in unused
            }
            return {**sections, "sample": sample, **_round_key(unit)}
        if unit.stage == "align":
            align = align_config(config, unit.name or "")
            # absent where they are as before they were there, so that earlier runs stay up to date
            named = {
                key: value
                for key, value in dataclasses.asdict(align).items()
                if key not in CANDIDATES_BY_DEFAULT or value != CANDIDATES_BY_DEFAULT[key]
            }
            keys = self._trained(align, named)
            if unit.round > 1:
                kept: dict[str, str] = {"keep": self.rounds.keep, "start_from": self.rounds.start_from}
                if self.rounds.keep == "all" and config.label.deduplicate != "exact":  # rounds are merged by it
                    kept["deduplicate"] = config.label.deduplicate
                return {**sections, "align": keys, "rounds": kept, **_round_key(unit)}
            return {**sections, "align": keys}
        if unit.stage == VALIDATE:
            answers = {key: value for key, value in _engine_keys(whole["evaluate"]).items() if key in _OF_ANSWERS}
            count = self.rounds.validation_questions
            return {**sections, VALIDATE: {**answers, "num_questions": DEFAULT_QUESTIONS if count is None else count}}
        # no number comes from the training scores, so an evaluation without them is finished, too
        others = ("models", "training_scores")
        evaluate = {key: value for key, value in whole["evaluate"].items() if key not in others}
        if config.evaluate.self_consistency is not None:
            evaluate["self_consistency"] = config.evaluate.self_consistency.recorded()
        return {**sections, "evaluate": _engine_keys(evaluate)}

    def _engine_versions(self, stage: str) -> dict[str, str]:
        """Returns the versions of what only some runs use: the engine that samples, and bitsandbytes."""
        if stage != "label" and self._in_4_bits(stage):
            return package_versions("bitsandbytes")
        engines = {"sample": self.config.sample.engine, "evaluate": self.config.evaluate.engine}
        engines[VALIDATE] = self.config.evaluate.engine
        return vllm_versions_or_none() if engines.get(stage) == "vllm" else {}

    def prompt_keys(self, unit: Unit) -> dict[str, Any]:
        """Returns the keys that decide the rendered prompts of a unit, beside the chat template in what it reads.

        The date counts only where the template can show it, and only chat prompts have a template.
        """
        prompt = dataclasses.asdict(self.config.prompt)
        date, kwargs = prompt.pop("date"), prompt.pop("template_kwargs")
        if kwargs:
            prompt["template_kwargs"] = kwargs
        sources = [source for source in self.reads(unit).values() if isinstance(source, str)]
        if prompt["chat"] and any(map(self._may_show_date, sources)):
            prompt["date"] = date
        return prompt

    def _may_show_date(self, checkpoint: str) -> bool:
        folder = Path(checkpoint)
        if not folder.is_dir() or self.gguf_file(checkpoint) is not None:
            return True  # its chat template cannot be read without its tokenizer
        return any(CLOCK.encode() in path.read_bytes() for name in _TEMPLATES for path in folder.glob(name))

    def _recorded_ratings(self, unit: Unit) -> Any:
        """Returns `label.ratings` from the last run of a label unit, or None."""
        for name in (MANIFEST, STARTED):
            try:
                found = read_manifest(unit.folder / name)
            except DataError:
                continue
            if found is not None:
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
            found = {"inference_dtype": dtype, "attn_implementation": model.attn_implementation}
            return {**found, **(_quantization_keys(model) if self._in_4_bits(stage) else {})}
        kept = {name: value for name, value in dataclasses.asdict(model).items() if name in names}
        if kept.get("lora"):
            # absent where they are as before they were there, so that earlier runs stay up to date
            for key, usual in (("save", "both"), ("modules_to_save", None)):
                if kept["lora"][key] == usual:
                    del kept["lora"][key]
        return {**kept, **(_quantization_keys(model) if self._in_4_bits(stage) else {})}

    def _in_4_bits(self, stage: str) -> bool:
        section = self.config.model.quantization
        return section is not None and stage != "pretrain" and (stage in TRAINING_STAGES or section.inference)

    def _trained(self, section: VftConfig | AlignConfig, keys: dict[str, Any]) -> dict[str, Any]:
        """Returns a training section with the shared arguments, and with `max_new_tokens` for its validation."""
        validation = section.validation and {
            **keys["validation"],
            "max_new_tokens": self.config.evaluate.max_new_tokens,
        }
        return {**keys, "training": _untracked(self.training(section.training)), "validation": validation}

    def _digest(self, source: str | Path) -> str | None:
        if isinstance(source, Path):
            return self.integrity.digests.of(source) if source.is_file() else None
        folder, gguf = Path(source), self.gguf_file(source)
        if folder.is_dir() and gguf is not None:
            path = folder / gguf
            # Such files are large. A new one differs in size or time.
            return f"gguf:{gguf}:{path.stat().st_size}:{path.stat().st_mtime_ns}" if path.is_file() else None
        if folder.is_dir():
            try:
                return digest_checkpoint(folder, self.integrity.digests.of)
            except DataError:
                return None  # its manifest is damaged, and the state of its unit says so
        if folder.is_relative_to(self.folder):
            return None  # an earlier stage has not written it yet
        return f"hub:{source}@{self.config.model.revision or 'main'}" + (f"#{gguf}" if gguf else "")

    def changed_settings(self, unit: Unit, inputs: dict[str, Any]) -> list[str]:
        """Returns how the stage's version, the seed, the data and the configuration differ from recorded inputs."""
        keys = ("stage_version", "seed", "data", "config")
        now, inputs = self._inputs(unit, {}, self._fingerprint), _recorded_inputs(inputs)
        return changed_keys({key: inputs.get(key) for key in keys}, {key: now[key] for key in keys})

    def has_same_data(self, unit: Unit, inputs: dict[str, Any]) -> bool:
        """True if recorded inputs of a unit have the data and the splits that the configuration has now."""
        recorded = (inputs.get("data"), inputs.get("config", {}).get("data"))
        return recorded == (self._fingerprint, self._sections(unit)["data"])

    def changed_reads(self, unit: Unit, inputs: dict[str, Any]) -> list[str]:
        """Returns which of the things that a unit reads differ from recorded inputs. What is absent does not count."""
        now = {name: digest for name, digest in self._digests(unit).items() if digest is not None}
        recorded = inputs.get("reads", {})
        return [name for name, digest in now.items() if name in recorded and recorded[name] != digest]

    # ---- state ----

    def processes(self, unit: Unit) -> int | None:
        """Returns how many processes share a training unit, or None if the launch file does not say.

        None for units that do not train.
        """
        return count_processes(self.config.launch) if unit.stage in TRAINING_STAGES else None

    def status(self, unit: Unit) -> Status:
        """Returns whether a unit is up to date, can resume, or must run, from the current files."""
        path = unit.manifest
        try:
            manifest = read_manifest(path)
            path = unit.folder / STARTED
            started = read_manifest(path) if manifest is None else None
        except DataError as error:
            return Status(DAMAGED, (describe_manifest(path, error),))
        if manifest is not None and (of_another := self.integrity.damages(unit, names=())):
            return Status(DAMAGED, tuple(of_another))
        reads = self._digests(unit)
        if None in reads.values():
            missing = [str(source) for name, source in self.reads(unit).items() if reads[name] is None]
            return Status(RERUN if manifest else RUN, tuple(f"waits for {source}" for source in missing))
        recorded = manifest or started
        if recorded is None:
            return Status(RUN)
        inputs = self._inputs(unit, reads, self._fingerprint if self.sees_data else recorded["inputs"].get("data"))
        if manifest is not None:
            # outdated results are not used, so that nothing depends on whether they are whole
            if reasons := changed_keys(_recorded_inputs(manifest["inputs"]), inputs):
                return Status(RERUN, tuple(reasons))
            damages = self.integrity.damages(unit)
            return Status(DAMAGED, tuple(damages)) if damages else Status(DONE)
        assert started is not None
        reasons = changed_keys(_recorded_inputs(started["inputs"]), inputs)
        # Not part of `inputs`: otherwise a finished run would look outdated on a machine with another process count.
        before, now, cut = started.get("processes"), self.processes(unit), "was cut"
        if None not in (before, now) and before != now:
            assert before is not None and now is not None
            training = self.unit_training(unit)
            cut += f" with {before} process{'es' if before > 1 else ''}, now {now}"
            if share_step(training, before, now) is None:
                questions = questions_of_a_step(training, before)
                reasons.append(f"{cut}, which cannot share the {questions} questions of a step equally")
        return Status(RERUN, tuple(reasons)) if reasons else Status(RESUME, (cut,))

    def forecast(self, stages: list[str]) -> list[tuple[Unit, Status]]:
        """Returns every unit of `stages` with its expected status, if units that run change what later units read.

        A stop counts only if the validation or the labels behind it stay as they are.
        """
        is_behind = self.behind_stops()
        result: list[tuple[Unit, Status]] = []
        moving: dict[str, Unit] = {}  # folder -> unit that will write it
        may_go_on: set[tuple[int | None, str]] = set()  # seeds and methods whose stops may change
        for stage, number in self.steps(stages):
            for unit in self._all_units(stage, number):
                own = unit.seed, method_round(unit.name or "")[0]
                if own not in may_go_on and is_behind(unit):
                    continue
                status = self.status(unit)
                sources = [Path(source) for source in self.reads(unit).values()]
                before = [moving[str(f)] for s in sources for f in (s, *s.parents) if str(f) in moving]
                if before and status.state == DONE:
                    status = Status(RERUN, (f"unless {before[0]} gives the same result again",))
                elif before:
                    known = [reason for reason in status.reasons if not reason.startswith("waits for ")]
                    status = Status(status.state, (*known, f"after {before[0]}"))
                if unit.round > 1 and self.rounds.patience is not None and status.state != DONE:
                    status = Status(status.state, (*status.reasons, "unless validation stops the rounds before"))
                if status.state != DONE:
                    moving[str(unit.folder)] = unit
                    may_go_on |= {own} if unit.stage in ("label", VALIDATE) else set()
                result.append((unit, status))
        return result

    def check_damage(self, stages: Sequence[str]) -> None:
        """Raises `DataError` if a finished unit of `stages`, or one that they read, is not what its manifest says.

        With `repair`, damaged units of `stages` are made again, so that only those count that they read.
        """
        from ..progress import Progress

        self._raise_damages(self._damaged_makers(stages), stages)
        units, states = [unit for stage in stages for unit in self.units(stage)], {}
        with Progress("comparing files with manifests", len(units), "unit", delay=3.0) as progress:
            for unit in units:
                states[unit] = self.status(unit)
                progress.update(note=str(unit))
        self.refuse_damaged(states, stages)

    def refuse_damaged(self, states: Mapping[Unit, Status], stages: Sequence[str]) -> None:
        """Raises `DataError` if one of these units of `stages` is damaged and is not to be made again."""
        if not self.repair:
            found = {unit: status.reasons for unit, status in states.items() if status.state == DAMAGED}
            self._raise_damages(found, stages)

    def _damaged_makers(self, stages: Sequence[str]) -> dict[Unit, Sequence[str]]:
        """Returns the damaged units that `stages` read and do not make, with what is wrong."""
        return self._damaged([unit for stage in stages for unit in self.units(stage)], stages)

    def _damaged(self, readers: Sequence[Unit], stages: Sequence[str]) -> dict[Unit, Sequence[str]]:
        read = [source for unit in readers for source in self.reads(unit).values()]
        makers = dict.fromkeys(unit for unit in map(self.run.unit_of, read) if unit and unit.stage not in stages)
        return {unit: damages for unit in makers if (damages := self.integrity.damages(unit))}

    def _raise_damages(self, found: Mapping[Unit, Sequence[str]], stages: Sequence[str]) -> None:
        lines = [f"{unit}: {unit.folder}/{line}" for unit, damages in found.items() for line in damages]
        if lines:
            raise DataError("\n".join([*lines, self._how_to_go_on(list(found), stages)]))

    def _how_to_go_on(self, units: Sequence[Unit], stages: Sequence[str]) -> str:
        what = "the damaged unit" if len(units) == 1 else f"the {len(units)} damaged units"
        others = [stage for stage in STAGES_OF_UNITS if any(unit.stage == stage not in stages for unit in units)]
        config = shlex.quote(str(self.run.config))
        commands = [f"aft-train --config {config} --stage {stage} --repair" for stage in others]
        again = f"run {' and '.join(commands)}" if others else "run the same command with --repair"
        return (
            f"To go on, put the files back, or {again}: {what} will be moved to {self.run.replaced} and made again, and"
            " so will what depends on a result that comes out different"
        )

    def can_begin(self, unit: Unit) -> bool:
        """True if everything that a unit reads is there."""
        return None not in self._digests(unit).values()

    def check_reads(self, stage: str, units: Sequence[Unit] | None = None) -> None:
        """Raises `ConfigError` if something that a unit of `stage` reads is missing or unfinished.

        `units`: those that count; None: all of the stage. Raises `DataError` if it is damaged.
        """
        units = self.units(stage) if units is None else units
        self._raise_damages(self._damaged(units, [stage]), [stage])
        reads = {str(source): (name, source) for unit in units for name, source in self.reads(unit).items()}
        problems = []
        for name, source in reads.values():
            if self._digest(source) is not None:
                continue
            if name in FILE_KEYS:
                problems.append(f"{FILE_KEYS[name]}: no file {source} (looked in {Path.cwd()})")
                continue
            maker = self.run.unit_of(source)
            config = shlex.quote(str(self.run.config))
            hint = f"; make it with: aft-train --config {config} --stage {maker.stage}" if maker else ""
            problems.append(f"stage {stage} reads {source}, which is not there or not finished{hint}")
        if problems:
            raise ConfigError(problems)


def _is_here(model: str) -> bool:
    """True for a folder, and for a name of the hub whose configuration is in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(model).is_dir() or isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:  # no name that the hub could have
        return False


# Keys of TrainingArguments that say who is told of a training, and change nothing in it.
_OF_TRACKERS = ("report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")


def _untracked(training: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in training.items() if key not in _OF_TRACKERS}


def _recorded_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Returns recorded inputs as this version would have recorded them.

    Earlier ones had the keys of trackers, or counted the training scores of an evaluation, as its version 5.
    """
    sections = {
        name: {**section, "training": _untracked(section["training"])}
        if isinstance(section, dict) and isinstance(section.get("training"), dict)
        else section
        for name, section in (inputs.get("config") or {}).items()
    }
    if "config" not in inputs:
        return inputs
    evaluate = sections.get("evaluate")
    if isinstance(evaluate, dict) and "training_scores" in evaluate:
        sections["evaluate"] = {key: value for key, value in evaluate.items() if key != "training_scores"}
        if inputs.get("stage_version") == 5:
            inputs = {**inputs, "stage_version": 4}
    return {**inputs, "config": sections}


def _quantization_keys(model: ModelConfig) -> dict[str, Any]:
    assert model.quantization is not None
    keys = dataclasses.asdict(model.quantization)
    return {"quantization": {name: value for name, value in keys.items() if name.startswith("bnb_")}}


def _without_credit(section: dict[str, Any]) -> dict[str, Any]:
    """Returns `sample` without what labelling alone reads, and without `from_prefix` if it is null."""
    keys = {name: value for name, value in section.items() if name != "from_prefix"}
    if section["from_prefix"] is None:
        return keys
    return {**keys, "from_prefix": {name: v for name, v in section["from_prefix"].items() if name != "credit"}}


# Keys of `evaluate` that decide a greedy answer.
_OF_ANSWERS = ("max_new_tokens", "batch_size", "batching", "engine", "vllm")


def _round_key(unit: Unit) -> dict[str, int]:
    """The round, where it is not the first: runs without rounds do not name it."""
    return {"round": unit.round} if unit.round > 1 else {}


# Keys of an engine that change where and how fast it samples, and no probability.
_WHERE = ("replicas", "gpu_memory_utilization", "max_model_len")


def _engine_keys(section: dict[str, Any]) -> dict[str, Any]:
    """Returns the keys of `sample` or `evaluate` that its engine uses and that decide what is sampled."""
    keys = {name: value for name, value in section.items() if name not in ("engine", "vllm", "openai")}
    if section["engine"] == "transformers":
        return keys
    keys["engine"] = section["engine"]
    del keys["batching"]
    if section["engine"] == "openai":
        del keys["batch_size"]
        return {**keys, "openai": {"model": section["openai"]["model"]}}
    return {**keys, "vllm": {name: value for name, value in section["vllm"].items() if name not in _WHERE}}
