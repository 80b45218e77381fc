"""A run folder as the tables need it: what it is of, its models' measures, and values by question for paired tests."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..json_files import iter_json_lines, read_json, require
from ..report.build import build_report
from ..report.measures import MEASURES, measure_of
from ..report.read import model_manifests, read_config, read_values
from ..run.folder import BASE, PATH_CHAINS, POOL, VFT, VOTES, RunFolder
from ..run.manifest import read_manifest
from ..run.weights import shapes
from ..stats.comparison import BySeed
from ..stats.estimate import Estimate
from . import methods

MODEL_NAMES = {
    "huggyllama/llama-7b": "LLama-7B",
    "huggyllama/llama-13b": "LLama-13B",
    "meta-llama/Llama-2-7b-hf": "LLama2-7B",
    "meta-llama/Llama-2-13b-hf": "LLama2-13B",
}
TASK_NAMES = {"gsm8k": "GSM8K", "aqua": "AQUA", "ecqa": "ECQA", "mmlu": "MMLU"}
STARTS = (BASE, VFT)  # what no method is called

Values = Callable[[str, str], BySeed]  # (measure, model) -> seed -> question -> value


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One run. `model` and `task` are the paper's names where it has them, `start` what alignment started from.

    `names`: the folder of each model that goes by another name here. `parameters`: of each model, None where no weights
    are left to count. `answers_alone`: training questions whose answer alone is known. `k`: samples of a question.
    `methods`: those of the configuration. `setting`: what runs that differ in size alone share, but the two before.
    `part`: the part of a mixture that all its questions are of.
    """

    folder: Path
    model: str
    task: str
    seeds: tuple[int, ...]
    splits: tuple[str, ...]
    start: str
    models: Mapping[str, Mapping[str, Any]]
    values: Values
    displacement: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parameters: int | None = None
    answers_alone: int | None = None
    k: int | None = None
    methods: tuple[str, ...] = ()
    setting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    part: str | None = None

    def measure(self, model: str | None, measure: str) -> Estimate | None:
        """A measure over seeds: of the report, a drift, `vote@8`, `pass@8`, or `category:NAME`."""
        if model is None or model not in self.models:
            return None
        entry = self.models[model]
        family, _, member = measure.partition("@" if "@" in measure else ":")
        if member:
            found: Estimate | None = entry[{"category": "categories"}.get(family, family)].get(member)
            return found
        if not MEASURES[measure].log:
            found = entry.get(measure)
            return found
        logged = self.displacement.get(model, {})
        return Estimate.over_seeds(
            {int(seed): Estimate(last[measure]) for seed, last in logged.items() if measure in last}
        )

    def manifests(self, models: Sequence[str]) -> dict[str, str]:
        """Path -> digest of the manifest of each alignment and evaluation of these models, where it is there."""
        # within a page at a suffix a model's folder has its whole name
        found = model_manifests(self.folder, [self.names.get(model, model) for model in models], self.seeds)
        return {(self.folder / path).as_posix(): digest for path, digest in found.items()}


def read_run(folder: str | Path) -> RunResult:
    """The results of a run folder. Raises `AftError` where nothing has been evaluated in it."""
    folder = Path(folder)
    report = build_report(folder, compare=False)
    config = read_config(folder) or {}
    strangers = _strangers(folder)
    own = ("distinct_right", "share_right")
    sampled = {row["model"]: {key: row[key] for key in own} for row in report["rounds"] if "model" in row}
    return RunResult(
        folder=folder,
        model=_model_name(config, folder),
        task=_task_name(config),
        seeds=tuple(report["seeds"]),
        splits=tuple(report["splits"]),
        start=(config.get("align") or {}).get("init_from", "base"),
        models={
            m["name"]: {**m, **sampled.get(m["name"], {})}
            for m in report["models"]
            if m["seeds"] and m["name"] not in strangers
        },
        values=functools.lru_cache(maxsize=None)(functools.partial(_values, folder, tuple(report["seeds"]))),
        displacement=report["displacement"] or {},
        rates=_rates(folder),
        notes=(*strangers.values(), *(line for line in report["missing"] if ": outdated for" in line)),
        parameters=_parameters(RunFolder(folder), config),
        answers_alone=(config.get("data") or {}).get("num_answer_only"),
        k=(config.get("sample") or {}).get("num_samples"),
        methods=tuple(config.get("methods") or ()),
        setting=_setting(config),
    )


