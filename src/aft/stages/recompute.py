"""Computes the numbers of a finished unit again from the files of the run. Needs neither a model nor torch."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.ratings import BinaryRatings, FileRatings
from ..errors import first_line
from ..evaluation.accuracy import category_accuracy, self_consistency, task_accuracy, vote_lines
from ..evaluation.assessment import (
    Assessed,
    assessment_lines,
    assessment_metrics,
    has_tokens,
    pool_metrics,
    question_shares,
)
from ..evaluation.path_chains import chain_lines, chain_metrics
from ..grading import Grader, grade, grade_all
from ..json_files import iter_json_lines, json_line, read_json
from ..labelling.labels import label_completions, replace_ratings
from ..labelling.outcomes import count_completions, count_outcomes
from ..labelling.rating_sources import rating_file
from ..labelling.ratings import describe_rated, rate_groups
from ..records import POSITIVE, REFERENCE, Completion, Group, Question, read_completions, read_groups
from ..run.folder import (
    ASSESSMENT,
    ASSESSMENT_QUESTIONS,
    COMPLETIONS,
    COUNTS,
    FROM_PREFIX,
    GROUPS,
    MANIFEST,
    METRICS,
    PATH_CHAINS,
    PATHS,
    POOL,
    POOL_QUESTIONS,
    PREDICTIONS,
    REFERENCES,
    TRAINER_STATE,
    VALIDATE,
    VALIDATION,
    VOTES,
    Unit,
)
from ..stats.estimate import to_json
from ..tasks import TRAIN
from .from_prefix import FROM_PREFIX_KEY, label_continuations
from .limits import OUTCOMES
from .plan import Plan
from .rounds import validated

Lines = list[dict[str, Any]]

# Means of floats may be added in another order on another machine.
_TOLERANCE = 1e-9
_SHOWN = 3


@dataclasses.dataclass
class Recomputed:
    """What was computed again. `numbers`: how many values were compared. `wrong`: those that differ.

    `unchecked`: what could not be compared, and why.
    """

    numbers: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)

    def compare(self, where: str, written: Any, computed: Any) -> None:
        """Compares a JSON value of a file with the one that its sources give."""
        found, compared = differences(written, computed)
        self.numbers += compared
        self.wrong += [f"{where}: {line}" for line in found[:_SHOWN]]
        if len(found) > _SHOWN:
            self.wrong.append(f"{where}: and {len(found) - _SHOWN:,} more")

    def compare_keys(self, where: str, found: Sequence[Any], wanted: Sequence[Any], kind: str) -> None:
        """Compares what a file has with what was asked for, each exactly once. `kind`: the name of one."""
        self.numbers += len(wanted)
        there, asked = set(found), set(wanted)
        for what, keys in (("lacks", asked - there), ("was not asked for", there - asked)):
            if keys:
                self.wrong.append(f"{where}: {what} {_count(len(keys), kind)}, such as {min(keys, key=str)}")
        if repeated := len(found) - len(there):
            verb = "occurs" if repeated == 1 else "occur"
            self.wrong.append(f"{where}: {_count(repeated, kind)} {verb} more than once")


def recompute(plan: Plan, unit: Unit, manifest: Mapping[str, Any]) -> Recomputed:
    """Computes the numbers of a unit again and compares them with its files.

    The configuration and the data of `plan` must be those of the unit (`Plan.changed_settings`). Raises `DataError` if
    a file cannot be read.
    """
    found = Recomputed()
    try:
        if unit.stage == "sample":
            _sample(plan, unit, manifest, found)
        elif unit.stage == "label":
            _label(plan, unit, found)
        elif unit.stage == VALIDATE:
            _validate(plan, unit, found)
        elif unit.stage == "evaluate":
            _evaluate(plan, unit, found)
        else:
            _train(unit, manifest, found)
    except (KeyError, TypeError, ValueError) as error:
        # a record that lacks a key, or too few records for what was measured
        found.wrong.append(f"numbers cannot be computed again: {type(error).__name__}: {first_line(error)}")
    return found


def differences(written: Any, computed: Any, path: str = "") -> tuple[list[str], int]:
    """Returns a line for each leaf in which two JSON values differ, and the number of leaves that were compared."""
    if isinstance(written, Mapping) and isinstance(computed, Mapping):
        pairs = [
            (f"{path}.{key}" if path else str(key), written.get(key), computed.get(key))
            for key in {**written, **computed}
        ]
    elif isinstance(written, list) and isinstance(computed, list) and len(written) == len(computed):
        pairs = [(f"{path}[{place}]", *both) for place, both in enumerate(zip(written, computed, strict=True))]
    else:
        same = written == computed or _is_close(written, computed)
        return [] if same else [f"{path or 'it'} is {_short(written)}, the files give {_short(computed)}"], 1
    checked = [differences(one, other, where) for where, one, other in pairs]
    return [line for lines, _ in checked for line in lines], sum(count for _, count in checked)


def _is_close(one: Any, other: Any) -> bool:
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return numbers and math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _count(number: int, kind: str) -> str:
    return f"{number:,} {kind}" if number == 1 else f"{number:,} {kind}s"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_json(record: Any) -> Any:
    """A record or metrics as a JSON file has them."""
    return json.loads(json_line(to_json(record)))


def _lines(path: Path) -> Lines:
    return [line for _, line in iter_json_lines(path)]


# ---- training ----


def _train(unit: Unit, manifest: Mapping[str, Any], found: Recomputed) -> None:
    """Compares what the manifest tells of a training with the training's own log."""
    state = read_json(unit.folder / TRAINER_STATE)
    if state is None:
        found.unchecked.append(f"{TRAINER_STATE} is absent")
        return
    logged = [entry for entry in state.get("log_history", []) if "loss" in entry]
    found.compare(MANIFEST, manifest.get("steps"), state.get("global_step"))
    found.compare(f"{MANIFEST}: last_log", manifest.get("last_log"), logged[-1] if logged else {})


