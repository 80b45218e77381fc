"""What a run and its units are called in the trackers of `training.report_to`, and what they get after evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import align_config
from ..errors import AftError
from ..json_files import read_json, write_json
from ..run.digest import digest_file
from ..run.folder import VFT
from .plan import Plan, Unit

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from ..training.trackers import TrackedRun, Trackers

# arguments of trackio -> the keys of TrainingArguments that hold them
_OF_TRACKIO = {"space_id": "trackio_space_id", "bucket_id": "trackio_bucket_id", "private": "hub_private_repo"}
_REPORTED = ".tracked-report.json"  # which report the trackers have


def track(plan: Plan, unit: Unit, arguments: TrainingArguments) -> Trackers:
    """Returns the callback that tells the trackers of `report_to` about a unit's training.

    Names the run in `arguments`, and takes `report_to` from it, so that transformers makes no callbacks of its own.
    """
    from ..training.trackers import Trackers

    names, training = list(arguments.report_to), plan.training(_section(plan, unit))
    run = _tracked(plan, unit, training)
    arguments.report_to, arguments.run_name, arguments.project = [], run.name, run.project
    return Trackers(names, run)


def _section(plan: Plan, unit: Unit) -> dict[str, Any]:
    if unit.stage == "align":
        return align_config(plan.config, unit.name or "").training
    found: dict[str, Any] = getattr(plan.config, unit.stage).training
    return found


def _tracked(plan: Plan, unit: Unit, training: Mapping[str, Any]) -> TrackedRun:
    inputs = plan.inputs(unit) or {}
    settings = {"stage": unit.stage, "model": unit.name, "seed": unit.seed, **inputs.get("config", {})}
    return _named(plan, plan.run.within(unit.folder), unit.folder, training, settings)


def _named(plan: Plan, place: str, folder: Path, training: Mapping[str, Any], settings: dict[str, Any]) -> TrackedRun:
    """`place`: of a unit in the run's folder. It ends the name, so that no two units have the same."""
    from ..training.trackers import TrackedRun, project_name

    group = plan.folder.resolve().name
    return TrackedRun(
        f"{training.get('run_name') or group}/{place}",
        project_name(training.get("project") or group),
        group,
        folder,
        plan.folder,
        settings,
        {argument: training[key] for argument, key in _OF_TRACKIO.items() if training.get(key) is not None},
    )


def find_trackers(plan: Plan) -> list[str]:
    """Returns the names of all trackers of the run's trainings."""
    sections = [getattr(plan.config, stage).training for stage in ("pretrain", "vft") if stage in plan.config.stages]
    sections += [align_config(plan.config, method).training for method in plan.config.methods]
    return list(dict.fromkeys(name for section in sections for name in _names(plan.training(section))))


def add_report(
    plan: Plan,
    names: Sequence[str],
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    figures: Mapping[str, float],
    by_model: Mapping[tuple[str, int], Mapping[str, float]],
) -> None:
    """Adds the report to a run of its own in each tracker, and each model's figures to the run of its training.

    `table`: headings and rows of text. `figures`: of all models, over seeds. `by_model`: the figures of a model and a
    seed. A tracker that has this report already is left out.
    """
    from ..training.trackers import IDENTITY, Findings, add_findings

    found, done = _digest(plan), _read(plan.folder / _REPORTED)
    names = [name for name in names if done.get(name) != found]
    if not names:
        return
    failed: set[str] = set()
    for (model, seed), measured in by_model.items():
        unit = plan.run.unit("vft", seed) if model == VFT else plan.run.unit("align", seed, model)
        if (unit.folder / IDENTITY).exists():
            training = plan.training(_section(plan, unit))
            own = [name for name in _names(training) if name in names and name not in failed]
            final = {f"final/{measure}": value for measure, value in measured.items()}
            failed.update(add_findings(own, _tracked(plan, unit, training), Findings(final)))
    whole = _named(plan, "report", plan.folder, plan.config.training, {})
    pictures = [path for path in (plan.run.report("png"), plan.run.calibration) if path.exists()]
    files = [path for path in map(plan.run.report, ("md", "json", "csv")) if path.exists()]
    left = [name for name in names if name not in failed]
    failed.update(add_findings(left, whole, Findings(figures, *table, pictures, files)))
    write_json(plan.folder / _REPORTED, {**done, **{name: found for name in names if name not in failed}})


def _digest(plan: Plan) -> str:
    return digest_file(plan.run.report("csv"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path) or {})
    except (AftError, TypeError, ValueError):
        return {}


def _names(training: Mapping[str, Any]) -> list[str]:
    """The trackers of TrainingArguments. `all` means those that are installed."""
    asked = training.get("report_to") or "none"
    names = [asked] if isinstance(asked, str) else [str(name) for name in asked]
    if names == ["all"]:
        from transformers.integrations import get_available_reporting_integrations

        names = get_available_reporting_integrations()
    return [name for name in names if name != "none"]