def at_suffix(run: RunResult, suffix: str) -> RunResult:
    """The run with base, vft and, under their bare names, those of its methods that are called NAME + `suffix`."""

    def own(name: str) -> str:
        return name if name in STARTS else name + suffix

    def of(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name.removesuffix(suffix): v for name, v in values.items() if name in STARTS or name.endswith(suffix)}

    return dataclasses.replace(
        run,
        models=of(run.models),
        displacement=of(run.displacement),
        rates=of(run.rates),
        names={name: own(name) for name in of(run.models)},
        values=lambda measure, model: run.values(measure, own(model)),
    )


def evaluated_at(manifests: Iterable[str]) -> str:
    """At which commits the evaluations among these manifests were made: a folder may be gone on with at a later one."""
    units = [run.unit_of(path) for path in manifests if (run := RunFolder.around(path))]
    found = [read_manifest(unit.manifest) or {} for unit in units if unit and unit.stage == "evaluate"]
    revisions = {manifest["git_revision"] for manifest in found if manifest.get("git_revision")}
    return f"evaluated at commit {', '.join(sorted(revisions)) or 'unknown'}"


def distinguish(runs: Sequence[RunResult], *, by_folder: bool = False) -> list[RunResult]:
    """The runs, those that share model and task named after their folders; with `by_folder` all.

    Folders of one name are told apart by those that they lie in.
    """
    count = Counter((run.model, run.task) for run in runs)
    named = {run.folder.resolve() for run in runs if by_folder or count[run.model, run.task] > 1}
    return [
        dataclasses.replace(run, model=_own_name(run.folder.resolve(), named))
        if by_folder or count[run.model, run.task] > 1
        else run
        for run in runs
    ]


def _own_name(folder: Path, folders: Collection[Path]) -> str:
    """The fewest last parts of a path that no other of the folders ends with."""
    length = 1
    while any(other.parts[-length:] == folder.parts[-length:] for other in folders if other != folder):
        length += 1
    return Path(*folder.parts[-length:]).as_posix()


def _model_name(config: Mapping[str, Any], folder: Path) -> str:
    name = (config.get("model") or {}).get("name_or_path")
    if not name:
        return folder.resolve().name
    path = Path(name)
    return MODEL_NAMES.get(name) or (path.parent.name if path.name == BASE else path.name)


def _task_name(config: Mapping[str, Any]) -> str:
    name = (config.get("data") or {}).get("name", "unknown task")
    ratings = (config.get("label") or {}).get("ratings") or {}
    return TASK_NAMES.get(name, name) + ("" if ratings.get("name", "binary") == "binary" else "-RANK")


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    """The data but for its seed, place and number of answers alone, and how long each method trains and from what."""
    align = config.get("align") or {}
    training = {**(config.get("training") or {}), **(align.get("training") or {})}
    elsewhere = ("seed", "path", "num_answer_only")
    return {
        "data": {key: value for key, value in (config.get("data") or {}).items() if key not in elsewhere},
        "align": {"init_from": align.get("init_from")}
        | {key: training.get(key) for key in ("max_steps", "num_train_epochs")},
    }


def _parameters(run: RunFolder, config: Mapping[str, Any]) -> int | None:
    """The parameters of a VFT model of the run, or of its base model where that is a folder."""
    name = (config.get("model") or {}).get("name_or_path")
    for folder in (*(run.checkpoint(VFT, seed) for seed in run.seeds()), *([Path(name)] if name else [])):
        files = sorted(folder.glob("model*.safetensors"))  # an adapter's weights have another name
        # what is damaged is not counted: this page does not read weights otherwise
        with contextlib.suppress(OSError, ValueError):
            if files:
                return sum(math.prod(shape) for path in files for _, shape, _ in shapes(path))
    return None


