"""What a run folder holds, read for the report: metrics, predictions, pool scores, training curves, times.

An absent file is None or an absent entry; a file that is there but cannot be used raises `DataError` or `ConfigError`.
`left_out`: units whose files are not read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..json_files import iter_json_lines, read_json, require
from ..run.digest import digest_file
from ..run.folder import METRICS, POOL, STAGES_OF_UNITS, TRAINER_STATE, RunFolder, Unit
from ..stats.estimate import Estimate
from ..stats.intervals import one_sided_interval_from_sd
from ..yaml_files import read_yaml
from .measures import FAMILIES, LOGGED, MEASURED, MEASURES
from .rounds import rounds_from_json

_NUMBER = (int, float, type(None))
_BESIDE = ("correct", "unparsed", "truncated", "skipped")  # keys of metrics.json that `Estimate.beside` keeps

Curves = dict[str, dict[str, dict[int, dict[int, float]]]]


def read_config(run_folder: Path) -> dict[str, Any] | None:
    """The run's resolved configuration, None where it is absent; bad YAML raises `ConfigError`."""
    path = RunFolder(run_folder).config
    return read_yaml(path) if path.exists() else None


def read_metrics(run_folder: Path, left_out: Collection[Unit] = ()) -> dict[str, dict[int, dict[str, Any]]]:
    """Model -> seed -> {measure: `Estimate` or None, "checkpoint", "split", families}.

    A family is a mapping of estimates: `vote` and `pass` by number of paths, `categories` by name; empty if absent.
    """
    metrics: dict[str, dict[int, dict[str, Any]]] = {}
    for unit in RunFolder(run_folder).units("evaluate"):
        raw = None if unit in left_out else read_json(unit.folder / METRICS)
        if raw is not None:
            metrics.setdefault(unit.name or "", {})[unit.seed or 0] = _read_one(raw, str(unit.folder / METRICS))
    return metrics


def scores_present_pool(run: RunFolder, seed: int, model: str) -> bool:
    """False if the pool was made again since a model scored it: its scores are those of other chains.

    A pool that is gone, or of which the evaluation kept no digest, counts as the same.
    """
    path = run.pool(seed)
    recorded = (read_json(run.unit("evaluate", seed, model).manifest) or {}).get("inputs", {}).get("reads", {})
    return "pool" not in recorded or not path.is_file() or recorded["pool"] == digest_file(path)


def model_manifests(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int], left_out: Collection[Unit] = ()
) -> dict[str, str]:
    """Path within the run folder -> digest of the manifest of each model's alignment and evaluation, where it is there.

    That of an evaluation holds its inputs, the digest of the model among them; that of an alignment its last log.
    """
    run = RunFolder(run_folder)
    kinds = [(stage, model) for model in models for stage in ("align", "evaluate")]
    units = [run.unit(stage, seed, model) for seed in seeds for stage, model in kinds]
    paths = [unit.manifest for unit in units if unit not in left_out]
    return {run.within(path): digest_file(path) for path in paths if path.exists()}


def _read_one(raw: dict[str, Any], path: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "split": require(raw, "split", str, path),
        "checkpoint": require(raw, "checkpoint", str, path),
    }
    for measure in MEASURED:
        found, where = _section(raw, measure.path, path, optional=measure.optional)
        entry[measure.name] = None if found is None else _estimate(found, where)
    for family in FAMILIES:
        found, where = _section(raw, family.path, path, optional=True)
        members = {name: require(found or {}, name, dict, where) for name in found or {}}
        entry[family.name] = {name: _estimate(member, f"{where}: {name}") for name, member in members.items()}
    entry["assessment"] = _section(raw, ("assessment",), path, optional=True)[0]
    return entry


def _section(
    raw: dict[str, Any], keys: tuple[str, ...], where: str, *, optional: bool
) -> tuple[dict[str, Any] | None, str]:
    """The object under nested keys, and where it stands. None if a key is null or, if `optional`, absent."""
    value: dict[str, Any] | None = raw
    for key in keys:
        if value is not None:
            given = {key: None, **value} if optional else value
            value = require(given, key, (dict, type(None)), where)
        where = f"{where}: {key}"
    return value, where


