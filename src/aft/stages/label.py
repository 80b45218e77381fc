"""Stage 2b: completions -> rated groups. No model and no torch: rules change more often than samples."""

from __future__ import annotations

import dataclasses

from ..labelling import label_completions, replace_ratings
from ..pipeline import Plan, Unit
from ..progress import say
from ..ratings import describe_rated, facts_table, rate_groups
from ..records import read_completions, write_json, write_json_lines
from ..run import UnitLog


def run_label(plan: Plan, unit: Unit, log: UnitLog | None) -> None:
    """Label into groups.jsonl, pool.jsonl and counts.json."""
    section, task, seed = plan.config.label, plan.task, unit.seed or 0
    pool = plan.pool_questions(seed)
    completions = read_completions(plan.completions(unit.seed))
    in_pool = {question.id for question in pool}
    groups, counts = label_completions(
        plan.training_questions(seed),
        task.reference_response,
        [completion for completion in completions if completion.question_id not in in_pool],
        task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
        include_reference=section.include_reference,
    )
    # whatever rates, the pool stays binary: it measures right against wrong
    pool_groups, pool_counts = label_completions(
        pool,
        {},
        [completion for completion in completions if completion.question_id in in_pool],
        task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
    )
    facts = {}
    rated = rate_groups(section.ratings, groups, completions, seed=seed, cache=plan.judge_cache())
    if rated is not None:
        groups, counts = replace_ratings(groups, counts, rated.ratings, section.ratings.name)
        facts = {"ratings": describe_rated(groups, rated.facts)}
    write_json_lines(unit.folder / "groups.jsonl", groups)
    write_json_lines(unit.folder / "pool.jsonl", pool_groups)
    counted = {**dataclasses.asdict(counts), **facts, "pool": dataclasses.asdict(pool_counts)}
    write_json(unit.folder / "counts.json", counted)
    say(f"{unit}\n{counts.table()}")
    for entry in facts.values():
        say(f"\n{facts_table(entry)}")
    if log is not None:
        log.complete(["groups.jsonl", "pool.jsonl", "counts.json"])
