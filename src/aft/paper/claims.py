"""The paper's claims as comparisons between models of one run, and one rule by which each is held or not.

A comparison says that model `a` is above model `b` in a measure. It is **held** if the paired bootstrap interval of
a − b over questions lies above 0, a − b is above 0 on every seed, of which there are at least three, and its mean is
at least `at_least`. It is **not tested** where a model or a measure is missing, there are fewer seeds, or both sides of
a vote or pass@k are above 97 %. Else it is **not held**. A claim is held if in each of its clauses some comparison is.

A comparison `within` noise is held if the interval holds 0 or lies above it. An interval that holds 0 and reaches
2 points or more below it says too little: not tested. One that lies below 0 is not held.

A comparison over `sizes` judges how much larger a − b is with the largest base model than with the smallest. Both runs
have the same test questions, so this difference of differences is paired by question. They share nothing else: seed 0
of one size has nothing to do with seed 0 of another. So there is a second interval, Welch's over the seeds' gains. The
rule reads the lower of the two lower bounds and the higher of the two upper ones, and no seed is paired with another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..report.measures import Kind, measure_of
from ..report.spread import amount
from ..run.folder import round_name
from ..stats.comparison import BySeed, differences, paired_by_seed
from ..stats.intervals import welch_interval
from .methods import NUMBER, resolve
from .run_results import RunResult
from .specs import LOSSES, ROUNDS, RULES, WORTH

HELD, NOT_HELD, NOT_TESTED = "held", "not held", "not tested"
FEWEST_SEEDS = 3
_CEILING = 0.97  # of a vote or pass@k: above it on both sides there is no room for a difference
_PRECISION = 0.02  # of a comparison within noise, as a share
TASK, POOL, PERPLEXITY, VOTE = "task_accuracy", "pool_assessment_accuracy", "pool_perplexity", "vote_gain"


@dataclass(frozen=True)
class Comparison:
    """`a` is above `b` in `measure`, by `at_least` on average; `within`: `a` is not below `b` by more than noise.

    `sizes`: not `a` is above `b`, but a − b with the largest base model above a − b with the smallest.
    A model is a method's name; `vft=steps`, VFT with as many steps as alignment has; or one of a series:
    `aft-dc-k:first`, `:last`, `:best` (by task accuracy).
    """

    a: str
    b: str
    measure: str = TASK
    at_least: float = 0.0
    within: bool = False
    sizes: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim holds if every clause does. A clause holds if one of its comparisons does."""

    text: str
    clauses: tuple[tuple[Comparison, ...], ...]

    @property
    def comparisons(self) -> Iterator[Comparison]:
        """Those of every clause."""
        return (comparison for clause in self.clauses for comparison in clause)

    @property
    def over_sizes(self) -> bool:
        """True if the claim needs two runs, whose base models differ in size."""
        return any(comparison.sizes for comparison in self.comparisons)

    @property
    def over_series(self) -> bool:
        """True if the claim speaks of a series, such as several k of a method."""
        return any(":" in name for comparison in self.comparisons for name in (comparison.a, comparison.b))


@dataclass(frozen=True)
class Verdict:
    """What became of a claim in one run, and the figures behind it."""

    claim: str
    run: str
    status: str
    evidence: tuple[str, ...]


def _above(a: str, b: str, measure: str = TASK, at_least: float = 0.0) -> tuple[Comparison, ...]:
    return (Comparison(a, b, measure, at_least),)


_LABELS = {"aft": "AFT without a constraint", "rrhf": "RRHF", "pro": "PRO", "dpo": "DPO"}
_GAINING = {"rft": "RFT", "aft-bc": "AFT BC", "rft-bc": "RFT + AFT BC"}
_WITH = {"aft": "aft-bc", "rrhf": "rrhf-dc", "pro": "pro-dc", "dpo": "dpo-dc"}

_CHAIN_LABELS = {
    "rft": "RFT",
    "rft-tokens": "RFT with as many tokens",
    "aft-bc": "AFT BC",
    "rft-bc": "RFT + AFT BC",
    "rft-balanced": "RFT + AFT balanced",
}

