"""Stage 4: measures a model on the test questions, its own new samples, the references and the fixed pool.

It also keeps the scores of some training chains, for report.html.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel

from ..encoding import TextEncoder
from ..evaluation.accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from ..evaluation.assessment import (
    Assessed,
    assessment_lines,
    assessment_metrics,
    has_tokens,
    json_scores,
    pool_metrics,
    question_shares,
    score_lines,
)
from ..evaluation.path_chains import chain_key, chain_lines, chain_metrics
from ..grading import grade, grade_all
from ..json_files import write_json, write_json_lines
from ..model import pad_id
from ..progress import Progress, say
from ..records import NEGATIVE, POSITIVE, REFERENCE, Candidate, Completion, Group, Question, iter_groups, read_groups
from ..run.digest import chain_digest
from ..run.folder import (
    ASSESSMENT,
    ASSESSMENT_QUESTIONS,
    COMPLETIONS,
    METRICS,
    PATH_CHAINS,
    PATHS,
    POOL,
    POOL_QUESTIONS,
    PREDICTIONS,
    REFERENCES,
    TRAINING_SCORES,
    VOTES,
    Unit,
)
from ..run.manifest import UnitLog
from ..sampling.decoding import Decoding
from ..sampling.engine import Engine
from ..sampling.resumable import collect
from ..scoring.batching import Packer, StepSampler, entry_loader
from ..scoring.entries import Encoder, scoring_entries
from ..scoring.layouts import choose_layout
from ..scoring.packing import Batch, Entry
from ..scoring.precise import is_rough
from ..scoring.responses import score_candidates, to_device
from ..stats.estimate import to_json
from ..tasks import TRAIN
from .complete import check_groups
from .context import Inference, Stage, check_sizes

Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class _Sampler:
    """Samples from the evaluated model into files of the unit's folder, whose names are then in `written`."""

    stage: Stage
    unit: Unit
    texts: TextEncoder
    engine: Engine
    written: list[str] = dataclasses.field(default_factory=list)

    def questions(self) -> list[Question]:
        """Returns the questions of task accuracy."""
        return _asked_questions(self.stage, self.unit)

    def sample(
        self,
        questions: Sequence[Question],
        indices: Sequence[int],
        decoding: Decoding,
        *,
        file: str,
        purpose: str,
        description: str,
    ) -> list[Completion]:
        """Samples completions and saves them in `file`. `purpose` is part of their seeds."""
        seed = self.unit.seed or 0
        self.written.append(file)
        return collect(
            self.engine,
            self.stage.requests(self.texts, questions, indices, purpose=purpose, seed=seed),
            decoding,
            path=self.unit.folder / file,
            description=f"{self.unit}: {description}",
        )