# ---- samples and labels ----


def _sample(plan: Plan, unit: Unit, manifest: Mapping[str, Any], found: Recomputed) -> None:
    seed = unit.seed or 0
    completions = read_completions(plan.completions(unit.seed, unit.name))
    questions = plan.training_questions(seed) + plan.pool_of(unit)
    _compare_requests(found, COMPLETIONS, completions, questions, range(plan.config.sample.num_samples))
    outcomes, _ = count_completions(completions, questions, plan.task)
    counted = {
        "completions": len(completions),
        "truncated": outcomes.truncated,
        "unparsed": outcomes.unparsed,
        "tokens": sum(completion.num_tokens for completion in completions),
    }
    found.compare(MANIFEST, {key: manifest.get(key) for key in counted}, counted)
    if FROM_PREFIX_KEY in manifest:
        _continuations(plan, unit, manifest[FROM_PREFIX_KEY], completions, found)


def _continuations(
    plan: Plan, unit: Unit, counts: Mapping[str, Any], completions: Sequence[Completion], found: Recomputed
) -> None:
    """Compares continuations with the chains whose ids they begin with, and with the counts of the manifest."""
    continuations = read_completions(plan.continuations(unit.seed, unit.name))
    chains = {(completion.question_id, completion.index): completion.token_ids for completion in completions}
    for c in continuations:
        whole = None if c.prefix is None else chains.get((c.question_id, c.prefix.chain))
        begins = None if c.prefix is None or c.token_ids is None else c.token_ids[: c.prefix.tokens]
        wanted = begins if whole is None or c.prefix is None else whole[: c.prefix.tokens]
        if whole is None or (begins is not None and begins != wanted):
            found.wrong.append(f"{FROM_PREFIX}: {c.index} of '{c.question_id}' does not begin as its chain does")
    cut = {(c.question_id, c.prefix) for c in continuations}
    counted = {
        "chains": len({(name, prefix.chain) for name, prefix in cut if prefix is not None}),
        "places": len(cut),
        "completions": len(continuations),
        "tokens": sum(completion.num_tokens for completion in continuations),
    }
    found.compare(f"{MANIFEST}: {FROM_PREFIX_KEY}", {key: counts.get(key) for key in counted}, counted)


def _compare_requests(
    found: Recomputed, where: str, completions: Sequence[Completion], questions: Sequence[Question], indices: range
) -> None:
    wanted = [(question.id, index) for question in questions for index in indices]
    found.compare_keys(where, [(c.question_id, c.index) for c in completions], wanted, "completion")