CLAIMS = {
    "misassesses": Claim(
        "VFT misassesses: its assessment accuracy is 5 points or more below what RFT or AFT reaches",
        (tuple(Comparison(name, "vft", POOL, 0.05) for name in ("aft-dc", "aft-bc", "rft")),),
    ),
    "rft-vft": Claim("RFT is above VFT", (_above("rft", "vft"),)),
    "rft-vft-steps": Claim("RFT is above VFT at equal steps", (_above("rft", "vft=steps"),)),
    "aft-dc-vft": Claim("AFT DC is above VFT at equal steps", (_above("aft-dc", "vft=steps"),)),
    "aft-bc-vft": Claim("AFT BC is above VFT at equal steps", (_above("aft-bc", "vft=steps"),)),
    "rft-bc-vft": Claim("RFT + AFT BC is above VFT at equal steps", (_above("rft-bc", "vft=steps"),)),
    "aft-dc-rft": Claim("AFT DC is above RFT", (_above("aft-dc", "rft"),)),
    "aft-bc-rft": Claim("AFT BC is above RFT", (_above("aft-bc", "rft"),)),
    **{
        f"{name}-{unit}": Claim(f"{label} is above RFT with as many {unit}", (_above(name, f"rft-{unit}"),))
        for unit in ("sequences", "tokens")
        for name, label in (("aft-dc", "AFT DC"), ("aft-bc", "AFT BC"))
    },
    "rft-bc-rft": Claim("RFT with AFT's term beside it is above RFT", (_above("rft-bc", "rft"),)),
    "rft-bc-sequences": Claim(
        "RFT with AFT's term beside it is above RFT with as many sequences", (_above("rft-bc", "rft-sequences"),)
    ),
    **{
        f"degrades-{loss}": Claim(
            f"{_LABELS[loss]} lowers accuracy, or raises perplexity by 0.05 or more, while assessment accuracy rises",
            ((Comparison("vft", loss), Comparison(loss, "vft", PERPLEXITY, 0.05)), _above(loss, "vft", POOL)),
        )
        for loss in LOSSES
    },
    **{
        f"repaired-{loss}": Claim(
            f"The constraint repairs {loss.upper()}: with it, it is above itself without and above VFT",
            (_above(_WITH[loss], loss), _above(_WITH[loss], "vft")),
        )
        for loss in LOSSES
    },
    "rdc2": Claim("RDC2 is 5 points or more below RDC1", (_above("aft-dc", "aft-dc2", at_least=0.05),)),
    **{
        f"rounds-{name}": Claim(
            f"Rounds raise {label}: its round {ROUNDS} is above its round 1", (_above(round_name(name, ROUNDS), name),)
        )
        for name, label in (("rft", "RFT"), ("aft-bc", "AFT BC"), ("rft-bc", "RFT + AFT BC"))
    },
    **{
        f"rounds-{name}-rft": Claim(
            f"{label} is above RFT in round {ROUNDS}", (_above(round_name(name, ROUNDS), round_name("rft", ROUNDS)),)
        )
        for name, label in (("aft-bc", "AFT BC"), ("rft-bc", "RFT + AFT BC"))
    },
    "paths-aft-dc": Claim("AFT DC gains more from self-consistency than VFT", (_above("aft-dc", "vft", VOTE),)),
    "paths-aft-bc": Claim("AFT BC gains more from self-consistency than VFT", (_above("aft-bc", "vft", VOTE),)),
    **{
        f"within-{name}": Claim(
            f"{label} is within noise of the best fixed β, which is chosen on these questions",
            ((Comparison(name, "aft-bc-beta:best", within=True),),),
        )
        for label, name in (*RULES, ("detached", "aft-dc"), ("no constraint", "aft"))
    },
    "rft-bc-tokens": Claim(
        "RFT with AFT's term beside it is above RFT with as many tokens", (_above("rft-bc", "rft-tokens"),)
    ),
    "rft-balanced-rft": Claim("RFT with the balanced rule beside it is above RFT", (_above("rft-balanced", "rft"),)),
    **{
        f"{kind}-{a}-{b}": Claim(
            f"{worth}: {_CHAIN_LABELS[a]} is above {_CHAIN_LABELS[b]}"
            if b == "rft-tokens"
            else f"{_CHAIN_LABELS[a]} is above {_CHAIN_LABELS[b]} in {plain}",
            (_above(a, b, measure),),
        )
        for kind, measure, plain, worth in (
            ("pass", "pass@4", "pass@4", "Wrong chains show their worth in pass@4"),
            ("vote", "vote@64", "votes of 64", "Wrong chains show their worth in votes of 64"),
            (
                "differ",
                "right_pairs_differ",
                "pairs of right paths that differ",
                "Wrong chains keep right ones diverse",
            ),
            ("entropy", "entropy", "entropy", "Wrong chains keep the entropy up"),
        )
        for a, b in WORTH
    },
    "pass-rft-vft": Claim("RFT raises pass@4: RFT is above VFT", (_above("rft", "vft", "pass@4"),)),
    "vote-rft-vft": Claim("RFT raises the vote of 64: RFT is above VFT", (_above("rft", "vft", "vote@64"),)),
    "narrows-differ": Claim(
        "RFT narrows: fewer pairs of right paths differ than with VFT", (_above("vft", "rft", "right_pairs_differ"),)
    ),
    "narrows-entropy": Claim("RFT narrows: its entropy is below that of VFT", (_above("vft", "rft", "entropy"),)),
    "k": Claim(
        "Accuracy rises with k: the largest is above the smallest, and above VFT",
        (_above("aft-dc-k:last", "aft-dc-k:first"), _above("aft-dc-k:last", "vft")),
    ),
    **{
        f"k-{name}": Claim(
            f"{label} gains with k: the largest is above the smallest", (_above(f"{name}-k:last", f"{name}-k:first"),)
        )
        for name, label in _GAINING.items()
    },
    **{
        f"grows-{name}": Claim(
            f"{label}'s gain over VFT at equal steps grows: with the largest model it is above 0 and the smallest's",
            ((Comparison(name, "vft=steps", sizes=True),), _above(name, "vft=steps")),
        )
        for name, label in _GAINING.items()
    },
    "grows-rft-bc-rft": Claim(
        "RFT + AFT BC's gain over RFT grows: with the largest model it is above 0 and the smallest's",
        ((Comparison("rft-bc", "rft", sizes=True),), _above("rft-bc", "rft")),
    ),
    "keeps-rft-bc-rft": Claim(
        "RFT + AFT BC's gain over RFT stays: with the largest model, above 0 and below the smallest's by noise at most",
        ((Comparison("rft-bc", "rft", within=True, sizes=True),), _above("rft-bc", "rft")),
    ),
    "beta": Claim(
        "Accuracy over β rises, then falls: the best β, chosen on these questions, is above both ends",
        (_above("aft-bc-beta:best", "aft-bc-beta:first"), _above("aft-bc-beta:best", "aft-bc-beta:last")),
    ),
}


