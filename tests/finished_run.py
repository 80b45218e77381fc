"""A finished run without any model: completions of chance, scores of chance, and the files that every stage writes."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

from aft.config import load_config
from aft.evaluation.accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from aft.evaluation.assessment import (
    Assessed,
    assessment_lines,
    assessment_metrics,
    has_tokens,
    pool_metrics,
    question_shares,
)
from aft.grading import grade, grade_all
from aft.json_files import write_json, write_json_lines, write_text
from aft.launch.conductor import open_folder
from aft.records import POSITIVE, REFERENCE, Completion, read_groups
from aft.report.build import write_report
from aft.run.digest import chain_digest
from aft.run.manifest import UnitLog, checkpoint_outputs
from aft.stages.label import run_label
from aft.stages.plan import Plan
from aft.stats.estimate import to_json

TINY = Path(__file__).parent / "data" / "tiny.yaml"
SMALLER = [
    *("seeds=[0,1]", "data.num_train=6", "data.num_answer_only=2", "data.num_validation=3", "data.num_test=5"),
    *("data.num_pretrain=20", "sample={num_samples: 3, pool_questions: 2}", "evaluate.models=[vft,bcl]"),
    "evaluate.assessment={num_questions: 3, per_label: 1, max_samples: 6, samples_per_round: 3}",
    "evaluate.self_consistency={num_paths: 3, num_questions: 2, ns: [1, 3]}",
]


def make_plan(folder, *overrides, **options) -> Plan:
    return Plan(load_config(TINY, [f"output_dir={folder}", *SMALLER, *overrides]), **options)


def finish_run(folder) -> Plan:
    """Leaves a run in `folder` as aft-train does, with its report."""
    plan = make_plan(folder)
    open_folder(plan)
    for stage in plan.stages():
        for unit in plan.units(stage):
            {"sample": _sample, "label": _label, "evaluate": _evaluate}.get(stage, _train)(plan, unit)
    write_report(plan.folder, picture=False)
    return plan


def _train(plan, unit):
    log = UnitLog(unit.folder, plan.inputs(unit))
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        write_json(unit.folder / name, {"of": str(unit), "file": name})
    write_text(unit.folder / "chat_template.jinja", f"{{# {unit} #}}")
    (unit.folder / "model.safetensors").write_bytes(random.Random(str(unit)).randbytes(3000))
    history = [{"loss": 1.5, "step": 4, "of": str(unit)}]
    write_json(unit.folder / "trainer_state.json", {"global_step": 4, "log_history": history})
    if unit.name == "bcl":
        write_json(unit.folder / "initial_scores.json", {"key": "k", "scores": {str(unit): [0.5]}})
    log.complete(checkpoint_outputs(unit.folder), steps=4, last_log=history[-1])


def _complete(plan, questions, indices, *parts) -> list[Completion]:
    """Completions of which some are right: the question's own answer, another number, or no answer."""
    found = []
    for question in questions:
        for index in indices:
            draw = random.Random(f"{question.id} {index} {parts}")
            text = f"So it is {draw.choice([1, 2, 3])}. "
            answer = question.answer if draw.random() < 0.6 else str(draw.randrange(100, 999))
            text += "" if draw.random() < 0.1 else f"{plan.task.marker} {answer}"
            found.append(Completion(question.id, index, text, False, len(text), draw.randrange(9), (1, 2)))
    return found


def _sample(plan, unit):
    log = UnitLog(unit.folder, plan.inputs(unit))
    questions = plan.training_questions(unit.seed) + plan.pool_questions(unit.seed)
    completions = _complete(plan, questions, range(plan.config.sample.num_samples), unit.seed)
    write_json_lines(plan.completions(unit.seed), completions)
    graded = grade_all(plan.task, completions, questions)
    log.complete(
        ["completions.jsonl"],
        completions=len(completions),
        truncated=0,
        unparsed=sum(line["answer"] is None for line in graded),
        tokens=sum(completion.num_tokens for completion in completions),
    )


