"""Tables of sampled paths: votes and pass@k by size, votes at equal sampled tokens, and accuracy in bins of VFT's p.

All come from one set of paths for each question, and from the greedy answers to the same questions. Rows of one table
are of the same seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import DataError
from ..json_files import iter_json_lines, require
from ..markdown import ABSENT
from ..report.measures import POINTS, SHARE
from ..report.spread import number
from ..run.folder import BASE, COMPLETIONS, PATH_CHAINS, PREDICTIONS, VFT, VOTES, RunFolder
from ..stats.bootstrap import bootstrap_interval
from ..stats.comparison import BySeed, bootstrap_estimate, paired_by_seed
from ..stats.estimate import Estimate
from .cells import TextTable
from .methods import resolve
from .run_results import RunResult

EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the bins of p between none right and all right
VOTERS = ("vft", "rft", "aft-bc", "rft-bc")  # whose votes are set against greedy answers
FEWEST_QUESTIONS = 10  # of a bin that has figures
Table = tuple[str, TextTable]


@dataclass(frozen=True)
class Asked:
    """One question as a model answered it, greedily and by paths. `right`: of each path, in the order of sampling."""

    greedy: float
    answer_tokens: int
    right: Sequence[bool]
    tokens: Sequence[int]
    vote: Mapping[int, float]
    passed: Mapping[int, float]


Questions = dict[int, dict[str, Asked]]  # seed -> question


@dataclass(frozen=True)
class Curve:
    """What a picture shows of a model, in shares: by number of paths, and `tokens` of a path and of a greedy answer."""

    label: str
    vote: Mapping[int, Estimate]
    passed: Mapping[int, Estimate]
    greedy: Estimate
    path_tokens: float
    answer_tokens: float


@dataclass(frozen=True)
class Curves:
    """The curves of one run, which the page calls `run`."""

    run: str
    models: tuple[Curve, ...]


def by_part(run: RunResult, measures: Sequence[str]) -> list[RunResult]:
    """The run, or each part of its mixture as a run, with the measures of the questions that have paths.

    Values by question stay those of all questions. A run without measured chains stays as it is.
    """
    asked = {name: run.values("paths_distinct_right", name) for name in run.models}
    questions = {question for by_seed in asked.values() for found in by_seed.values() for question in found}
    if not questions:
        return [run]
    if run.task != "mixture":
        return [_of_paths(run, measures)]
    parts = sorted({question.split("/")[0] for question in questions})
    return [_of_paths(_part(run, part), measures) for part in parts]


def _part(run: RunResult, part: str) -> RunResult:
    def values(measure: str, model: str) -> BySeed:
        return {
            seed: {question: value for question, value in found.items() if question.startswith(f"{part}/")}
            for seed, found in run.values(measure, model).items()
        }

    return dataclasses.replace(run, task=part, part=part, values=values)


def _of_paths(run: RunResult, measures: Sequence[str]) -> RunResult:
    models: dict[str, Mapping[str, Any]] = {}
    for name, entry in run.models.items():
        asked, found = run.values("paths_distinct_right", name), dict(entry)
        for measure in measures:
            known = {
                seed: [value for question, value in by_question.items() if question in asked.get(seed, {})]
                for seed, by_question in run.values(measure, name).items()
            }
            estimate = _estimate({seed: values for seed, values in known.items() if values}, name == BASE)
            family, _, size = measure.partition("@")
            found[family] = {**found[family], size: estimate} if size else estimate
        models[name] = found
    return dataclasses.replace(run, models=models)


def _estimate(values: Mapping[int, Sequence[float]], one_checkpoint: bool) -> Estimate | None:
    """Mean over questions, over seeds. Where one value stands for all, it has its interval over questions."""
    single = one_checkpoint or len(values) == 1
    by_seed = {}
    for seed, own in values.items():
        low, high = bootstrap_interval(own) if single else (None, None)
        by_seed[seed] = Estimate(fmean(own), low=low, high=high, n=len(own))
    return Estimate.over_seeds(by_seed, one_checkpoint=one_checkpoint)


def path_tables(
    name: str, run: RunResult, rows: Sequence[tuple[str, str | None]]
) -> tuple[list[Table], Curves, list[str]]:
    """The tables of one run, each with its title, its curves, and notes. `rows`: (label, model) of the page.

    A model without measured chains (`evaluate.self_consistency.chains`) has no row.
    """
    asked = {label: found for label, model in rows if model is not None and (found := _read(run, model))}
    if not asked:
        return [], Curves(name, ()), []
    asked, notes = _alike(name, asked)
    curves = Curves(name, tuple(_curve(label, found) for label, found in asked.items()))
    models = {label: model for label, model in rows if model is not None and label in asked}
    tables: list[Table] = []
    if any(curve.vote for curve in curves.models):
        tables = [
            (f"{name}: majority vote by number of paths (%)", _by_size(curves.models, lambda curve: curve.vote)),
            (f"{name}: pass@k by number of paths (%)", _by_size(curves.models, lambda curve: curve.passed)),
            (f"{name}: greedy answers, and votes at equal sampled tokens of a question (%)", _at_equal_tokens(asked)),
            (
                f"{name}: paths whose vote is as accurate as the greedy answer of each row; in brackets their tokens as"
                " a multiple of the answer's",
                _reaching(dict(zip(asked, curves.models, strict=True)), models),
            ),
        ]
    vft = next((label for label, model in models.items() if model == VFT), None)
    half = min((len(one.right) for found in asked.values() for one in _every(found)), default=0) // 2
    if vft is not None and half:
        for title, value in (
            (f"right paths among the other {half}", _share_right),
            (f"any right path among the other {half}", _any_right),
        ):
            where = f"{name}: {title}, by the share p of right ones among {half} of VFT's paths; difference to VFT"
            tables.append((where, _by_bin(asked, vft, half, value)))
    return tables, curves, notes


def _every(questions: Questions) -> Iterator[Asked]:
    return (one for found in questions.values() for one in found.values())


def _alike(name: str, asked: Mapping[str, Questions]) -> tuple[dict[str, Questions], list[str]]:
    """The seeds that all models have, with the numbers of paths that all have, and notes on what that leaves."""
    every = {seed for found in asked.values() for seed in found}
    seeds = sorted(every.intersection(*asked.values()))
    of_seeds = {label: {seed: found[seed] for seed in seeds} for label, found in asked.items()}
    of_seeds = {label: found for label, found in of_seeds.items() if found}
    sizes = [set(one.vote) for found in of_seeds.values() for one in _every(found)]
    common = sorted(set[int]().union(*sizes).intersection(*sizes))
    counts = sorted({len(found) for by_seed in of_seeds.values() for found in by_seed.values()})
    notes = [f"{name}: paths were sampled for {' or '.join(map(str, counts))} questions"] if counts else []
    if len(seeds) < len(every):
        shown = f"are of seeds {', '.join(map(str, seeds))}" if seeds else "are left out"
        notes.append(f"{name}: the tables of paths {shown}, as its models were not evaluated on the same seeds")

    def trimmed(one: Asked) -> Asked:
        vote, passed = ({n: by_size[n] for n in common} for by_size in (one.vote, one.passed))
        return dataclasses.replace(one, vote=vote, passed=passed)

    return {
        label: {seed: {q: trimmed(one) for q, one in found.items()} for seed, found in by_seed.items()}
        for label, by_seed in of_seeds.items()
    }, notes


def _read(run: RunResult, model: str) -> Questions:
    """What a model's evaluations hold; empty where they measured no chains."""
    folder, own = RunFolder(run.folder), run.names.get(model, model)
    found: Questions = {}
    for seed in run.seeds:
        files = {file: folder.evaluated(own, seed, file) for file in (PATH_CHAINS, VOTES, PREDICTIONS, COMPLETIONS)}
        if not all(path.is_file() for path in files.values()):
            continue
        lines = {file: _lines(path, run.part) for file, path in files.items()}
        asked = {}
        for question, (chains, at) in lines[PATH_CHAINS].items():
            beside = [lines[file].get(question) for file in (VOTES, PREDICTIONS, COMPLETIONS)]
            if None in beside:
                raise DataError(f"{at}: question '{question}' is not in all other files of {model}")
            (votes, at_votes), (answer, at_answer), (completion, at_completion) = filter(None, beside)
            vote, passed = (require(votes, family, dict, at_votes) for family in ("vote", "pass"))
            asked[question] = Asked(
                greedy=float(require(answer, "is_correct", bool, at_answer)),
                answer_tokens=require(completion, "num_tokens", int, at_completion),
                right=require(chains, "right", list, at),
                tokens=require(chains, "tokens", list, at),
                vote={int(n): share for n, share in vote.items()},
                passed={int(n): share for n, share in passed.items()},
            )
        if asked:
            found[seed] = asked
    return found