def _estimate(raw: dict[str, Any], where: str) -> Estimate | None:
    """One measure of metrics.json; a pool score gets its interval from its mean, sd and n over chains."""
    n = require(raw, "n", int, where)
    if "mean" in raw:
        mean, sd = _finite(require(raw, "mean", _NUMBER, where)), _finite(require(raw, "sd", _NUMBER, where))
        if mean is None:
            return None
        low, high = one_sided_interval_from_sd(mean, sd, n)
        return Estimate(mean, low=low, high=high, n=n, beside={"sd_over_chains": sd})
    value, low, high = (require(raw, key, _NUMBER, where) for key in ("value", "low", "high"))
    beside = {key: raw[key] for key in _BESIDE if key in raw}
    if raw.get("infinite") or (value is not None and not math.isfinite(value)):
        # JSON has no infinity, so that the mean is None and `infinite` counts the chains
        return Estimate(None, n=n, beside={**beside, "infinite": raw.get("infinite") or 1})
    return Estimate(value, low=low, high=high, n=n, beside=beside)


def read_report(path: Path) -> dict[str, Any]:
    """report.json as `build_report` makes a report, with an `Estimate` for each measure of a model."""
    report = read_json(path)
    if report is None:
        raise DataError(f"{path}: no such file; aft-report RUN writes it")
    for model in report["models"]:
        for measure in MEASURED:
            found = model.get(measure.name)
            model[measure.name] = None if found is None else Estimate.from_json(found)
        for family in FAMILIES:
            members = model.get(family.name) or {}
            model[family.name] = {name: found and Estimate.from_json(found) for name, found in members.items()}
    if "rounds" in report:  # earlier reports lack it
        report["rounds"] = rounds_from_json(report["rounds"])
    return report


def read_values(run_folder: Path, model: str, by_seed: Iterable[int], measure: str) -> dict[int, dict[str, float]]:
    """Seed -> question id -> value of a measure of `COMPARED`, for evaluated seeds that kept it; nulls are left out.

    Of votes, that of the largest number of paths.
    """
    kept = MEASURES[measure].values
    if kept is None:
        raise ValueError(f"read_values: {measure} is not kept by question")
    name, key = kept
    found: dict[int, dict[str, float]] = {}
    for seed in sorted(by_seed):
        path = RunFolder(run_folder).evaluated(model, seed, name)
        if not path.exists():
            continue
        values = found.setdefault(seed, {})
        seen: set[str] = set()
        for line, entry in iter_json_lines(path):
            where = f"{path}:{line}"
            question = require(entry, "question_id", str, where)
            if question in seen:
                raise DataError(f"{where}: question '{question}' appears twice")
            seen.add(question)
            value = _value(entry, key, where)
            if value is not None:
                values[question] = float(value)
    return found


def _value(entry: dict[str, Any], key: str, where: str) -> float | None:
    if key != "vote":
        value: float | None = require(entry, key, bool if key == "is_correct" else (int, float, type(None)), where)
        return value
    votes = require(entry, key, dict, where)
    largest = max(votes, key=int, default=None)
    return None if largest is None else require(votes, largest, (int, float), where)


def stage_times(run_folder: Path, models: list[str], left_out: Collection[Unit] = ()) -> list[dict[str, Any]]:
    """Per stage (`vft`, `align/rft`, ...), in order: seconds of each of its runs, and their largest peak memory."""
    run = RunFolder(run_folder)

    def position(unit: Unit) -> tuple[int, int]:
        return STAGES_OF_UNITS.index(unit.stage), models.index(unit.name) if unit.name in models else len(models)

    stages: dict[str, dict[str, Any]] = {}
    for unit in sorted(run.units(), key=position):
        manifest = None if unit in left_out else read_json(unit.manifest)
        if manifest is None:
            continue
        where = run.within(unit.folder)
        name = where if unit.seed is None else where.partition("/")[2]
        stage = stages.setdefault(name, {"stage": name, "seconds": {}, "peak_memory_bytes": None})
        stage["seconds"][where] = _finite(manifest.get("seconds"))
        peaks = [_finite(manifest.get("peak_memory_bytes")), stage["peak_memory_bytes"]]
        stage["peak_memory_bytes"] = max((peak for peak in peaks if peak is not None), default=None)
    return list(stages.values())