def _label(plan: Plan, unit: Unit, found: Recomputed) -> None:
    section, seed = plan.config.label, unit.seed or 0
    path = plan.completions(unit.seed, unit.name)
    paths = [path] if plan.config.sample.from_prefix is None else [path, plan.continuations(unit.seed, unit.name)]
    absent = [f"labels: {path} is absent" for path in paths if not path.is_file()]
    if absent:
        found.unchecked += absent
        return
    completions, grader = read_completions(path), Grader(plan.task)
    pool = plan.pool_of(unit)
    in_pool = {question.id for question in pool}
    outside = [completion for completion in completions if completion.question_id not in in_pool]
    questions = plan.training_questions(seed)
    groups, counts = label_completions(
        questions,
        plan.task.reference_response,
        outside,
        plan.task,
        unparsed=section.unparsed,
        deduplicate=section.deduplicate,
        include_reference=section.include_reference,
        grader=grader,
    )
    groups, counts, continuations, continued = label_continuations(plan, unit, groups, counts, grader)
    inside = [completion for completion in completions if completion.question_id in in_pool]
    pool_groups, pool_counts = label_completions(
        pool, {}, inside, plan.task, unparsed=section.unparsed, deduplicate=section.deduplicate
    )
    written = read_groups(unit.folder / GROUPS)
    facts: dict[str, Any] = {}
    ratings_section = section.ratings
    if isinstance(ratings_section, FileRatings) and rating_file(ratings_section, seed).is_file():
        every = [*completions, *continuations]
        rated = rate_groups(ratings_section, groups, every, seed=seed, cache=plan.judge_cache())
        assert rated is not None
        groups, counts = replace_ratings(groups, counts, rated.ratings, section.ratings.name)
        facts = {"ratings": describe_rated(groups, rated.facts)}
    elif not isinstance(section.ratings, BinaryRatings):
        source = "an absent file" if isinstance(ratings_section, FileRatings) else f"a {section.ratings.name}"
        found.unchecked.append(f"ratings of {source}: they were taken as they stand in {GROUPS}")
        ratings = {(group.question_id, item.index): item.rating for group in written for item in group.candidates}
        groups, counts = replace_ratings(groups, counts, ratings, section.ratings.name)
    _compare_groups(found, GROUPS, written, groups)
    if unit.round == 1:
        _compare_groups(found, POOL, read_groups(plan.pool(unit.seed)), pool_groups)
    outcomes, _ = count_outcomes(outside, questions, grader)
    computed = {**vars(counts), **facts, "pool": vars(pool_counts), OUTCOMES: vars(outcomes)}
    if continued is not None:
        computed[FROM_PREFIX_KEY] = vars(continued)
    in_file = dict(read_json(unit.folder / COUNTS) or {})
    if not facts:
        in_file.pop("ratings", None)
    if OUTCOMES not in in_file:  # written by an earlier version
        del computed[OUTCOMES]
    found.compare(COUNTS, in_file, _as_json(computed))


def _compare_groups(found: Recomputed, where: str, written: Sequence[Group], computed: Sequence[Group]) -> None:
    keys = [group.question_id for group in written]
    found.compare_keys(where, keys, [group.question_id for group in computed], "group")
    by_id = {group.question_id: group for group in computed}
    for group in written:
        if group.question_id in by_id:
            found.compare(f"{where}: group '{group.question_id}'", _as_json(group), _as_json(by_id[group.question_id]))


# ---- validation of rounds ----


def _validate(plan: Plan, unit: Unit, found: Recomputed) -> None:
    questions = plan.validation_questions(unit.seed or 0)
    completions = read_completions(unit.folder / COMPLETIONS)
    _compare_requests(found, COMPLETIONS, completions, questions, range(1))
    known = {question.id for question in questions}
    predictions = grade_all(plan.task, [c for c in completions if c.question_id in known], questions)
    found.compare(PREDICTIONS, _lines(unit.folder / PREDICTIONS), _as_json(predictions))
    found.compare(VALIDATION, read_json(unit.folder / VALIDATION), _as_json(validated(predictions)))


# ---- evaluation ----


def _evaluate(plan: Plan, unit: Unit, found: Recomputed) -> None:
    written = read_json(unit.folder / METRICS) or {}
    computed: dict[str, Any] = {"model": unit.name, "seed": unit.seed, "split": plan.config.evaluate.split}
    for part in (_predictions, _assessment, _pool, _votes):
        computed.update(part(plan, unit, found))
    found.compare(METRICS, {key: written.get(key) for key in computed}, _as_json(computed))


def _test_questions(plan: Plan, unit: Unit, number: int | None) -> list[Question]:
    section = plan.config.evaluate
    return plan.task.load(section.split, seed=unit.seed or 0)[: section.num_questions][:number]


def _predictions(plan: Plan, unit: Unit, found: Recomputed) -> dict[str, Any]:
    questions = _test_questions(plan, unit, None)
    completions = read_completions(unit.folder / COMPLETIONS)
    _compare_requests(found, COMPLETIONS, completions, questions, range(1))
    known = {question.id for question in questions}
    predictions = grade_all(plan.task, [c for c in completions if c.question_id in known], questions)
    found.compare(PREDICTIONS, _lines(unit.folder / PREDICTIONS), _as_json(predictions))
    return {"task_accuracy": task_accuracy(predictions), "by_category": category_accuracy(predictions)}