@dataclass(frozen=True)
class _Scorer:
    """Scores chains with the evaluated model. `said`: lines about the layout that were already logged."""

    stage: Stage
    unit: Unit
    subject: Inference
    said: set[str | None] = dataclasses.field(default_factory=set)

    @property
    def texts(self) -> TextEncoder:
        """How the model reads and ends its texts."""
        return self.subject.texts

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        """The model, loaded when there is something to score: vLLM may sample from one that fits no single GPU."""
        model = self.subject.model
        self.stage.enable_scoring(model)
        return model

    def score(self, groups: Sequence[Group], description: str) -> Lines:
        """Returns one line with a score for every candidate of the groups."""
        if not groups:
            return []
        state = PartialState()
        entries = scoring_entries(groups, self.stage.encoder(self.texts, limited=False))
        check_sizes(self.model, self.texts, entries)
        width = max(len(group.candidates) for group in groups)
        prepare = functools.partial(to_device, device=self.stage.device)
        sampler = StepSampler(
            entries,
            self._packer(entries, prepare),
            max(1, self.stage.config.evaluate.batch_size // width),
            rank=state.process_index,
            num_ranks=state.num_processes,
            shuffle=False,
        )
        with Progress(f"{self.unit}: {description}", len(entries), "question") as progress:
            scores = score_candidates(self.model, entry_loader(sampler), prepare, advance=progress.update)
        return score_lines(groups, scores)

    def _packer(self, entries: Sequence[Entry], prepare: Callable[[Batch], Batch]) -> Packer:
        """Returns a packer with the layout for these entries. Logs once why a question cannot be shared."""
        section = self.stage.config.model
        pad = pad_id(self.texts.tokenizer)
        layout, line = choose_layout(
            self.model, entries, pad, wanted=section.layout, rough=is_rough(self.model), prepare=prepare
        )
        if line and line not in self.said:
            say(f"{self.unit}: {line}")
        self.said.add(line)
        return Packer(pad, layout, section.max_tokens_per_batch)


def run_evaluate(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Measures one model. Writes metrics.json and the JSONL files with its details (docs/metrics.md)."""
    subject = Inference(stage, stage.plan.checkpoint(unit.name or "", unit.seed))
    questions = _asked_questions(stage, unit) + _assessed_questions(stage, unit)
    with subject.engine(unit, stage.config.evaluate, questions) as engine:
        sampler = _Sampler(stage, unit, subject.texts, engine)
        predicted, assessed, paths = _predict(sampler), _sample_both_kinds(sampler), _sample_paths(sampler)
    scorer = _Scorer(stage, unit, subject)
    metrics: dict[str, Any] = {
        "model": unit.name,
        "seed": unit.seed,
        "split": stage.config.evaluate.split,
        "checkpoint": subject.checkpoint,
    }
    files: dict[str, Lines] = {}
    for found, lines in (predicted, _assess(scorer, assessed), _score_pool(scorer), _vote(scorer, paths)):
        metrics.update(found)
        files.update(lines)
    files.update(_score_training(scorer))
    if log is None:
        return
    subject.tell_counts(unit)
    for name, lines_of_file in files.items():
        write_json_lines(unit.folder / name, lines_of_file)
    write_json(unit.folder / METRICS, to_json(metrics))
    log.complete([METRICS, *files, *sampler.written])


def _predict(sampler: _Sampler) -> tuple[dict[str, Any], dict[str, Lines]]:
    section = sampler.stage.config.evaluate
    questions = sampler.questions()
    completions = sampler.sample(
        questions,
        [0],
        Decoding(section.max_new_tokens, section.temperature),
        file=COMPLETIONS,
        purpose="evaluate",
        description=f"{section.split} questions",
    )
    predictions = grade_all(sampler.stage.plan.task, completions, questions)
    metrics = {"task_accuracy": task_accuracy(predictions), "by_category": category_accuracy(predictions)}
    return metrics, {PREDICTIONS: predictions}


def _asked_questions(stage: Stage, unit: Unit) -> list[Question]:
    section = stage.config.evaluate
    return stage.plan.task.load(section.split, seed=unit.seed or 0)[: section.num_questions]


def _assessed_questions(stage: Stage, unit: Unit) -> list[Question]:
    """Returns the training questions of assessment accuracy, or an empty list if it is off."""
    section = stage.config.evaluate.assessment
    return [] if section is None else stage.plan.task.load(TRAIN, seed=unit.seed or 0)[: section.num_questions]


def _assess(scorer: _Scorer, assessed: dict[str, Assessed]) -> tuple[dict[str, Any], dict[str, Lines]]:
    """Scores the model's own new chains and the same questions' references."""
    section, questions = scorer.stage.config.evaluate.assessment, _assessed_questions(scorer.stage, scorer.unit)
    per_label = section.per_label if section else 0
    full = [question for question in questions if assessed[question.id].is_full(per_label)]
    lines = scorer.score([_as_group(question, assessed[question.id]) for question in full], "own chains")
    references = scorer.score([group for q in questions for group in _reference(scorer.stage, q)], "references")
    metrics = assessment_metrics(assessed, lines, references, dataclasses.asdict(section) if section else None)
    return metrics, {
        ASSESSMENT: json_scores(lines),
        ASSESSMENT_QUESTIONS: assessment_lines(assessed, lines),
        REFERENCES: [{"question_id": line["question_id"], "score": line["score"]} for line in json_scores(references)],
    }


def _sample_both_kinds(sampler: _Sampler) -> dict[str, Assessed]:
    """Samples in rounds until every question has enough right and wrong chains, or `max_samples` is reached."""
    evaluate, task = sampler.stage.config.evaluate, sampler.stage.plan.task
    section, questions = evaluate.assessment, _assessed_questions(sampler.stage, sampler.unit)
    by_id = {question.id: question for question in questions}
    assessed = {question.id: Assessed() for question in questions}
    if section is None:
        return assessed
    for start in range(0, section.max_samples, section.samples_per_round):
        missing = [question for question in questions if not assessed[question.id].is_full(section.per_label)]
        if not missing:
            break
        stop = min(start + section.samples_per_round, section.max_samples)
        for completion in sampler.sample(
            missing,
            range(start, stop),
            Decoding(evaluate.max_new_tokens, section.temperature),
            file=f"own-{start:04d}.jsonl",
            purpose="assess",
            description=f"own chains, samples {start + 1}-{stop}",
        ):
            graded = grade(task, completion, by_id[completion.question_id])
            assessed[completion.question_id].add(completion, graded.is_correct, section.per_label)
    return assessed


def _as_group(question: Question, assessed: Assessed) -> Group:
    def candidate(completion: Completion, label: str, rating: float) -> Candidate:
        text, ids = completion.completion, completion.token_ids
        mask = completion.response_mask
        return Candidate(text, rating, label, None, completion.truncated, completion.index, ids, mask)

    candidates = [candidate(completion, POSITIVE, 1.0) for completion in assessed.positives]
    candidates += [candidate(completion, NEGATIVE, 0.0) for completion in assessed.negatives]
    return Group(question.id, question.question, question.answer, None, tuple(candidates))


def _reference(stage: Stage, question: Question) -> list[Group]:
    """Returns a group with the question's reference as its only candidate, or an empty list without a known chain."""
    if question.rationale is None:
        return []
    response = stage.plan.task.reference_response(question)
    return [Group(question.id, question.question, question.answer, None, (Candidate(response, 1.0, REFERENCE),))]


def _score_pool(scorer: _Scorer) -> tuple[dict[str, Any], dict[str, Lines]]:
    plan, seed = scorer.stage.plan, scorer.unit.seed
    path = plan.reads(scorer.unit).get("pool")
    given = [] if path is None else read_groups(path)
    if path is not None:
        check_groups(plan, scorer.unit, given, plan.pool_questions(seed or 0), Path(path))
    groups = []
    for group in given:
        candidates = tuple(candidate for candidate in group.candidates if has_tokens(candidate))
        if candidates:
            groups.append(dataclasses.replace(group, candidates=candidates))
    lines = scorer.score(groups, "pool")
    shares = [{"question_id": question_id, "value": value} for question_id, value in question_shares(lines).items()]
    return {"pool": pool_metrics(lines, questions=len(plan.pool_questions(seed or 0)))}, {
        POOL: json_scores(lines),
        POOL_QUESTIONS: shares,
    }


def _score_training(scorer: _Scorer) -> dict[str, Lines]:
    """Scores the candidates of the first training groups, where there are groups.

    The groups are no input of the unit, as no number is computed from these scores. A digest of the chain says of which
    text a score is. Chains that are too long for training are left out. A model that nothing else has needed is not
    loaded for these scores: it may fit no single GPU.
    """
    stage, unit = scorer.stage, scorer.unit
    section, path = stage.config.evaluate.training_scores, stage.plan.groups(unit.seed)
    if section is None or not path.is_file() or not scorer.subject.is_loaded:
        return {}
    fitting = Encoder(scorer.texts, max_length=stage.config.model.max_length, overlong="drop")
    groups = []
    for group in itertools.islice(iter_groups(path), section.max_questions):
        candidates = tuple(
            candidate
            for candidate in group.candidates
            if has_tokens(candidate) and fitting.candidate(group.question, candidate) is not None
        )
        if candidates:
            groups.append(dataclasses.replace(group, candidates=candidates))
    chains = [chain_digest(candidate.completion) for group in groups for candidate in group.candidates]
    lines = json_scores(scorer.score(groups, "training chains"))
    return {TRAINING_SCORES: [{**line, "chain": chain} for line, chain in zip(lines, chains, strict=True)]}


def _sample_paths(sampler: _Sampler) -> list[Completion]:
    """Samples several paths for each test question, if votes are on."""
    evaluate = sampler.stage.config.evaluate
    section = evaluate.self_consistency
    if section is None:
        return []
    return sampler.sample(
        _voted_questions(sampler.stage, sampler.unit),
        range(section.num_paths),
        Decoding(evaluate.max_new_tokens, section.temperature, section.top_p),
        file=PATHS,
        purpose="paths",
        description=f"{section.num_paths} paths for each question",
    )


def _voted_questions(stage: Stage, unit: Unit) -> list[Question]:
    section = stage.config.evaluate.self_consistency
    return [] if section is None else _asked_questions(stage, unit)[: section.num_questions]


def _vote(scorer: _Scorer, paths: Sequence[Completion]) -> tuple[dict[str, Any], dict[str, Lines]]:
    """Computes majority vote and pass@k for every path count, and measures the chains where that is asked for."""
    section = scorer.stage.config.evaluate.self_consistency
    if section is None:
        return {"self_consistency": None}, {}
    questions, task = _voted_questions(scorer.stage, scorer.unit), scorer.stage.plan.task
    graded = grade_all(task, paths, questions)
    lines = vote_lines(graded, questions, task, section.ns)
    metrics = {**self_consistency(lines), **section.recorded()}
    if not section.chains:
        return {"self_consistency": metrics}, {VOTES: lines}
    chains = chain_lines(graded, paths, _path_scores(scorer, questions, paths))
    return {"self_consistency": {**metrics, **chain_metrics(chains)}}, {VOTES: lines, PATH_CHAINS: chains}


def _path_scores(
    scorer: _Scorer, questions: Sequence[Question], paths: Sequence[Completion]
) -> dict[tuple[str, int], float]:
    """Scores the paths, each distinct one of a question once. Returns (question id, index) -> score."""
    distinct: dict[str, dict[Any, Completion]] = {question.id: {} for question in questions}
    for path in paths:
        if has_tokens(path):
            distinct[path.question_id].setdefault(chain_key(path), path)
    groups = [
        Group(question.id, question.question, question.answer, None, tuple(map(_unlabelled, found.values())))
        for question in questions
        if (found := distinct[question.id])
    ]
    scores = {(line["question_id"], line["index"]): line["score"] for line in scorer.score(groups, "paths")}
    return {
        (path.question_id, path.index): scores[path.question_id, distinct[path.question_id][chain_key(path)].index]
        for path in paths
        if has_tokens(path)
    }


def _unlabelled(path: Completion) -> Candidate:
    return Candidate(
        path.completion, 0.0, NEGATIVE, None, path.truncated, path.index, path.token_ids, path.response_mask
    )
