"""What a run folder holds, read for the report: metrics, predictions, pool scores, training curves, times.

An absent file is None or an absent entry; a file that is there but cannot be used raises `DataError` or `ConfigError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, DataError
from ..json_files import iter_json_lines, require
from ..run.digest import digest_file
from ..run.manifest import MANIFEST
from ..stats.estimate import Estimate
from ..stats.intervals import interval_from_sd
from .measures import FAMILIES, LOGGED, MEASURED, MEASURES

_NUMBER = (int, float, type(None))
_BESIDE = ("correct", "unparsed", "truncated", "skipped")  # keys of metrics.json that `Estimate.beside` keeps

Curves = dict[str, dict[str, dict[int, dict[int, float]]]]


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None where the file is absent; anything else raises `DataError`."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_config(path: Path) -> dict[str, Any] | None:
    """The mapping of a YAML file, None where the file is absent; anything else raises `ConfigError`."""
    if not path.exists():
        return None
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(value).__name__}")
    return value


def read_metrics(run_folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Model -> seed -> {measure: `Estimate` or None, "checkpoint", "split", families}.

    A family is a mapping of estimates: `vote` and `pass` by number of paths, `categories` by name; empty if absent.
    """
    metrics: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(run_folder.glob("seed-*/evaluate/*/metrics.json")):
        seed = re.fullmatch(r"seed-(\d+)", path.parents[2].name)
        if seed:
            metrics.setdefault(path.parent.name, {})[int(seed[1])] = _read_one(path)
    return metrics


def model_manifests(run_folder: Path, models: Iterable[str], seeds: Iterable[int]) -> dict[str, str]:
    """Path within the run folder -> digest of the manifest of each model's alignment and evaluation, where it is there.

    That of an evaluation holds its inputs, the digest of the model among them; that of an alignment its last log.
    """
    units = [f"{stage}/{model}" for model in models for stage in ("align", "evaluate")]
    paths = [run_folder / f"seed-{seed}" / unit / MANIFEST for seed in seeds for unit in units]
    return {path.relative_to(run_folder).as_posix(): digest_file(path) for path in paths if path.exists()}


def _read_one(path: Path) -> dict[str, Any]:
    raw = read_object(path) or {}
    entry: dict[str, Any] = {
        "split": require(raw, "split", str, str(path)),
        "checkpoint": require(raw, "checkpoint", str, str(path)),
    }
    for measure in MEASURED:
        found, where = _section(raw, measure.path, str(path), optional=measure.optional)
        entry[measure.name] = None if found is None else _estimate(found, where)
    for family in FAMILIES:
        found, where = _section(raw, family.path, str(path), optional=True)
        members = {name: require(found or {}, name, dict, where) for name in found or {}}
        entry[family.name] = {name: _estimate(member, f"{where}: {name}") for name, member in members.items()}
    entry["assessment"] = _section(raw, ("assessment",), str(path), optional=True)[0]
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
        low, high = interval_from_sd(mean, sd, n)
        return Estimate(mean, low=low, high=high, n=n, beside={"sd_over_chains": sd})
    value, low, high = (require(raw, key, _NUMBER, where) for key in ("value", "low", "high"))
    beside = {key: raw[key] for key in _BESIDE if key in raw}
    if raw.get("infinite") or (value is not None and not math.isfinite(value)):
        # JSON has no infinity, so that the mean is None and `infinite` counts the chains
        return Estimate(None, n=n, beside={**beside, "infinite": raw.get("infinite") or 1})
    return Estimate(value, low=low, high=high, n=n, beside=beside)


def read_report(path: Path) -> dict[str, Any]:
    """report.json as `build_report` makes a report, with an `Estimate` for each measure of a model."""
    report = read_object(path)
    if report is None:
        raise DataError(f"{path}: no such file; aft-report RUN writes it")
    for model in report["models"]:
        for measure in MEASURED:
            found = model.get(measure.name)
            model[measure.name] = None if found is None else Estimate.from_json(found)
        for family in FAMILIES:
            members = model.get(family.name) or {}
            model[family.name] = {name: found and Estimate.from_json(found) for name, found in members.items()}
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
        path = run_folder / f"seed-{seed}" / "evaluate" / model / name
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