def _lines(path: Path, part: str | None) -> dict[str, tuple[dict[str, Any], str]]:
    """Question -> its line, and where that stands."""
    found = {}
    for place, line in iter_json_lines(path):
        question = require(line, "question_id", str, f"{path}:{place}")
        if part is None or question.startswith(f"{part}/"):
            found[question] = (line, f"{path}:{place}")
    return found


def _over_seeds(questions: Questions, value: Callable[[Asked], float]) -> Estimate:
    """Mean over questions of a value, over seeds."""
    means = {seed: Estimate(fmean(map(value, found.values())), n=len(found)) for seed, found in questions.items()}
    estimate = Estimate.over_seeds(means)
    assert estimate is not None  # a model without a seed is left out before
    return estimate


def _mean(questions: Questions, value: Callable[[Asked], float]) -> float:
    return fmean(fmean(map(value, found.values())) for found in questions.values())


def _curve(label: str, questions: Questions) -> Curve:
    first = next(_every(questions))

    def by_size(of: Callable[[Asked], Mapping[int, float]]) -> dict[int, Estimate]:
        return {n: _over_seeds(questions, lambda one, n=n: of(one)[n]) for n in of(first)}  # type: ignore[misc]

    return Curve(
        label,
        by_size(lambda one: one.vote),
        by_size(lambda one: one.passed),
        _over_seeds(questions, lambda one: one.greedy),
        _mean(questions, lambda one: fmean(one.tokens)),
        _mean(questions, lambda one: one.answer_tokens),
    )


