"""Compares a seed's samples with `label.warn` and `label.stop`. Needs neither a model nor torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..config import align_config
from ..config.ratings import BinaryRatings
from ..errors import AftError
from ..grading import Grader
from ..json_files import read_json
from ..labelling.outcomes import (
    Outcomes,
    Setting,
    count_completions,
    count_outcomes,
    diagnose,
    excerpt,
    outcomes_from_json,
)
from ..progress import say
from ..records import Completion
from ..run.folder import COUNTS, Unit
from .plan import Plan
from .planned_rounds import needs_pairs

OUTCOMES = "outcomes"  # key of counts.json
_OF_COMPLETIONS = ("unparsed", "truncated")
_OF_QUESTIONS = ("all_wrong", "all_right")
_SHOWN = 3


def judge_samples(plan: Plan, unit: Unit, completions: Sequence[Completion], grader: Grader) -> Outcomes:
    """Counts what became of training completions. Warns with examples and the likeliest cause where a limit is reached.

    `grader` has graded the completions already.
    """
    found, poor = count_outcomes(completions, plan.training_questions(unit.seed or 0), grader)
    _warn(plan, unit, found, poor, _that_apply(plan))
    return found


def judge_completions(plan: Plan, unit: Unit, completions: Sequence[Completion]) -> Outcomes:
    """Counts unparsed and cut completions, prints both shares, and warns as `judge_samples` does.

    Compares no answer with a gold answer: a GPU waits for this, and what a question lacks is known after labelling.
    """
    seed = unit.seed or 0
    questions = plan.training_questions(seed) + plan.pool_of(unit)
    found, poor = count_completions(completions, questions, plan.task)
    _warn(plan, unit, found, poor, _OF_COMPLETIONS)
    say(f"{unit}: {', '.join(found.describe(name) for name in _OF_COMPLETIONS)}")
    return found


def _warn(plan: Plan, unit: Unit, found: Outcomes, poor: Sequence[Completion], names: Collection[str]) -> None:
    section = vars(plan.config.label.warn)
    reached = found.reached({name: section[name] for name in names})
    if not reached:
        return
    lines = [f"{unit}: warning: {_describe(found, reached, 'warn')}"]
    for completion in _of_different_questions(poor):
        name = f"completion {completion.index} of {completion.question_id}"
        lines.append(f"  {name}{', cut' if completion.truncated else ''}: {excerpt(completion.completion)}")
    diagnosis = diagnose(found, _setting(plan, unit), reached)
    lines += [f"  likeliest cause: {diagnosis.cause}", f"  to change: {diagnosis.change}"]
    say("\n".join(lines))


def stop_before_alignment(plan: Plan, units: Sequence[Unit]) -> None:
    """Raises `AftError` if the labels that one of these align units reads reach a limit of `label.stop`.

    Limits on questions count only for labels of which a unit's loss needs pairs. At a limit of 1 they count only if no
    group has a pair that such a unit reads, of any round. Where they do not count, a line warns. Labels of earlier
    versions hold no outcomes and are not judged.
    """
    section = vars(plan.config.label.stop)
    labelled = {unit: plan.label_units(unit)[-1] for unit in units}
    for labels in sorted({*labelled.values()}, key=lambda label: (label.seed or 0, label.name or "")):
        counts = read_json(labels.folder / COUNTS) or {}
        kept = counts.get(OUTCOMES)
        if kept is None:
            continue
        found = outcomes_from_json(kept)
        reached = found.reached({name: section[name] for name in _that_apply(plan)})
        readers = [unit for unit in units if labelled[unit] == labels and _needs_pairs(plan, unit)]
        if not readers:
            reached, harmless = _without(reached, _OF_QUESTIONS)
            if harmless:
                said = _describe(found, harmless, "stop")
                say(f"{labels}: warning: {said}. Alignment goes on, because no loss that is to be trained needs pairs")
        elif all(_has_pairs(plan, unit) for unit in readers):
            # references among the candidates make pairs with wrong samples, and so do other rounds that are kept
            reached, _ = _without(reached, [name for name in _OF_QUESTIONS if section[name] == 1])
        if not reached:
            continue
        diagnosis = diagnose(found, _setting(plan, labels), reached)
        keys = " ".join(f"label.stop.{name}=null" for name in reached)
        raise AftError(
            f"{labels}: stopped before alignment: {_describe(found, reached, 'stop')}."
            f" Likeliest cause: {diagnosis.cause}. To change: {diagnosis.change}."
            f" All files are kept; the same command with {keys} goes on"
        )


def _needs_pairs(plan: Plan, unit: Unit) -> bool:
    return needs_pairs(align_config(plan.config, unit.name or ""))


def _has_pairs(plan: Plan, unit: Unit) -> bool:
    counts = [read_json(labels.folder / COUNTS) or {} for labels in plan.label_units(unit)]
    return any(found.get("groups_with_pair") for found in counts)


def _without(reached: dict[str, float], names: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the limits that are not named, and those that are."""
    taken = {name: limit for name, limit in reached.items() if name in names}
    return {name: limit for name, limit in reached.items() if name not in names}, taken


def _that_apply(plan: Plan) -> tuple[str, ...]:
    # other ratings can rank candidates of one label
    binary = isinstance(plan.config.label.ratings, BinaryRatings)
    return (*_OF_COMPLETIONS, *_OF_QUESTIONS) if binary else _OF_COMPLETIONS


def _describe(found: Outcomes, reached: dict[str, float], kind: str) -> str:
    return ", ".join(f"{found.describe(name)}, limit label.{kind}.{name} {limit:g}" for name, limit in reached.items())


def _of_different_questions(completions: Sequence[Completion]) -> list[Completion]:
    """The first completions, of different questions while there are enough questions."""
    first: dict[str, Completion] = {}
    for completion in completions:
        first.setdefault(completion.question_id, completion)
    chosen = list(first.values())[:_SHOWN]
    rest = (completion for completion in completions if completion not in chosen)
    return chosen + [completion for completion, _ in zip(rest, range(_SHOWN - len(chosen)), strict=False)]


def _setting(plan: Plan, unit: Unit) -> Setting:
    """`unit`: of the sampling or the labels."""
    section = plan.config.sample
    marker = getattr(plan.config.data, "answer_marker", None)
    return Setting(plan.sampled_model(unit), section.temperature, section.max_new_tokens, marker)