def stage_times(run_folder: Path, models: list[str]) -> list[dict[str, Any]]:
    """Per stage (`vft`, `align/rft`, ...), in order: seconds of each of its runs, and their largest peak memory."""
    order = {name: position for position, name in enumerate(("base", "vft", "sample", "label", "align", "evaluate"))}
    stages: dict[str, dict[str, Any]] = {}
    for depth in ("*", "*/*", "*/*/*"):
        for path in sorted(run_folder.glob(f"{depth}/manifest.json")):
            unit = path.parent.relative_to(run_folder).parts
            parts = unit[1:] if re.fullmatch(r"seed-\d+", unit[0]) else unit
            if not parts or parts[0] not in order:
                continue
            name = "/".join(parts)
            stage = stages.setdefault(name, {"stage": name, "seconds": {}, "peak_memory_bytes": None})
            manifest = read_object(path) or {}
            stage["seconds"]["/".join(unit)] = _finite(manifest.get("seconds"))
            peaks = [_finite(manifest.get("peak_memory_bytes")), stage["peak_memory_bytes"]]
            stage["peak_memory_bytes"] = max((peak for peak in peaks if peak is not None), default=None)

    def position(stage: dict[str, Any]) -> tuple[int, int]:
        kind, _, model = stage["stage"].partition("/")
        return order[kind], models.index(model) if model in models else len(models)

    return sorted(stages.values(), key=position)


def read_scores(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int], file: str = "pool.jsonl"
) -> dict[str, tuple[list[float], list[float]]]:
    """Model -> (scores of right chains, of wrong chains), all seeds together; nats per token.

    `file` is `pool.jsonl` (the fixed pool), `assessment.jsonl` (chains of the model's own) or `references.jsonl`
    (references only, which are right). A score that was not finite is minus infinity.
    """
    scores: dict[str, tuple[list[float], list[float]]] = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            path = Path(run_folder) / f"seed-{seed}" / "evaluate" / model / file
            if not path.exists():
                continue
            right, wrong = scores.setdefault(model, ([], []))
            for line, value in iter_json_lines(path):
                where = f"{path}:{line}"
                is_positive = require({"is_positive": True, **value}, "is_positive", bool, where)
                side = right if is_positive else wrong
                score = require(value, "score", _NUMBER, where)
                side.append(-math.inf if score is None else float(score))  # null: not finite
    return scores


def read_curves(run_folder: Path, models: Iterable[str], seeds: Iterable[int]) -> Curves:
    """Model -> a measure of `LOGGED` -> seed -> {step: value} as training logged it, where it did."""
    curves: Curves = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            for entry in _log(run_folder, model, seed):
                for measure in LOGGED:
                    if measure.log in entry and "step" in entry:
                        by_seed = curves.setdefault(model, {}).setdefault(measure.name, {})
                        by_seed.setdefault(seed, {})[int(entry["step"])] = float(entry[measure.log])
    return curves


def read_displacement(run_folder: Path, models: Iterable[str], seeds: Iterable[int]) -> dict[str, dict[str, Any]]:
    """Model -> seed -> {a measure of `LOGGED`: its last logged value, "stopped": why training ended early or None}.

    Only where training has logged how far scores moved.
    """
    found: dict[str, dict[str, Any]] = {}
    seeds = list(seeds)
    drift = MEASURES["positive_drift"].log
    for model in models:
        for seed in seeds:
            logged = [entry for entry in _log(run_folder, model, seed) if drift in entry]
            if logged:
                manifest = read_object(_folder(run_folder, model, seed) / "manifest.json") or {}
                last = {m.name: float(logged[-1][m.log]) for m in LOGGED if m.log in logged[-1]}
                found.setdefault(model, {})[str(seed)] = {**last, "stopped": manifest.get("stopped")}
    return found


def _folder(run_folder: Path, model: str, seed: int) -> Path:
    return Path(run_folder) / f"seed-{seed}" / "align" / model


def _log(run_folder: Path, model: str, seed: int) -> list[dict[str, Any]]:
    state = read_object(_folder(run_folder, model, seed) / "trainer_state.json")
    log: list[dict[str, Any]] = (state or {}).get("log_history", [])
    return log


def _finite(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None
