"""Whether a file that a stage reads has all that the stage before was asked for. Needs neither a model nor torch.

A file beside a manifest was written by a stage of this run: it must be complete. A file without a manifest was given.
It may be partial, but not empty, and a line says what it lacks. The readers have refused what occurs twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..progress import say
from ..records import Completion, Group, Question
from ..run.folder import Unit
from ..run.manifest import read_manifest
from .plan import Plan


def check_completions(plan: Plan, unit: Unit, completions: Sequence[Completion]) -> None:
    """Raises `DataError` unless every requested (question, index) is there.

    `unit`: the one that reads. What was requested stands in the manifest of the sample unit, otherwise in the
    configuration. Completions of other questions are left to labelling, which refuses them.
    """
    seed, maker = unit.seed or 0, plan.run.unit("sample", unit.seed, unit.name)
    count = _sampled(plan, unit).get("num_samples", plan.config.sample.num_samples)
    questions = plan.training_questions(seed) + plan.pool_of(unit)
    wanted = [(question.id, index) for question in questions for index in range(count)]
    keys = [(completion.question_id, completion.index) for completion in completions]
    strict = _is_of_same_questions(plan, maker, pool=maker.round == 1)
    _check(plan.completions(unit.seed, unit.name), unit, keys, wanted, "completion", strict=strict)


def check_groups(plan: Plan, unit: Unit, groups: Sequence[Group], questions: Sequence[Question], path: Path) -> None:
    """Raises `DataError` unless every question has a group. `unit`: the one that reads them from `path`."""
    is_pool = path == plan.pool(unit.seed)
    strict = _is_of_same_questions(plan, plan.run.unit_of(path) or unit, pool=is_pool)
    keys = [group.question_id for group in groups]
    _check(path, unit, keys, [question.id for question in questions], "group", strict=strict)


def _sampled(plan: Plan, unit: Unit) -> dict[str, Any]:
    """The section `sample` of the completions that a unit reads; empty without a manifest of the sampling."""
    manifest = read_manifest(plan.run.unit("sample", unit.seed, unit.name).manifest) or {}
    section: dict[str, Any] = manifest.get("inputs", {}).get("config", {}).get("sample", {})
    return section


def _is_of_same_questions(plan: Plan, maker: Unit, *, pool: bool) -> bool:
    """True if `maker` was finished for the questions, and with `pool` for the pool, that the configuration has now."""
    manifest = read_manifest(maker.manifest)
    if manifest is None or not plan.has_same_data(maker, manifest["inputs"]):
        return False
    return not pool or _sampled(plan, maker).get("pool_questions", 0) == plan.config.sample.pool_questions


def _check(
    path: Path, unit: Unit, found: Sequence[Hashable], wanted: Sequence[Hashable], kind: str, *, strict: bool
) -> None:
    """Compares the keys of a file's records with the wanted ones."""
    if wanted and not found:
        raise DataError(f"{unit}: {path} has no {kind}; {len(wanted):,} were asked for")
    there = set(found)
    missing = [key for key in wanted if key not in there]
    if not missing:
        return
    lacks = f"{path} lacks {len(missing):,} of {len(wanted):,} {kind}s, the first of {_name(missing[0])}"
    if strict:
        raise DataError(f"{unit}: {lacks}. Move the folder {path.parent} away, and aft-train makes it again")
    say(f"{unit}: {lacks}. It was given, or made for other questions: {unit.stage} goes on with it")


def _name(key: Any) -> str:
    return f"question '{key[0]}', index {key[1]}" if isinstance(key, tuple) else f"question '{key}'"