def _rates(folder: Path) -> dict[str, float]:
    """The rate of each method and of VFT, from manifests: a folder has methods that its configuration lacks."""
    rates = {}
    for unit in RunFolder(folder).units("vft", "align"):
        section = (read_manifest(unit.manifest) or {"inputs": {}})["inputs"].get("config", {}).get(unit.stage, {})
        rate = (section.get("training") or {}).get("learning_rate")
        if isinstance(rate, (int, float)):
            rates[unit.name or VFT] = float(rate)
    return rates


def _strangers(folder: Path) -> dict[str, str]:
    """Models whose name is that of a method of the tables, but not their loss; and what is to be said of them."""
    found = {}
    for unit in RunFolder(folder).units("align"):
        name = unit.name or ""
        align = (read_json(unit.manifest) or {}).get("inputs", {}).get("config", {}).get("align")
        if align is not None and not methods.fits(name, align.get("loss")):
            loss = align["loss"]
            kind = "no loss" if loss is None else f"{loss['name']}, constraint {loss['constraint']['name']}"
            found[name] = f"{name}: left out, as it is another method by that name ({kind})"
    return found


def _values(folder: Path, seeds: tuple[int, ...], measure: str, model: str) -> BySeed:
    if measure_of(measure).values:
        return read_values(folder, model, seeds, measure)
    readers: dict[str, tuple[str, Callable[[Path], dict[str, float]]]] = {
        "pool_perplexity": (POOL, _pool_perplexities),
        "vote_gain": (VOTES, _vote_gains),
        "paths_distinct_right": (PATH_CHAINS, functools.partial(_numbers, "distinct_right")),
        "right_pairs_differ": (PATH_CHAINS, functools.partial(_numbers, "right_pairs_differ")),
        "entropy": (PATH_CHAINS, functools.partial(_numbers, "entropy")),
        "path_tokens": (PATH_CHAINS, _path_tokens),
    }
    file, read = (VOTES, functools.partial(_shares, measure)) if "@" in measure else readers[measure]
    paths = {seed: RunFolder(folder).evaluated(model, seed, file) for seed in seeds}
    return {seed: read(path) for seed, path in paths.items() if path.exists()}


def _pool_perplexities(path: Path) -> dict[str, float]:
    """Question -> mean of exp(−score) over its right chains in the pool, which are the same for every model."""
    found: dict[str, list[float]] = {}
    for line, entry in iter_json_lines(path):
        where = f"{path}:{line}"
        question = require(entry, "question_id", str, where)
        if require(entry, "is_positive", bool, where):
            score = require(entry, "score", (int, float, type(None)), where)
            found.setdefault(question, []).append(math.inf if score is None else math.exp(-score))
    return {question: fmean(values) for question, values in found.items()}


def _vote_gains(path: Path) -> dict[str, float]:
    """Question -> what a vote of the most paths wins over the fewest, one path as a rule."""
    gains = {}
    for line, entry in iter_json_lines(path):
        where = f"{path}:{line}"
        votes = require(entry, "vote", dict, where)
        if votes:
            gain = votes[max(votes, key=int)] - votes[min(votes, key=int)]
            gains[require(entry, "question_id", str, where)] = gain
    return gains


def _path_tokens(path: Path) -> dict[str, float]:
    """Question -> sampled tokens of one of its paths, on average."""
    return {
        require(entry, "question_id", str, f"{path}:{line}"): fmean(require(entry, "tokens", list, f"{path}:{line}"))
        for line, entry in iter_json_lines(path)
    }


def _shares(measure: str, path: Path) -> dict[str, float]:
    """Question -> its `vote@N` or `pass@N`; empty where no such number of paths was measured."""
    family, _, size = measure.partition("@")
    found = {}
    for line, entry in iter_json_lines(path):
        where = f"{path}:{line}"
        shares = require(entry, family, dict, where)
        if size in shares:
            found[require(entry, "question_id", str, where)] = float(require(shares, size, (int, float), where))
    return found


def _numbers(key: str, path: Path) -> dict[str, float]:
    """Question -> a number of its line; questions where it is null are left out."""
    found = {}
    for line, entry in iter_json_lines(path):
        where = f"{path}:{line}"
        value = require(entry, key, (int, float, type(None)), where)
        if value is not None:
            found[require(entry, "question_id", str, where)] = float(value)
    return found
