"""Tables of sampled paths: votes and pass@k by size, votes at equal sampled tokens, and accuracy in bins of VFT's p.

All come from one set of paths for each question, and from the greedy answers to the same questions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..json_files import iter_json_lines, require
from ..markdown import ABSENT
from ..report.measures import POINTS, SHARE
from ..report.spread import number
from ..run.folder import COMPLETIONS, PATH_CHAINS, PREDICTIONS, VFT, VOTES, RunFolder
from ..stats.comparison import BySeed, bootstrap_estimate, paired_by_seed
from ..stats.estimate import Estimate
from .cells import TextTable
from .run_results import RunResult

EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the bins of p between none right and all right
VOTERS = ("vft", "rft", "aft-bc", "rft-bc")  # whose votes are set against greedy answers
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


def path_tables(name: str, run: RunResult, rows: Sequence[tuple[str, str | None]]) -> tuple[list[Table], Curves]:
    """The tables of one run, each with its title, and its curves. `rows`: (label, model) of the page.

    A model without measured chains (`evaluate.self_consistency.chains`) has no row.
    """
    asked = {label: found for label, model in rows if model is not None and (found := _read(run, model))}
    curves = Curves(name, tuple(_curve(label, found) for label, found in asked.items()))
    if not asked:
        return [], curves
    models = {label: model for label, model in rows if model is not None}
    tables = [
        (f"{name}: majority vote by number of paths (%)", _by_size(curves.models, lambda curve: curve.vote)),
        (f"{name}: pass@k by number of paths (%)", _by_size(curves.models, lambda curve: curve.passed)),
        (f"{name}: greedy answers, and votes at equal sampled tokens of a question (%)", _at_equal_tokens(asked)),
        (
            f"{name}: paths whose vote is as accurate as the greedy answer of each row; in brackets their tokens as a"
            " multiple of the answer's",
            _reaching(dict(zip(asked, curves.models, strict=True)), models),
        ),
    ]
    vft = next((label for label, model in models.items() if model == VFT and label in asked), None)
    if vft is not None:
        paths = min(len(one.right) for found in asked.values() for by in found.values() for one in by.values())
        half = paths // 2
        for title, value in (
            (f"right paths among the other {half}", _share_right),
            (f"any right path among the other {half}", _any_right),
        ):
            where = f"{name}: {title}, by the share p of right ones among {half} of VFT's paths; difference to VFT"
            tables.append((where, _by_bin(asked, vft, half, value)))
    return tables, curves


def _read(run: RunResult, model: str) -> Questions:
    """What a model's evaluations hold; empty where they measured no chains."""
    folder, own = RunFolder(run.folder), run.names.get(model, model)
    found: Questions = {}
    for seed in run.seeds:
        files = {file: folder.evaluated(own, seed, file) for file in (PATH_CHAINS, VOTES, PREDICTIONS, COMPLETIONS)}
        if not all(path.is_file() for path in files.values()):
            continue
        lines = {
            file: {
                require(line, "question_id", str, f"{path}:{number}"): line for number, line in iter_json_lines(path)
            }
            for file, path in files.items()
        }
        found[seed] = {
            question: Asked(
                greedy=float(lines[PREDICTIONS][question]["is_correct"]),
                answer_tokens=lines[COMPLETIONS][question]["num_tokens"],
                right=chains["right"],
                tokens=chains["tokens"],
                vote={int(n): share for n, share in lines[VOTES][question]["vote"].items()},
                passed={int(n): share for n, share in lines[VOTES][question]["pass"].items()},
            )
            for question, chains in lines[PATH_CHAINS].items()
        }
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
    first = next(one for found in questions.values() for one in found.values())

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
    first = next(one for questions in asked.values() for found in questions.values() for one in found.values())
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
    voters = [label for name in VOTERS for label, model in models.items() if model == name and label in curves]

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

    So no path is used both to choose a question and to measure a model on it.
    """
    names = _bin_names()
    bins = {seed: {q: bin_of(one.right[:half]) for q, one in found.items()} for seed, found in asked[vft].items()}

    def values(label: str, number: int) -> BySeed:
        return {
            seed: {
                question: value(one.right[half:])
                for question, one in found.items()
                if bins.get(seed, {}).get(question) == number
            }
            for seed, found in asked[label].items()
        }

    counts = [
        sum(list(by_question.values()).count(number) for by_question in bins.values()) for number in range(len(names))
    ]
    rows = [("questions of all seeds", *map(str, counts))]
    own = [
        [share for found in values(vft, number).values() for share in found.values()] for number in range(len(names))
    ]
    rows.append((f"{vft} (%)", *(_share(Estimate(fmean(found))) if found else ABSENT for found in own)))
    for label in asked:
        if label != vft:
            found = [paired_by_seed(values(label, number), values(vft, number)) for number in range(len(names))]
            cells = [ABSENT if one is None else number(bootstrap_estimate(one), POINTS, brief=True) for one in found]
            rows.append((f"{label} − {vft}", *cells))
    return TextTable(("p of VFT", *names), tuple(rows))
