"""Stage 2b: completions -> rated groups. No model and no torch: rules change more often than samples."""

from __future__ import annotations

import dataclasses

from ..labelling import label_completions
from ..pipeline import Plan, Unit
from ..progress import say
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
    pool_groups, pool_counts = label_completions(
        pool,
        {},
        [completion for completion in completions if completion.question_id in in_pool],
        task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
    )
    write_json_lines(unit.folder / "groups.jsonl", groups)
    write_json_lines(unit.folder / "pool.jsonl", pool_groups)
    write_json(unit.folder / "counts.json", {**dataclasses.asdict(counts), "pool": dataclasses.asdict(pool_counts)})
    say(f"{unit}\n{counts.table()}")
    if log is not None:
        log.complete(["groups.jsonl", "pool.jsonl", "counts.json"])