def _by_size(curves: Sequence[Curve], of: Callable[[Curve], Mapping[int, Estimate]]) -> TextTable:
    sizes = sorted({size for curve in curves for size in of(curve)})
    rows = [(curve.label, *(_share(of(curve).get(size)) for size in sizes)) for curve in curves]
    return TextTable(("method", *map(str, sizes)), tuple(rows))


def _share(value: Estimate | None) -> str:
    return number(value, SHARE, brief=True, alone="")


def interpolated(by_size: Mapping[int, float], n: float) -> float | None:
    """The value at n paths, which may be a fraction: linear in log n between measured sizes, None beyond them."""
    sizes = sorted(by_size)
    if not sizes[0] * (1 - 1e-9) <= n <= sizes[-1] * (1 + 1e-9):
        return None
    n = min(max(n, sizes[0]), sizes[-1])
    above = next(size for size in sizes if size >= n)
    below = max(size for size in sizes if size <= n)
    if above == below:
        return by_size[above]
    weight = math.log(n / below) / math.log(above / below)
    return (1 - weight) * by_size[below] + weight * by_size[above]


def _at_equal_tokens(asked: Mapping[str, Questions]) -> TextTable:
    """A column for each number of paths of the cheapest model; the others vote with as many paths as it pays for."""
    cost = {label: _mean(questions, lambda one: fmean(one.tokens)) for label, questions in asked.items()}
    cheapest = min(cost.values())
    first = next(one for questions in asked.values() for one in _every(questions))
    budgets = [size * cheapest for size in sorted(first.vote) if size > 1]
    rows = []
    for label, questions in asked.items():
        cells = [_share(_over_seeds(questions, lambda one: one.greedy))]
        cells.append(f"{_mean(questions, lambda one: one.answer_tokens):.1f}")
        for budget in budgets:
            n = budget / cost[label]
            known = interpolated(first.vote, n) is not None
            vote = _over_seeds(questions, lambda one, n=n: interpolated(one.vote, n) or 0.0) if known else None  # type: ignore[misc]
            cells.append(_share(vote))
        rows.append((label, *cells))
    return TextTable(
        ("method", "greedy", "its tokens", *(f"vote, {budget:.0f} tokens" for budget in budgets)), tuple(rows)
    )