def _label(plan, unit):
    run_label(plan, unit, lambda: UnitLog(unit.folder, plan.inputs(unit)))


def _score(unit, *key) -> float:
    return -random.Random(f"{unit} {key}").random()


def _evaluate(plan, unit):
    log, section, task = UnitLog(unit.folder, plan.inputs(unit)), plan.config.evaluate, plan.task
    files, names = {}, []

    def sampled(name, questions, indices):
        names.append(name)
        completions = _complete(plan, questions, indices, str(unit), name)
        write_json_lines(unit.folder / name, completions)
        return completions

    questions = task.load("test", seed=unit.seed)
    predictions = grade_all(task, sampled("completions.jsonl", questions, [0]), questions)
    files["predictions.jsonl"] = predictions
    asked = task.load("train", seed=unit.seed)[: section.assessment.num_questions]
    assessed = {question.id: Assessed() for question in asked}
    for start in (0, 3):
        missing = [question for question in asked if not assessed[question.id].is_full(1)]
        for completion in sampled(f"own-{start:04d}.jsonl", missing, range(start, start + 3)) if missing else ():
            question = next(question for question in asked if question.id == completion.question_id)
            assessed[question.id].add(completion, grade(task, completion, question).is_correct, 1)
    lines = [
        {"question_id": key, "index": c.index, "is_positive": is_positive, "score": _score(unit, key, c.index)}
        for key, found in assessed.items()
        if found.is_full(1)
        for is_positive, c in ((True, found.positives[0]), (False, found.negatives[0]))
    ]
    references = [{"question_id": question.id, "score": _score(unit, question.id)} for question in asked]
    files["assessment.jsonl"], files["references.jsonl"] = lines, references
    files["assessment_questions.jsonl"] = assessment_lines(assessed, lines)
    pool = [
        {
            "question_id": group.question_id,
            "index": item.index,
            "is_positive": item.label == POSITIVE,
            "score": _score(unit, group.question_id, item.index),
        }
        for group in read_groups(plan.pool(unit.seed))
        for item in group.candidates
        if has_tokens(item)
    ]
    files["pool.jsonl"] = pool
    shares = question_shares(pool).items()
    files["pool_questions.jsonl"] = [{"question_id": key, "value": value} for key, value in shares]
    if plan.config.evaluate.training_scores is not None:
        files["training_scores.jsonl"] = [
            {
                "question_id": group.question_id,
                "index": item.index,
                "is_positive": item.label in (POSITIVE, REFERENCE),
                "score": _score(unit, group.question_id, item.index),
                "chain": chain_digest(item.completion),
            }
            for group in read_groups(plan.groups(unit.seed))[: plan.config.evaluate.training_scores.max_questions]
            for item in group.candidates
        ]
    voters, voting = questions[: section.self_consistency.num_questions], section.self_consistency
    graded = grade_all(task, sampled("paths.jsonl", voters, range(voting.num_paths)), voters)
    files["self_consistency.jsonl"] = votes = vote_lines(graded, voters, task, voting.ns)
    metrics = {
        "model": unit.name,
        "seed": unit.seed,
        "split": "test",
        "checkpoint": str(unit.folder),
        "task_accuracy": task_accuracy(predictions),
        "by_category": category_accuracy(predictions),
        **assessment_metrics(assessed, lines, references, dataclasses.asdict(section.assessment)),
        "pool": pool_metrics(pool, questions=len(plan.pool_questions(unit.seed))),
        "self_consistency": {**self_consistency(votes), **voting.recorded()},
    }
    for name, records in files.items():
        write_json_lines(unit.folder / name, records)
    write_json(unit.folder / "metrics.json", to_json(metrics))
    log.complete(["metrics.json", *files, *names])


def rewrite_manifest(unit, change) -> None:
    """Changes a manifest as an earlier version or a forger would have written it: without the digest of itself."""
    manifest = json.loads(unit.manifest.read_text())
    del manifest["digest"]
    change(manifest)
    unit.manifest.write_text(json.dumps(manifest))