def read_scores(
    run_folder: Path,
    models: Iterable[str],
    seeds: Iterable[int],
    file: str = POOL,
    left_out: Collection[Unit] = (),
) -> dict[str, tuple[list[float], list[float]]]:
    """Model -> (scores of right chains, of wrong chains), all seeds together; nats per token.

    `file` is `pool.jsonl` (the fixed pool), `assessment.jsonl` (chains of the model's own) or `references.jsonl`
    (references only, which are right). A score that was not finite is minus infinity.
    """
    scores: dict[str, tuple[list[float], list[float]]] = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            unit = RunFolder(run_folder).unit("evaluate", seed, model)
            path = unit.folder / file
            if unit in left_out or not path.exists():
                continue
            right, wrong = scores.setdefault(model, ([], []))
            for line, value in iter_json_lines(path):
                where = f"{path}:{line}"
                is_positive = require({"is_positive": True, **value}, "is_positive", bool, where)
                side = right if is_positive else wrong
                score = require(value, "score", _NUMBER, where)
                side.append(-math.inf if score is None else float(score))  # null: not finite
    return scores


def read_curves(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int], left_out: Collection[Unit] = ()
) -> Curves:
    """Model -> a measure of `LOGGED` -> seed -> {step: value} as training logged it, where it did.

    A log of scores without a value, as of steps without a pair, is nan where the measure has others.
    """
    curves: Curves = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            logs = [
                entry for entry in _log(run_folder, model, seed, left_out) if "step" in entry and _of_training(entry)
            ]
            for measure in LOGGED:
                if any(measure.log in entry for entry in logs):
                    points = {int(entry["step"]): float(entry.get(measure.log, math.nan)) for entry in logs}
                    curves.setdefault(model, {}).setdefault(measure.name, {})[seed] = points
    return curves


def _of_training(entry: Mapping[str, Any]) -> bool:
    """True for a log of training steps, false for one of an evaluation or of the whole training."""
    return "loss" in entry or any(measure.log in entry for measure in LOGGED)


def read_displacement(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int], left_out: Collection[Unit] = ()
) -> dict[str, dict[str, Any]]:
    """Model -> seed -> {a measure of `LOGGED`: its last logged value, "stopped": why training ended early or None}.

    The last log with a pair counts. Only where training has logged how far scores moved.
    """
    found: dict[str, dict[str, Any]] = {}
    seeds = list(seeds)
    drift = MEASURES["positive_drift"].log
    for model in models:
        for seed in seeds:
            logged = [entry for entry in _log(run_folder, model, seed, left_out) if drift in entry]
            if logged:
                manifest = read_json(_unit(run_folder, model, seed).manifest) or {}
                last = {m.name: float(logged[-1][m.log]) for m in LOGGED if m.log in logged[-1]}
                found.setdefault(model, {})[str(seed)] = {**last, "stopped": manifest.get("stopped")}
    return found


def _unit(run_folder: Path, model: str, seed: int) -> Unit:
    return RunFolder(run_folder).unit("align", seed, model)


def _log(run_folder: Path, model: str, seed: int, left_out: Collection[Unit]) -> list[dict[str, Any]]:
    unit = _unit(run_folder, model, seed)
    state = None if unit in left_out else read_json(unit.folder / TRAINER_STATE)
    log: list[dict[str, Any]] = (state or {}).get("log_history", [])
    return log


def _finite(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None
