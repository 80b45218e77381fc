"""Compares a seed's samples with `label.warn` and `label.stop`. Needs neither a model nor torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..config.ratings import BinaryRatings
from ..errors import AftError
from ..json_files import read_json
from ..labelling.outcomes import Outcomes, Setting, count_outcomes, diagnose, excerpt, outcomes_from_json
from ..progress import say
from ..records import Completion
from ..run.folder import Unit
from .plan import Plan

OUTCOMES = "outcomes"  # key of counts.json
_OF_COMPLETIONS = ("unparsed", "truncated")
_SHOWN = 3


def judge_samples(
    plan: Plan, unit: Unit, completions: Sequence[Completion], *, names: Collection[str] | None = None
) -> Outcomes:
    """Counts what became of the completions. Warns with examples and the likeliest cause where a limit is reached.

    `names`: the only limits that count; None: all that apply to the run's ratings.
    """
    seed = unit.seed or 0
    questions = plan.training_questions(seed) + plan.pool_questions(seed)
    found, poor = count_outcomes(completions, questions, plan.task)
    section = vars(plan.config.label.warn)
    limits = {name: section[name] for name in _that_apply(plan) if names is None or name in names}
    reached = found.reached(limits)
    if reached:
        lines = [f"{unit}: warning: {_describe(found, reached, 'warn')}"]
        for completion in _of_different_questions(poor):
            name = f"completion {completion.index} of {completion.question_id}"
            lines.append(f"  {name}{', cut' if completion.truncated else ''}: {excerpt(completion.completion)}")
        diagnosis = diagnose(found, _setting(plan), reached)
        lines += [f"  likeliest cause: {diagnosis.cause}", f"  to change: {diagnosis.change}"]
        say("\n".join(lines))
    return found


def judge_completions(plan: Plan, unit: Unit, completions: Sequence[Completion]) -> Outcomes:
    """`judge_samples` by the limits on completions alone: what a question lacks is known after labelling.

    Prints both shares, too.
    """
    found = judge_samples(plan, unit, completions, names=_OF_COMPLETIONS)
    say(f"{unit}: {', '.join(found.describe(name) for name in _OF_COMPLETIONS)}")
    return found


def stop_before_alignment(plan: Plan, seeds: Collection[int]) -> None:
    """Raises `AftError` if the labels of one of these seeds reach a limit of `label.stop`.

    Labels of earlier versions hold no outcomes and are not judged.
    """
    section = vars(plan.config.label.stop)
    for seed in sorted(seeds):
        path = plan.run.counts(seed)
        kept = (read_json(path) or {}).get(OUTCOMES)
        if kept is None:
            continue
        found = outcomes_from_json(kept)
        reached = found.reached({name: section[name] for name in _that_apply(plan)})
        if not reached:
            continue
        diagnosis = diagnose(found, _setting(plan), reached)
        keys = " ".join(f"label.stop.{name}=null" for name in reached)
        raise AftError(
            f"{plan.run.unit('label', seed)}: stopped before alignment: {_describe(found, reached, 'stop')}."
            f" Likeliest cause: {diagnosis.cause}. To change: {diagnosis.change}."
            f" All files are kept; the same command with {keys} goes on"
        )


def _that_apply(plan: Plan) -> tuple[str, ...]:
    # other ratings can rank candidates of one label
    binary = isinstance(plan.config.label.ratings, BinaryRatings)
    return (*_OF_COMPLETIONS, "all_wrong", "all_right") if binary else _OF_COMPLETIONS


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


def _setting(plan: Plan) -> Setting:
    section = plan.config.sample
    marker = getattr(plan.config.data, "answer_marker", None)
    return Setting(section.model, section.temperature, section.max_new_tokens, marker)
