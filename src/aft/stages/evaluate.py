"""Stage 4: one model on the test questions, on fresh samples of its own, and on the fixed pool."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..collect import collect
from ..evaluation import (
    Assessed,
    assessment_accuracy,
    has_tokens,
    judge,
    perplexity,
    pool_metrics,
    score_lines,
    task_accuracy,
)
from ..items import scoring_entries
from ..model import enable_scoring
from ..packing import StepSampler, entry_loader
from ..pipeline import Unit
from ..progress import Progress
from ..records import (
    NEGATIVE,
    POSITIVE,
    Candidate,
    Completion,
    Group,
    Question,
    read_groups,
    write_json,
    write_json_lines,
)
from ..run import UnitLog
from ..sampling import Decoding, derive_seed
from ..scoring import Scores, score_candidates, to_device
from ..tasks import TRAIN
from .context import Stage


def run_evaluate(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Measure one model into metrics.json, predictions.jsonl, assessment.jsonl and pool.jsonl."""
    checkpoint = stage.plan.checkpoint(unit.name or "", unit.seed)
    tokenizer = stage.tokenizer(checkpoint)
    model = stage.model(checkpoint, inference=True).to(stage.device).eval()
    enable_scoring(model, chunk_bytes=stage.chunk_bytes)
    predictions = _predict(stage, unit, model, tokenizer)
    assessed, skipped = _assess(stage, unit, model, tokenizer)
    pool = _score_pool(stage, unit, model, tokenizer)
    if log is None:
        return
    right = [line["score"] for line in assessed if line["is_positive"]]
    write_json_lines(unit.folder / "predictions.jsonl", predictions)
    write_json_lines(unit.folder / "assessment.jsonl", assessed)
    write_json_lines(unit.folder / "pool.jsonl", pool)
    write_json(
        unit.folder / "metrics.json",
        {
            "model": unit.name,
            "seed": unit.seed,
            "split": stage.config.evaluate.split,
            "checkpoint": checkpoint,
            "task_accuracy": task_accuracy(predictions),
            "assessment_accuracy": assessment_accuracy(assessed, skipped=skipped) if assessed else None,
            "perplexity": perplexity(right),
            "pool": pool_metrics(pool, questions=stage.config.sample.pool_questions),
        },
    )
    log.complete(["metrics.json", "predictions.jsonl", "assessment.jsonl", "pool.jsonl"])


def _predict(
    stage: Stage, unit: Unit, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    section, seed = stage.config.evaluate, unit.seed or 0
    questions = stage.plan.task.load(section.split, seed=seed)[: section.num_questions]
    completions = collect(
        model,
        tokenizer,
        stage.requests(tokenizer, questions, [0]),
        Decoding(section.max_new_tokens, section.temperature),
        path=unit.folder / "completions.jsonl",
        seed_of=lambda question_id, index: derive_seed("evaluate", seed, question_id, index),
        batch_size=section.batch_size,
        description=f"{unit}: {section.split} questions",
    )
    return judge(completions, questions, stage.plan.task)


def _assess(
    stage: Stage, unit: Unit, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[dict[str, Any]], int]:
    """(scored right and wrong chains of the model's own, number of questions that could not be filled)."""
    section = stage.config.evaluate.assessment
    if section is None:
        return [], 0
    questions = stage.plan.task.load(TRAIN, seed=unit.seed or 0)[: section.num_questions]
    assessed = _sample_both_kinds(stage, unit, model, tokenizer, questions)
    full = [question for question in questions if assessed[question.id].is_full(section.per_label)]
    groups = [_as_group(question, assessed[question.id]) for question in full]
    scores = _score(stage, f"{unit}: own chains", model, tokenizer, groups)
    return score_lines(groups, scores), len(questions) - len(full)


def _sample_both_kinds(
    stage: Stage,
    unit: Unit,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
) -> dict[str, Assessed]:
    """Samples in rounds until every question has its right and wrong chains or the budget is spent."""
    evaluate, task, seed = stage.config.evaluate, stage.plan.task, unit.seed or 0
    section = evaluate.assessment
    assert section is not None
    assessed = {question.id: Assessed() for question in questions}
    for start in range(0, section.max_samples, section.samples_per_round):
        missing = [question for question in questions if not assessed[question.id].is_full(section.per_label)]
        if not missing:
            break
        stop = min(start + section.samples_per_round, section.max_samples)
        completions = collect(
            model,
            tokenizer,
            stage.requests(tokenizer, missing, range(start, stop)),
            Decoding(evaluate.max_new_tokens, section.temperature),
            path=unit.folder / f"own-{start:04d}.jsonl",
            seed_of=lambda question_id, index: derive_seed("assess", seed, question_id, index),
            batch_size=evaluate.batch_size,
            description=f"{unit}: own chains, samples {start + 1}-{stop}",
        )
        for completion, line in zip(completions, judge(completions, missing, task), strict=True):
            assessed[completion.question_id].add(completion, line["is_correct"], section.per_label)
    return assessed


def _as_group(question: Question, assessed: Assessed) -> Group:
    def candidate(completion: Completion, label: str, rating: float) -> Candidate:
        return Candidate(completion.completion, rating, label, None, completion.truncated, completion.index)

    candidates = [candidate(completion, POSITIVE, 1.0) for completion in assessed.positives]
    candidates += [candidate(completion, NEGATIVE, 0.0) for completion in assessed.negatives]
    return Group(question.id, question.question, question.answer, None, tuple(candidates))


def _score_pool(
    stage: Stage, unit: Unit, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    if not stage.config.sample.pool_questions:
        return []
    groups = []
    for group in read_groups(stage.plan.pool(unit.seed)):
        candidates = tuple(candidate for candidate in group.candidates if has_tokens(candidate))
        if candidates:
            groups.append(dataclasses.replace(group, candidates=candidates))
    return score_lines(groups, _score(stage, f"{unit}: pool", model, tokenizer, groups))


def _score(
    stage: Stage, description: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, groups: Sequence[Group]
) -> Scores:
    if not groups:
        return {}
    state = PartialState()
    entries = scoring_entries(groups, stage.encoder(tokenizer, limited=False))
    width = max(len(group.candidates) for group in groups)
    sampler = StepSampler(
        len(entries),
        max(1, stage.config.evaluate.batch_size // width),
        rank=state.process_index,
        num_ranks=state.num_processes,
        shuffle=False,
    )
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    with Progress(description, len(entries), "question") as progress:
        prepare = functools.partial(to_device, device=stage.device)
        return score_candidates(model, entry_loader(entries, sampler, pad), prepare, advance=progress.update)