def verdict_on(key: str, run: RunResult, name: str, smallest: RunResult | None = None) -> Verdict:
    """The verdict on a claim in one run, which the table calls `name`. `smallest`: of a claim over sizes."""
    claim, evidence, states = CLAIMS[key], [], []
    for clause in claim.clauses:
        found = [
            _over_sizes(comparison, run, smallest) if comparison.sizes else _compare(comparison, run)
            for comparison in clause
        ]
        evidence += [text for _, text in found]
        states.append(_any([status for status, _ in found]))
    status = NOT_HELD if NOT_HELD in states else NOT_TESTED if NOT_TESTED in states else HELD
    return Verdict(claim.text, name, status, tuple(evidence))


def _any(states: Sequence[str]) -> str:
    """Status of a clause: held if one comparison is, else not tested if one was not, else not held."""
    return HELD if HELD in states else NOT_TESTED if NOT_TESTED in states else NOT_HELD


def _compare(comparison: Comparison, run: RunResult) -> tuple[str, str]:
    """Status and figures of one comparison."""
    measure = measure_of(comparison.measure)
    named, a, b = _sides(comparison, run)
    if a is None or b is None:
        return NOT_TESTED, f"{measure.words}: {named}"
    found = paired_by_seed(a, b)
    if found is None:
        return NOT_TESTED, f"{measure.words}: not measured by question for both sides of {named}"
    text = f"{named}, {measure.words}: {show(found, measure.kind)}"
    if comparison.measure == "right_pairs_differ":
        text += f"; on the {found['n']} questions where both have two right paths"
    if "@" in comparison.measure and all(_overall(side) > _CEILING for side in (a, b)):
        return NOT_TESTED, f"{text}; both above {_CEILING:.0%}"
    means = [seed["mean"] for seed in found["by_seed"].values() if seed["mean"] is not None]
    if len(means) < FEWEST_SEEDS or found["bootstrap_low"] is None:
        return NOT_TESTED, f"{text}; {len(means)} of {FEWEST_SEEDS} seeds"
    if comparison.within:
        return _within(found["bootstrap_low"], found["bootstrap_high"]), text
    held = found["bootstrap_low"] > 0 and min(means) > 0 and found["mean"] >= comparison.at_least
    return HELD if held else NOT_HELD, text


