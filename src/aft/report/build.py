"""A run folder -> one dictionary of results, written as report.json, report.md, report.csv and two pictures.

Every number keeps its spread: mean ± sample standard deviation over seeds, or, with one seed, its interval over
questions. What is absent from the folder is listed under `missing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import AftError, DataError
from ..json_files import read_json, write_json, write_text
from ..run.folder import ASSESSMENT, BASE, COUNTS, EVERY_SEED, METRICS, REFERENCES, TRAINER_STATE, VFT, RunFolder
from ..run.integrity import Integrity
from ..run.manifest import digest_checkpoint
from ..stats.comparison import every_pair, paired_by_seed
from ..stats.estimate import Estimate, to_json
from . import canvas
from .calibration_picture import draw_calibration
from .csv_file import csv_text
from .measures import COMPARED, FAMILIES, MEASURED, has_pool
from .overview_picture import draw_report
from .page import markdown_page
from .read import (
    model_manifests,
    read_config,
    read_curves,
    read_displacement,
    read_metrics,
    read_scores,
    read_values,
    stage_times,
)

__all__ = ["build_report", "write_report"]


def write_report(run_folder: Path, *, picture: bool = True) -> list[Path]:
    """Write report.json, report.md, report.csv and, where matplotlib is installed, the pictures into the run folder."""
    run = RunFolder(run_folder)
    report = build_report(run.path)
    note = canvas.missing_library() if picture else "No picture was asked for."
    written = [run.report(ending) for ending in ("json", "md", "csv")]
    pictures = [] if note else _draw(run, report)
    report["picture"] = {
        "file": None if note else run.report("png").name,
        "calibration": run.calibration.name if len(pictures) > 1 else None,
        "note": note,
    }
    write_json(written[0], to_json(report))
    write_text(written[1], markdown_page(report))
    write_text(written[2], csv_text(report))
    return [*written, *pictures]


def _draw(run: RunFolder, report: dict[str, Any]) -> list[Path]:
    names, seeds = [model["name"] for model in report["models"]], report["seeds"]
    pool = read_scores(run.path, names, seeds)
    drawn = [run.report("png")]
    draw_report(report, pool, read_curves(run.path, names, seeds), drawn[0])
    own = read_scores(run.path, names, seeds, ASSESSMENT)
    references = read_scores(run.path, names, seeds, REFERENCES)
    if any(right or wrong for scores in (own, references, pool) for right, wrong in scores.values()):
        drawn.append(run.calibration)
        draw_calibration(names, own, {name: right for name, (right, _) in references.items()}, pool, drawn[-1])
    return drawn


def build_report(run_folder: Path, *, compare: bool = True) -> dict[str, Any]:
    """The results of a run, with an `Estimate` for each measure of a model; `to_json` makes report.json of it.

    No evaluation at all raises `AftError` with the command that makes one. A file that is read and is not what its
    manifest says raises `DataError`.

    `compare`: compare every two models, which takes long if there are many; otherwise `pairs` is empty.
    """
    run_folder = Path(run_folder)
    run = RunFolder(run_folder)
    if not run_folder.is_dir():
        raise AftError(f"{run_folder}: no such run folder")
    _check_files(run)
    config = read_config(run_folder)
    metrics = read_metrics(run_folder)
    if not metrics:
        raise AftError(
            f"{run_folder}: no evaluation to report (looked for {EVERY_SEED}/evaluate/*/{METRICS}); make one with: "
            f"aft-train --config {run.config} --stage evaluate"
        )
    seeds = _seeds(run, config, metrics)
    names = _model_names(config, metrics)
    values = {
        measure.name: {name: read_values(run_folder, name, metrics.get(name, {}), measure.name) for name in names}
        for measure in COMPARED
    }
    models = [_model_entry(name, metrics.get(name, {}), values["task_accuracy"], seeds) for name in names]
    counts = {str(seed): read_json(run.counts(seed)) for seed in seeds}
    environment = read_json(run.environment)
    splits = sorted({entry["split"] for by_seed in metrics.values() for entry in by_seed.values()})
    return {
        "run": run_folder.resolve().name,
        "seeds": seeds,
        "splits": splits,
        "models": models,
        "pairs": every_pair(names, values) if compare else [],
        "labelled": {seed: value for seed, value in counts.items() if value is not None},
        "displacement": read_displacement(run_folder, names, seeds),
        "stages": stage_times(run_folder, names),
        "environment": environment,
        "manifests": model_manifests(run_folder, names, seeds),
        "missing": [
            *([] if config is not None else [f"{run.config.name}: absent; models stand in alphabetical order"]),
            *_missing_evaluations(models),
            *_outdated(run, metrics),
            *_missing_measures(models),
            *(f"{run.within(run.counts(int(seed)))}: absent" for seed, value in counts.items() if value is None),
            *([] if environment is not None else [f"{run.environment.name}: absent; versions are unknown"]),
        ],
    }


def _check_files(run: RunFolder) -> None:
    """Raises `DataError` if a file that the report reads is not what the manifest of its unit says."""
    read = {"label": (COUNTS,), "align": (TRAINER_STATE,), "evaluate": None}
    integrity = Integrity()
    found = {unit: integrity.damages(unit, read[unit.stage]) for unit in run.units(*read)}
    lines = [f"{unit}: {unit.folder}/{line}" for unit, damages in found.items() for line in damages]
    if lines:
        command = f"aft-train --config {run.config} --repair"
        how = f"To go on, put the files back, or run {command}: it makes what is damaged again"
        raise DataError("\n".join([*lines, how]))


def _seeds(run: RunFolder, config: dict[str, Any] | None, metrics: Mapping[str, Mapping[int, Any]]) -> list[int]:
    """The seeds that the configuration lists, else those that have a folder; and every evaluated seed."""
    listed = (config or {}).get("seeds")
    found = {seed for by_seed in metrics.values() for seed in by_seed}
    if isinstance(listed, list) and all(isinstance(seed, int) for seed in listed):
        return sorted({*listed, *found})
    return sorted({*run.seeds(), *found})


def _model_names(config: dict[str, Any] | None, metrics: Mapping[str, Any]) -> list[str]:
    """Expected and found models: `evaluate.models` if it is a list, else base, vft and `methods` in their order.

    A model that no stage of the run trains is listed only if it was evaluated.
    """
    config = config or {}
    section = config.get("evaluate")
    listed = section.get("models") if isinstance(section, dict) else None
    if isinstance(listed, list):
        expected = [str(name) for name in listed]
    elif config:
        makers = {VFT: "vft", **dict.fromkeys(map(str, config.get("methods") or []), "align")}
        stages = config.get("stages")
        trained = [name for name, stage in makers.items() if not isinstance(stages, list) or stage in stages]
        expected = [BASE, *(name for name in makers if name in trained or name in metrics)]
    else:
        expected = []
    return list(dict.fromkeys([*expected, *sorted(metrics)]))


def _model_entry(
    name: str,
    by_seed: dict[int, dict[str, Any]],
    predictions: Mapping[str, dict[int, dict[str, float]]],
    seeds: list[int],
) -> dict[str, Any]:
    checkpoints = sorted({entry["checkpoint"] for entry in by_seed.values()})
    entry: dict[str, Any] = {
        "name": name,
        "seeds": sorted(by_seed),
        "missing_seeds": [seed for seed in seeds if seed not in by_seed],
        "checkpoints": checkpoints,
    }
    single = len(checkpoints) == 1
    for measure in MEASURED:
        found = {seed: value[measure.name] for seed, value in sorted(by_seed.items()) if value[measure.name]}
        entry[measure.name] = Estimate.over_seeds(found, one_checkpoint=single)
    for family in FAMILIES:
        of_family = {seed: value[family.name] for seed, value in sorted(by_seed.items())}
        entry[family.name] = {}
        for member in dict.fromkeys(member for value in by_seed.values() for member in value[family.name]):
            found = {seed: members[member] for seed, members in of_family.items() if member in members}
            entry[family.name][member] = Estimate.over_seeds(found, one_checkpoint=single)
    entry["assessment"] = {str(seed): value["assessment"] for seed, value in sorted(by_seed.items())}
    entry["vs_vft"] = None if name == VFT else _versus(predictions[name], predictions.get(VFT, {}))
    return entry


def _versus(own: dict[int, dict[str, float]], vft: dict[int, dict[str, float]]) -> dict[str, Any] | None:
    """`paired_by_seed` in task accuracy to VFT, its counts named after the two sides."""
    found = paired_by_seed(own, vft)
    if found is None:
        return None
    renamed = {"a_higher": "only_this_right", "b_higher": "only_vft_right"}
    return {renamed.get(key, key): value for key, value in found.items()}


def _missing_evaluations(models: list[dict[str, Any]]) -> list[str]:
    lines = []
    for model in models:
        if not model["seeds"]:
            lines.append(f"{model['name']}: not evaluated on any seed")
        elif model["missing_seeds"]:
            lines.append(f"{model['name']}: not evaluated for seed {', '.join(map(str, model['missing_seeds']))}")
    return lines


def _outdated(run: RunFolder, metrics: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """A line for each model that was trained again after its evaluation: the evaluated weights are gone."""
    lines = []
    for name, by_seed in metrics.items():
        for seed in by_seed if name != BASE else ():
            evaluated = read_json(run.unit("evaluate", seed, name).manifest) or {}
            recorded = evaluated.get("inputs", {}).get("reads", {}).get("model")
            trained = digest_checkpoint(run.checkpoint(name, seed))
            if None not in (trained, recorded) and recorded != trained:
                lines.append(f"{name}: outdated for seed {seed}: trained again since it was evaluated")
    return lines


def _missing_measures(models: list[dict[str, Any]]) -> list[str]:
    evaluated = [model for model in models if model["seeds"]]
    lines = []
    for measure in MEASURED if has_pool(evaluated) else [measure for measure in MEASURED if not measure.of_pool]:
        absent = {}
        for model in evaluated:
            by_seed = model[measure.name].by_seed if model[measure.name] else {}
            seeds = [seed for seed in model["seeds"] if seed not in by_seed or not by_seed[seed].is_measured]
            if seeds:
                whole = len(seeds) == len(model["seeds"])
                absent[model["name"]] = "" if whole else f" (seed {', '.join(map(str, seeds))})"
        everywhere = len(absent) == len(evaluated) and not any(absent.values())
        if absent and not (everywhere and measure.optional):
            who = "any model" if everywhere else ", ".join(name + seeds for name, seeds in absent.items())
            lines.append(f"{measure.name.replace('_', ' ')}: not measured for {who}")
    unpaired = [model["name"] for model in evaluated if model["name"] != VFT and model["vs_vft"] is None]
    if unpaired and any(model["name"] == VFT for model in models):
        lines.append(f"difference from VFT: no predictions.jsonl on common questions for {', '.join(unpaired)}")
    return lines