def _reaching(curves: Mapping[str, Curve], models: Mapping[str, str]) -> TextTable:
    """Rows: whose greedy answer is to be reached; columns: whose vote does, by the fewest measured paths."""
    wanted = [resolve(name, list(models.values())) for name in VOTERS]
    voters = [label for name in wanted for label, model in models.items() if model == name]

    def cell(target: Curve, voter: Curve) -> str:
        goal = target.greedy.mean
        for n, vote in sorted(voter.vote.items()):
            if goal is not None and vote.mean is not None and vote.mean >= goal:
                return f"{n} ({n * voter.path_tokens / target.answer_tokens:.1f}×)"
        return f"> {max(voter.vote)}"

    rows = [
        (label, _share(own.greedy), *(cell(own, curves[voter]) for voter in voters)) for label, own in curves.items()
    ]
    return TextTable(("greedy answer of", "its accuracy", *(f"votes of {voter}" for voter in voters)), tuple(rows))


def bin_of(right: Sequence[bool]) -> int:
    """The bin of a share of right paths: 0 for none, the last for all, those between by the upper edge in `EDGES`."""
    share = sum(right) / len(right)
    if share in (0.0, 1.0):
        return 0 if share == 0 else len(EDGES)
    return next(number for number, edge in enumerate(EDGES) if share <= edge)


def _bin_names() -> list[str]:
    between = [f"({low:g}, {high:g}{')' if high == 1 else ']'}" for low, high in itertools.pairwise(EDGES)]
    return ["0", *between, "1"]


def _share_right(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def _any_right(right: Sequence[bool]) -> float:
    return float(any(right))


def _by_bin(asked: Mapping[str, Questions], vft: str, half: int, value: Callable[[Sequence[bool]], float]) -> TextTable:
    """A column for each bin. The first half of VFT's paths decides a question's bin, the second halves are compared.

    So no path is used both to choose a question and to measure a model on it. A bin of few questions has no figures.
    """
    names = _bin_names()
    bins = {seed: {q: bin_of(one.right[:half]) for q, one in found.items()} for seed, found in asked[vft].items()}

    def values(label: str, number: int) -> BySeed:
        return {
            seed: {
                question: value(one.right[half : 2 * half])
                for question, one in found.items()
                if bins.get(seed, {}).get(question) == number
            }
            for seed, found in asked[label].items()
        }

    own = [values(vft, number) for number in range(len(names))]
    counts = [len({question for found in by_seed.values() for question in found}) for by_seed in own]
    enough = [count >= FEWEST_QUESTIONS for count in counts]
    shares = [[share for found in by_seed.values() for share in found.values()] for by_seed in own]
    rows = [
        ("questions", *map(str, counts)),
        ("the same, counted on each seed", *(str(len(found)) for found in shares)),
        (
            f"{vft} (%)",
            *(_share(Estimate(fmean(found))) if many else ABSENT for found, many in zip(shares, enough, strict=True)),
        ),
    ]
    for label in asked:
        if label != vft:
            found = [paired_by_seed(values(label, number), own[number]) for number in range(len(names))]
            cells = [
                number(bootstrap_estimate(one), POINTS, brief=True) if many and one is not None else ABSENT
                for one, many in zip(found, enough, strict=True)
            ]
            rows.append((f"{label} − {vft}", *cells))
    return TextTable(("p of VFT", *names), tuple(rows))