def _over_sizes(comparison: Comparison, run: RunResult, smallest: RunResult | None) -> tuple[str, str]:
    """Status and figures of a comparison of differences: with the largest model, and with the smallest."""
    measure = measure_of(comparison.measure)
    ends, texts, gains = [], [], []
    for own, end in ((run, "largest"), *([(smallest, "smallest")] if smallest else [])):
        named, a, b = _sides(comparison, own, f"with the {end} model")
        if a is None or b is None:
            return NOT_TESTED, f"{measure.words}: {named}"
        found = paired_by_seed(a, b)
        if found is None:
            return NOT_TESTED, f"{measure.words}: not measured by question for both sides of {named}, {end} model"
        ends.append((f"({named}, {end} model)", differences(a, b)))
        texts.append(f"{end} model {show(found, measure.kind)}")
        gains.append([seed["mean"] for seed in found["by_seed"].values() if seed["mean"] is not None])
    if len(ends) < 2:
        return NOT_TESTED, f"{measure.words}: base models of one size only"
    named = " − ".join(name for name, _ in ends)
    found = paired_by_seed(*(values for _, values in ends))
    if found is None:
        return NOT_TESTED, f"{measure.words}: no question is common to both sides of {named}"
    over_questions = found["bootstrap_low"], found["bootstrap_high"]
    over_seeds = welch_interval(gains[0], gains[1])
    shown = [
        f"[{', '.join(amount(bound, measure.kind.difference) for bound in bounds)}] over {of}"
        for bounds, of in ((over_questions, "questions"), (over_seeds, "seeds"))
    ]
    mean = amount(found["mean"], measure.kind.difference)
    text = f"{named}, {measure.words}: {mean} {', '.join(shown)}; {'; '.join(texts)}"
    known = [bound for bound in (*over_questions, *over_seeds) if bound is not None]
    seeds = min(map(len, gains))
    if seeds < FEWEST_SEEDS or len(known) < 4:
        return NOT_TESTED, f"{text}; {seeds} of {FEWEST_SEEDS} seeds"
    if comparison.within:
        return _within(min(known), max(known)), text
    return HELD if min(known) > 0 and found["mean"] >= comparison.at_least else NOT_HELD, text


def _within(low: float, high: float) -> str:
    """Status of a comparison within noise, from the interval of the difference."""
    return NOT_HELD if high < 0 else HELD if low > -_PRECISION else NOT_TESTED


def _sides(
    comparison: Comparison, run: RunResult, where: str = "in this run"
) -> tuple[str, BySeed | None, BySeed | None]:
    """`a − b` by the names that the run has, and the values of both; or which model is missing, and None."""
    pair = [(name, _model(name, run)) for name in (comparison.a, comparison.b)]
    (_, a), (_, b) = pair
    if a is None or b is None:
        missing = " and no ".join(name for name, model in pair if model is None)
        return f"no {missing} {where}", None, None
    return f"{a} − {b}", run.values(comparison.measure, a), run.values(comparison.measure, b)


def _overall(values: BySeed) -> float:
    return fmean(value for by_question in values.values() for value in by_question.values())


def show(found: dict[str, Any], kind: Kind, *, brief: bool = False) -> str:
    """A paired difference in a measure of this kind: mean, bootstrap interval over questions, and by seed."""

    def difference(value: float | None) -> str:
        return amount(value, kind.difference, brief=brief)

    by_seed = ", ".join(difference(seed["mean"]) for seed in found["by_seed"].values())
    interval = f"[{difference(found['bootstrap_low'])}, {difference(found['bootstrap_high'])}]"
    return f"{difference(found['mean'])} {interval}; by seed {by_seed}"


def _model(name: str, run: RunResult) -> str | None:
    """The model of the run that a comparison names; None where there is none."""
    present = list(run.models)
    if name == "vft=steps":
        # AFT takes as many steps as VFT from the base model, and further steps, as vft-more does, from the VFT model
        name = "vft" if run.start == "base" else "vft-more"
    series, _, place = name.partition(":")
    if not place:
        return resolve(name, present)
    numbered = [(match, model) for model in present if (match := re.fullmatch(rf"{series}({NUMBER})", model))]
    members = [model for _, model in sorted(numbered, key=lambda pair: float(pair[0][1]))]
    if (len(members) < 3 and place == "best") or len(members) < 2:
        return None
    return {"first": members[0], "last": members[-1]}.get(place) or max(members, key=lambda model: _mean(run, model))


def _mean(run: RunResult, model: str) -> float:
    found = run.measure(model, TASK)
    return -1.0 if found is None or found.mean is None else found.mean