def _scored(path: Path) -> Lines:
    """The lines of a file with scores. A score that is not finite is null there."""
    return [{**line, "score": -math.inf if line.get("score") is None else line["score"]} for line in _lines(path)]


def _compare_scored(found: Recomputed, where: str, lines: Lines, wanted: Sequence[tuple[Any, ...]]) -> None:
    keys = [(line.get("question_id"), line.get("index"), line.get("is_positive")) for line in lines]
    found.compare_keys(where, keys, wanted, "chain")


def _assessment(plan: Plan, unit: Unit, found: Recomputed) -> dict[str, Any]:
    section = plan.config.evaluate.assessment
    questions = plan.task.load(TRAIN, seed=unit.seed or 0)[: section.num_questions] if section else []
    per_label = section.per_label if section else 0
    by_id, assessed = {question.id: question for question in questions}, {q.id: Assessed() for q in questions}
    for start in range(0, section.max_samples, section.samples_per_round) if section else ():
        missing = [question for question in questions if not assessed[question.id].is_full(per_label)]
        if not missing or section is None:
            break
        path = unit.folder / f"own-{start:04d}.jsonl"
        completions = read_completions(path)
        stop = min(start + section.samples_per_round, section.max_samples)
        _compare_requests(found, path.name, completions, missing, range(start, stop))
        for completion in completions:
            if completion.question_id in by_id:
                graded = grade(plan.task, completion, by_id[completion.question_id])
                assessed[completion.question_id].add(completion, graded.is_correct, per_label)
    lines, references = _scored(unit.folder / ASSESSMENT), _scored(unit.folder / REFERENCES)
    wanted = [
        (question_id, completion.index, is_positive)
        for question_id, chains in assessed.items()
        if chains.is_full(per_label)
        for is_positive, side in ((True, chains.positives), (False, chains.negatives))
        for completion in side
    ]
    _compare_scored(found, ASSESSMENT, lines, wanted)
    known = [question.id for question in questions if question.rationale is not None]
    found.compare_keys(REFERENCES, [line["question_id"] for line in references], known, "reference")
    found.compare(ASSESSMENT_QUESTIONS, _lines(unit.folder / ASSESSMENT_QUESTIONS), assessment_lines(assessed, lines))
    return assessment_metrics(assessed, lines, references, dataclasses.asdict(section) if section else None)


def _pool(plan: Plan, unit: Unit, found: Recomputed) -> dict[str, Any]:
    path = plan.reads(unit).get("pool")
    lines = _scored(unit.folder / POOL)
    if isinstance(path, Path) and path.is_file():
        wanted = [
            (group.question_id, candidate.index, candidate.label in (POSITIVE, REFERENCE))
            for group in read_groups(path)
            for candidate in group.candidates
            if has_tokens(candidate)
        ]
        _compare_scored(found, POOL, lines, wanted)
    elif path is not None:
        found.unchecked.append(f"{POOL}: {path} is absent")
    shares = [{"question_id": key, "value": value} for key, value in question_shares(lines).items()]
    found.compare(POOL_QUESTIONS, _lines(unit.folder / POOL_QUESTIONS), shares)
    return {"pool": pool_metrics(lines, questions=len(plan.pool_questions(unit.seed or 0)))}


def _votes(plan: Plan, unit: Unit, found: Recomputed) -> dict[str, Any]:
    section = plan.config.evaluate.self_consistency
    if section is None:
        return {"self_consistency": None}
    questions = _test_questions(plan, unit, section.num_questions)
    completions = read_completions(unit.folder / PATHS)
    _compare_requests(found, PATHS, completions, questions, range(section.num_paths))
    known = {question.id for question in questions}
    graded = grade_all(plan.task, [c for c in completions if c.question_id in known], questions)
    lines = vote_lines(graded, questions, plan.task, section.ns)
    found.compare(VOTES, _lines(unit.folder / VOTES), _as_json(lines))
    metrics = {**self_consistency(lines), **section.recorded()}
    if section.chains:
        written = _lines(unit.folder / PATH_CHAINS)
        known_scores = [(str(line.get("question_id")), line.get("scores") or ()) for line in written]
        scores = {(name, index): score for name, own in known_scores for index, score in enumerate(own)}
        chains = chain_lines(graded, [c for c in completions if c.question_id in known], scores)
        found.compare(PATH_CHAINS, written, _as_json(chains))
        metrics |= chain_metrics(chains)
    return {"self_consistency": metrics}
