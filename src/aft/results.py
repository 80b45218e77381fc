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

from .errors import ConfigError, DataError
from .intervals import interval_from_sd
from .records import iter_json_lines, require

# where a measure stands in metrics.json; the last key of a pool score is its mean
MEASURES = {
    "task_accuracy": ("task_accuracy",),
    "assessment_accuracy": ("assessment_accuracy",),
    "pool_assessment_accuracy": ("pool", "assessment_accuracy"),
    "perplexity": ("perplexity",),
    "pool_positive": ("pool", "positive"),
    "pool_negative": ("pool", "negative"),
}
_NUMBER = (int, float, type(None))


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
    """Model -> seed -> {measure: {"value", "low", "high", "n", ...} or None, "checkpoint", "split"}."""
    metrics: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(run_folder.glob("seed-*/evaluate/*/metrics.json")):
        seed = re.fullmatch(r"seed-(\d+)", path.parents[2].name)
        if seed:
            metrics.setdefault(path.parent.name, {})[int(seed[1])] = _read_one(path)
    return metrics


def _read_one(path: Path) -> dict[str, Any]:
    raw = read_object(path) or {}
    entry: dict[str, Any] = {
        "split": require(raw, "split", str, str(path)),
        "checkpoint": require(raw, "checkpoint", str, str(path)),
    }
    for measure, keys in MEASURES.items():
        value: dict[str, Any] | None = raw
        where = str(path)
        for key in keys:
            value = None if value is None else require(value, key, (dict, type(None)), where)
            where = f"{where}: {key}"
        entry[measure] = None if value is None else _measurement(value, where)
    return entry


def _measurement(raw: dict[str, Any], where: str) -> dict[str, Any] | None:
    """One measure as {"value", "low", "high", "n", counts}; a pool score gets its interval from its mean, sd and n."""
    if "mean" in raw:
        mean, sd = require(raw, "mean", _NUMBER, where), require(raw, "sd", _NUMBER, where)
        n = require(raw, "n", int, where)
        low, high = interval_from_sd(mean, sd, n) if mean is not None else (None, None)
        return None if mean is None else {"value": mean, "low": low, "high": high, "n": n, "sd_over_chains": sd}
    measured: dict[str, Any] = {key: require(raw, key, _NUMBER, where) for key in ("value", "low", "high")}
    measured["n"] = require(raw, "n", int, where)
    measured.update({key: raw[key] for key in ("correct", "unparsed", "truncated", "skipped") if key in raw})
    return measured


def read_predictions(run_folder: Path, model: str, by_seed: Iterable[int]) -> dict[int, dict[str, bool]]:
    """Seed -> question id -> whether the model's answer is right, for evaluated seeds that kept their predictions."""
    predictions: dict[int, dict[str, bool]] = {}
    for seed in sorted(by_seed):
        path = run_folder / f"seed-{seed}" / "evaluate" / model / "predictions.jsonl"
        if not path.exists():
            continue
        answers = predictions.setdefault(seed, {})
        for line, value in iter_json_lines(path):
            question = require(value, "question_id", str, f"{path}:{line}")
            if question in answers:
                raise DataError(f"{path}:{line}: question '{question}' appears twice")
            answers[question] = require(value, "is_correct", bool, f"{path}:{line}")
    return predictions


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


def read_pool_scores(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int]
) -> dict[str, tuple[list[float], list[float]]]:
    """Model -> (scores of right chains, of wrong chains) on the fixed pool, all seeds together; nats per token."""
    scores: dict[str, tuple[list[float], list[float]]] = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            path = Path(run_folder) / f"seed-{seed}" / "evaluate" / model / "pool.jsonl"
            if not path.exists():
                continue
            right, wrong = scores.setdefault(model, ([], []))
            for line, value in iter_json_lines(path):
                where = f"{path}:{line}"
                side = right if require(value, "is_positive", bool, where) else wrong
                side.append(float(require(value, "score", (int, float), where)))
    return scores


def read_curves(
    run_folder: Path, models: Iterable[str], seeds: Iterable[int]
) -> dict[str, dict[str, dict[int, dict[int, float]]]]:
    """Model -> "positive" / "negative" -> seed -> {step: mean score} as training logged it, where it did."""
    curves: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    seeds = list(seeds)
    for model in models:
        for seed in seeds:
            state = read_object(Path(run_folder) / f"seed-{seed}" / "align" / model / "trainer_state.json")
            for entry in (state or {}).get("log_history", []):
                for side in ("positive", "negative"):
                    if f"scores/{side}" in entry and "step" in entry:
                        by_seed = curves.setdefault(model, {}).setdefault(side, {})
                        by_seed.setdefault(seed, {})[int(entry["step"])] = float(entry[f"scores/{side}"])
    return curves


def _finite(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None
