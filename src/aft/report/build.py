"""A run folder -> one dictionary of results, written as report.json, .md, .csv and .html, and two pictures.

Every number keeps its spread: mean ± sample standard deviation over seeds, or, with one seed, its interval over
questions. What is absent from the folder is listed under `missing`.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import AftError, DataError
from ..json_files import read_json, write_json, write_text
from ..run.folder import (
    ASSESSMENT,
    BASE,
    COMPLETIONS,
    COUNTS,
    EVERY_SEED,
    FROM_PREFIX,
    GROUPS,
    METRICS,
    POOL,
    REFERENCES,
    STAGES,
    TRAINER_STATE,
    VALIDATE,
    VFT,
    RunFolder,
    Unit,
    count_rounds,
    method_round,
)
from ..run.integrity import Integrity
from ..run.manifest import digest_checkpoint, read_manifest
from ..stats.comparison import every_pair, paired_by_seed
from ..stats.estimate import Estimate, to_json
from . import canvas
from .calibration_picture import draw_calibration
from .csv_file import csv_report
from .html_page import html_page
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
    scores_present_pool,
    stage_times,
)
from .rounds import read_rounds, trained_names, was_stopped
from .rounds_picture import draw_rounds

__all__ = ["build_report", "write_html", "write_report"]

_CHAINS = {GROUPS: "training questions", POOL: "held-out questions"}  # read for the page's questions alone


def write_report(run_folder: Path, *, picture: bool = True) -> list[Path]:
    """Write report.json, .md, .csv and .html and, where matplotlib is installed, the pictures into the run folder."""
    run = RunFolder(run_folder)
    report, left_out = _build(run.path, compare=True)
    note = canvas.missing_library() if picture else "No picture was asked for."
    written = [run.report(ending) for ending in ("json", "md", "csv", "html")]
    files = {} if note else {"png": run.report("png"), "calibration": run.calibration, "rounds": run.rounds_picture}
    vectors = {} if note else _draw(run, report, left_out, files)
    report["picture"] = {
        "file": None if note else run.report("png").name,
        "calibration": run.calibration.name if "calibration" in vectors else None,
        **({"rounds": run.rounds_picture.name} if "rounds" in vectors else {}),
        "note": note,
    }
    # all are made before one is written: a file that cannot be used leaves the report as it was
    page = html_page(report, read_config(run.path), run.path, vectors, list(left_out))
    texts = (markdown_page(report), csv_report(report), page)
    write_json(written[0], to_json(report))
    for path, text in zip(written[1:], texts, strict=True):
        write_text(path, text)
    return [*written, *(files[key] for key in vectors)]


def write_html(run_folder: Path, *, picture: bool = True, everything: bool = False) -> Path:
    """Write report.html alone. `everything`: with every question, however large the page becomes."""
    run = RunFolder(run_folder)
    report, left_out = _build(run.path, compare=False)
    note = canvas.missing_library() if picture else "No picture was asked for."
    report["picture"] = {"note": note}
    vectors = {} if note else _draw(run, report, left_out, {})
    page = html_page(report, read_config(run.path), run.path, vectors, list(left_out), everything=everything)
    write_text(run.report("html"), page)
    return run.report("html")


def _draw(
    run: RunFolder, report: dict[str, Any], left_out: Collection[Unit], files: Mapping[str, Path]
) -> dict[str, str]:
    """Draws the pictures into `files`, where their key is there. Returns them as SVG."""
    vectors = dict[str, str]()
    names, seeds = [model["name"] for model in report["models"]], report["seeds"]
    pool = read_scores(run.path, names, seeds, left_out=left_out)
    curves = read_curves(run.path, names, seeds, left_out)
    draw_report(report, pool, curves, files.get("png"), lambda svg: vectors.update(png=svg))
    if report["rounds"]:
        draw_rounds(report["rounds"], files.get("rounds"), lambda svg: vectors.update(rounds=svg))
    own = read_scores(run.path, names, seeds, ASSESSMENT, left_out)
    references = read_scores(run.path, names, seeds, REFERENCES, left_out)
    if any(right or wrong for scores in (own, references, pool) for right, wrong in scores.values()):
        right_references = {name: right for name, (right, _) in references.items()}
        draw_calibration(
            *(names, own, right_references, pool, files.get("calibration")),
            lambda svg: vectors.update(calibration=svg),
        )
    return vectors


def build_report(run_folder: Path, *, compare: bool = True) -> dict[str, Any]:
    """The results of a run, with an `Estimate` for each measure of a model; `to_json` makes report.json of it.

    No evaluation at all raises `AftError` with the command that makes one. A file that is read and is not what its
    manifest says raises `DataError`, if the configuration has its unit. Other damaged units are left out: `missing`
    names them.

    `compare`: compare every two models, which takes long if there are many; otherwise `pairs` is empty.
    """
    return _build(Path(run_folder), compare=compare)[0]


def _build(run_folder: Path, *, compare: bool) -> tuple[dict[str, Any], Collection[Unit]]:
    """The report, and the damaged units that it leaves out."""
    run = RunFolder(run_folder)
    if not run_folder.is_dir():
        raise AftError(f"{run_folder}: no such run folder")
    config = read_config(run_folder)
    left_out = _check_files(run, config)
    metrics = read_metrics(run_folder, left_out)
    if not metrics:
        raise AftError(
            f"{run_folder}: no evaluation to report (looked for {EVERY_SEED}/evaluate/*/{METRICS}); make one with: "
            f"aft-train --config {shlex.quote(str(run.config))} --stage evaluate"
        )
    seeds = _seeds(run, config, metrics)
    names = _model_names(config, metrics, run)
    values = {
        measure.name: {name: read_values(run_folder, name, metrics.get(name, {}), measure.name) for name in names}
        for measure in COMPARED
    }
    models = [
        _model_entry(name, metrics.get(name, {}), values["task_accuracy"], _expected(run, name, seeds))
        for name in names
    ]
    labelled = [seed for seed in seeds if run.unit("label", seed) not in left_out]
    counts = {str(seed): read_json(run.counts(seed)) for seed in labelled}
    environment = read_json(run.environment)
    splits = sorted({entry["split"] for by_seed in metrics.values() for entry in by_seed.values()})
    report = {
        "run": run_folder.resolve().name,
        "seeds": seeds,
        "splits": splits,
        "models": models,
        "with_loss": _with_loss(config),
        "pairs": every_pair(names, values) if compare else [],
        "labelled": {seed: value for seed, value in counts.items() if value is not None},
        "rounds": read_rounds(run, config, metrics, seeds, left_out),
        "displacement": read_displacement(run_folder, names, seeds, left_out),
        "stages": stage_times(run_folder, names, left_out),
        "environment": environment,
        "manifests": model_manifests(run_folder, names, seeds, left_out),
        "missing": [
            *([] if config is not None else [f"{run.config.name}: absent; models stand in alphabetical order"]),
            *_tell_left_out(run, left_out),
            *_missing_evaluations(models),
            *_outdated(run, metrics, left_out),
            *_missing_measures(models),
            *(f"{run.within(run.counts(int(seed)))}: absent" for seed, value in counts.items() if value is None),
            *_missing_chains(run, labelled),
            *([] if environment is not None else [f"{run.environment.name}: absent; versions are unknown"]),
        ],
    }
    return report, left_out


def _with_loss(config: dict[str, Any] | None) -> list[str]:
    """The methods that have an alignment loss. The others are what they are compared with: RFT, more of VFT."""
    config = config or {}
    default, methods = (config.get("align") or {}).get("loss", ...), config.get("methods") or {}
    return [
        name
        for name in trained_names(config)
        if (methods[method_round(name)[0]] or {}).get("loss", default) is not None
    ]


def _check_files(run: RunFolder, config: dict[str, Any] | None) -> dict[Unit, list[str]]:
    """Compares the files that the report reads with the manifests of their units.

    Raises `DataError` for damaged units of the configuration, and for all if there is none. Returns the other damaged
    units, with what is wrong: no command makes these again.
    """
    read: dict[str, Sequence[str] | None]
    read = {"label": (COUNTS, *_CHAINS), "align": (TRAINER_STATE,), "evaluate": None}
    if config and count_rounds(config.get("rounds")) > 1:
        read |= {"sample": (COMPLETIONS, FROM_PREFIX), VALIDATE: None}
    integrity, wrong, left_out = Integrity(), dict[Unit, list[str]](), dict[Unit, list[str]]()
    for unit in run.units():
        is_configured = not config or _is_configured(unit, config)
        if is_configured and unit.stage not in read:
            continue
        names = read.get(unit.stage, ())
        if names is not None:  # without its chains a run still has every number
            names = [name for name in names if name not in _CHAINS or (unit.folder / name).exists()]
        if damages := integrity.damages(unit, names):
            (wrong if is_configured else left_out)[unit] = damages
    if wrong:
        lines = [f"{unit}: {unit.folder}/{line}" for unit, damages in wrong.items() for line in damages]
        raise DataError("\n".join([*lines, _how_to_go_on(run, config, list(wrong))]))
    return left_out


def _is_configured(unit: Unit, config: dict[str, Any]) -> bool:
    seeds = config.get("seeds")
    if unit.seed is not None and isinstance(seeds, list) and unit.seed not in seeds:
        return False
    if unit.stage == "evaluate":
        return unit.name in _model_names(config, {})
    return unit.name is None or "methods" not in config or unit.name in trained_names(config)


def _how_to_go_on(run: RunFolder, config: dict[str, Any] | None, units: Sequence[Unit]) -> str:
    if not config:
        return "To go on, put the files back, or move the folder of each damaged unit away"
    stages, command = config.get("stages"), f"aft-train --config {shlex.quote(str(run.config))}"
    alone = [s for s in STAGES if isinstance(stages, list) and s not in stages and any(u.stage == s for u in units)]
    commands = [f"{command} --stage {stage} --repair" for stage in alone]
    if any(unit.stage not in alone for unit in units):
        commands.append(f"{command} --repair")
    return f"To go on, put the files back, or run {' and '.join(commands)}: what is damaged is then made again"


def _tell_left_out(run: RunFolder, left_out: Mapping[Unit, Sequence[str]]) -> list[str]:
    return [
        f"{unit}: left out, as it is damaged and {run.config.name} does not have it: {run.within(unit.folder)}/{line}"
        for unit, damages in left_out.items()
        for line in damages
    ]


def _seeds(run: RunFolder, config: dict[str, Any] | None, metrics: Mapping[str, Mapping[int, Any]]) -> list[int]:
    """The seeds that the configuration lists, else those that have a folder; and every evaluated seed."""
    listed = (config or {}).get("seeds")
    found = {seed for by_seed in metrics.values() for seed in by_seed}
    if isinstance(listed, list) and all(isinstance(seed, int) for seed in listed):
        return sorted({*listed, *found})
    return sorted({*run.seeds(), *found})


def _expected(run: RunFolder, name: str, seeds: list[int]) -> list[int]:
    """The seeds that a model should have: not those whose rounds stopped before it."""
    return [seed for seed in seeds if not was_stopped(run, name, seed)]


def _model_names(config: dict[str, Any] | None, metrics: Mapping[str, Any], run: RunFolder | None = None) -> list[str]:
    """Expected and found models: `evaluate.models` if it is a list, else base, vft and `methods` in their order.

    Rounds follow their method. With `run`, stopped ones are not expected. A model that no stage of the
    run trains is listed only if it was evaluated.
    """
    config = config or {}
    section = config.get("evaluate")
    listed = section.get("models") if isinstance(section, dict) else None
    if isinstance(listed, list):
        expected = [str(name) for name in listed]
    elif config:
        makers = {VFT: "vft", **dict.fromkeys(trained_names(config, run), "align")}
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


def _outdated(run: RunFolder, metrics: Mapping[str, Mapping[int, Any]], left_out: Collection[Unit]) -> list[str]:
    """A line for each model that was trained again after its evaluation, or that scored another pool than there is.

    The evaluated weights, or the scored chains, are gone.
    """
    lines = []
    for name, by_seed in metrics.items():
        for seed in by_seed:
            if run.unit("label", seed) not in left_out and not scores_present_pool(run, seed, name):
                lines.append(f"{name}: outdated for seed {seed}: the pool was labelled again since it was evaluated")
        for seed in by_seed if name != BASE else ():
            maker = run.unit("vft", seed) if name == VFT else run.unit("align", seed, name)
            if maker in left_out:
                continue
            outputs = (read_json(maker.manifest) or {}).get("outputs", {})
            if not all((maker.folder / file).exists() for file in outputs):
                continue  # weights that were deleted to save space were not trained again
            evaluated = read_json(run.unit("evaluate", seed, name).manifest) or {}
            recorded = evaluated.get("inputs", {}).get("reads", {}).get("model")
            trained = digest_checkpoint(maker.folder)
            if None not in (trained, recorded) and recorded != trained:
                lines.append(f"{name}: outdated for seed {seed}: trained again since it was evaluated")
    return lines


def _missing_chains(run: RunFolder, seeds: Sequence[int]) -> list[str]:
    """A line for each file of chains that labelling wrote and that is gone, as in a folder that was thinned."""
    lines = []
    for unit in (run.unit("label", seed) for seed in seeds):
        outputs = (read_manifest(unit.manifest) or {}).get("outputs", {})
        for name, questions in _CHAINS.items():
            if name in outputs and not (unit.folder / name).exists():
                lines.append(f"{run.within(unit.folder / name)}: absent; report.html has no {questions} of this seed")
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
