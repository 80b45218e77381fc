"""Stage 2b: makes rated groups from completions. Separate from sampling, so that labels change without new samples.

Needs neither a model nor torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..grading import Grader
from ..json_files import write_json, write_json_lines
from ..labelling.labels import Counts, label_completions, replace_ratings
from ..labelling.ratings import describe_lacking, describe_rated, facts_table, rate_groups
from ..progress import say
from ..records import Completion, Group, read_completions
from ..run.folder import COUNTS, GROUPS, POOL, Unit
from ..run.manifest import UnitLog
from .complete import check_completions
from .from_prefix import FROM_PREFIX_KEY, label_continuations, tell_labelled
from .limits import OUTCOMES, judge_samples
from .plan import Plan


def run_label(plan: Plan, unit: Unit, begin: Callable[[], UnitLog | None]) -> None:
    """Labels completions and writes groups.jsonl, pool.jsonl and counts.json.

    `begin` clears the folder and opens the unit's log. It is called only after all labels exist. Rating can fail, and
    the previous labels must survive that.
    """
    section, seed = plan.config.label, unit.seed or 0
    completions = read_completions(plan.completions(unit.seed, unit.name))
    check_completions(plan, unit, completions)
    grader = Grader(plan.task)
    groups, counts = _training_groups(plan, unit, completions, grader)
    groups, counts, continuations, continued = label_continuations(plan, unit, groups, counts, grader)
    pool_groups, pool_counts = _pool_groups(plan, unit, completions)
    facts = {}
    every = [*completions, *continuations]
    rated = rate_groups(section.ratings, groups, every, seed=seed, cache=plan.judge_cache())
    if rated is not None:
        groups, counts = replace_ratings(groups, counts, rated.ratings, section.ratings.name)
        facts = {"ratings": describe_rated(groups, rated.facts)}
    log = begin()
    write_json_lines(unit.folder / GROUPS, groups)
    if unit.round == 1:
        write_json_lines(unit.folder / POOL, pool_groups)
    say(f"{unit}\n{counts.table()}")
    if continued is not None:
        tell_labelled(continued)
    outcomes = judge_samples(plan, unit, _outside_pool(plan, unit, completions), grader)
    continued_counts = {} if continued is None else {FROM_PREFIX_KEY: dataclasses.asdict(continued)}
    counted = {**dataclasses.asdict(counts), **continued_counts, **facts, "pool": dataclasses.asdict(pool_counts)}
    write_json(unit.folder / COUNTS, {**counted, OUTCOMES: dataclasses.asdict(outcomes)})
    for entry in facts.values():
        say(f"\n{facts_table(entry)}")
        if lacking := describe_lacking(entry, unit.folder, plan.run.config):
            say(f"\n{lacking}")
    if log is not None:
        log.complete([GROUPS, *([POOL] if unit.round == 1 else []), COUNTS])


def _training_groups(
    plan: Plan, unit: Unit, completions: Sequence[Completion], grader: Grader
) -> tuple[list[Group], Counts]:
    section = plan.config.label
    return label_completions(
        plan.training_questions(unit.seed or 0),
        plan.task.reference_response,
        _outside_pool(plan, unit, completions),
        plan.task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
        include_reference=section.include_reference,
        grader=grader,
    )


def _outside_pool(plan: Plan, unit: Unit, completions: Sequence[Completion]) -> list[Completion]:
    in_pool = {question.id for question in plan.pool_of(unit)}
    return [completion for completion in completions if completion.question_id not in in_pool]


def _pool_groups(plan: Plan, unit: Unit, completions: Sequence[Completion]) -> tuple[list[Group], Counts]:
    """Returns the pool's groups. They always have binary ratings, because the pool compares right with wrong chains."""
    pool, section = plan.pool_of(unit), plan.config.label
    in_pool = {question.id for question in pool}
    return label_completions(
        pool,
        {},
        [completion for completion in completions if completion.question_id in in_pool],
        plan.task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
    )
