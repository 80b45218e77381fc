"""What a measure is: where it is found, what it is called, how it is written. One table, read by report and tables.

Names of measures are keys of report.json and of `Spec.measures`; numbers of a kind are written by `spread`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..run.folder import POOL_QUESTIONS, PREDICTIONS, VOTES


@dataclass(frozen=True)
class Kind:
    """How numbers of a kind are written: times `factor`, with `decimals`, or `brief` ones where space is short."""

    factor: float
    decimals: int
    brief: int
    signed: bool = False

    @property
    def difference(self) -> Kind:
        """The kind of a difference between two such numbers: always with its sign."""
        return dataclasses.replace(self, signed=True)


SHARE = Kind(100, 2, 1)  # as per cent
POINTS = SHARE.difference
NATS = Kind(1, 3, 3)  # scores, nats per token
PERPLEXITY = Kind(1, 3, 3)
CHAINS = Kind(1, 2, 2)  # a number of chains
TOKENS = Kind(1, 1, 1)  # a number of tokens
LOGGED_SHARE = Kind(100, 1, 1)

FEW_UNPARSED = 0.03  # share of answers; above it a table shows how many are parsed, and how many end by themselves


@dataclass(frozen=True)
class Mark:
    """A measure in the picture of accuracies."""

    label: str
    marker: str
    color: str


@dataclass(frozen=True)
class Measure:
    """One measure.

    `heading`: of its column on a page, with the unit; `short`: in the terminal; `table`: in the paper's tables;
    `words`: in a sentence. `path`: its keys in metrics.json; `optional`: a run may have left it out without a word.
    `lacks`: a count beside task accuracy. The measure is the share of the questions that it leaves over.
    `values`: the file of an evaluation that has it by question, and the key of a line. `log`: its key in the training
    log. A measure without one of these leaves it empty.
    """

    name: str
    kind: Kind
    heading: str = ""
    short: str = ""
    table: str = ""
    words: str = ""
    path: tuple[str, ...] = ()
    optional: bool = False
    lacks: str = ""
    values: tuple[str, str] | None = None
    log: str = ""
    mark: Mark | None = None

    @property
    def of_pool(self) -> bool:
        """True for a measure of the pool. If no model has one, the report does not speak of the pool."""
        return self.path[:1] == ("pool",)

    @property
    def bare_heading(self) -> str:
        """The heading without its unit, for a column of differences."""
        return self.heading.replace(" (%)", "")


@dataclass(frozen=True)
class Family:
    """Shares by number of paths or by category. `prefix`: what stands before a member's name in report.csv."""

    name: str
    path: tuple[str, ...]
    prefix: str
    title: str = ""
    letter: str = ""


# in the order of the columns of a page
_ALL = (
    Measure(
        "task_accuracy",
        SHARE,
        heading="task accuracy (%)",
        short="task acc. %",
        table="TAcc (%)",
        words="task accuracy",
        path=("task_accuracy",),
        values=(PREDICTIONS, "is_correct"),
        mark=Mark("task", "o", "#222222"),
    ),
    Measure(
        "macro_accuracy",
        SHARE,
        heading="macro accuracy (%)",
        short="macro acc. %",
        path=("by_category", "macro"),
        optional=True,
    ),
    Measure("parsed", SHARE, "parsed (%)", "parsed %", optional=True, lacks="unparsed"),
    Measure("ended", SHARE, "ended (%)", "ended %", optional=True, lacks="truncated"),
    Measure("vs_vft", POINTS, "vs VFT (percentage points)", "vs VFT"),
    Measure(
        "assessment_accuracy",
        SHARE,
        heading="assessment accuracy (%), own samples, train questions",
        short="assess. own %",
        table="AAcc, own samples (%)",
        path=("assessment_accuracy",),
        mark=Mark("assessment (own)", "D", "#0072B2"),
    ),
    Measure(
        "pool_assessment_accuracy",
        SHARE,
        heading="assessment accuracy (%), pool",
        short="assess. pool %",
        table="AAcc, pool (%)",
        words="assessment accuracy on the pool",
        path=("pool", "assessment_accuracy"),
        values=(POOL_QUESTIONS, "value"),
        mark=Mark("assessment (pool)", "s", "#CC79A7"),
    ),
    Measure(
        "perplexity",
        PERPLEXITY,
        heading="perplexity of right chains",
        short="perplexity",
        table="PPL of own right chains",
        path=("perplexity",),
    ),
    Measure(
        "perplexity_wrong",
        PERPLEXITY,
        heading="perplexity of wrong chains",
        short="ppl. wrong",
        path=("perplexity_wrong",),
        optional=True,
    ),
    Measure(
        "perplexity_reference",
        PERPLEXITY,
        heading="perplexity of reference chains",
        short="ppl. reference",
        table="PPL of references",
        path=("perplexity_reference",),
        optional=True,
    ),
    Measure(
        "pool_positive",
        NATS,
        heading="pool score of right chains",
        short="pool right",
        table="pool score of right chains",
        path=("pool", "positive"),
    ),
    Measure("pool_negative", NATS, "pool score of wrong chains", "pool wrong", path=("pool", "negative")),
    # by question only, to compare two models
    Measure("vote", SHARE, "majority vote of the most paths (%)", values=(VOTES, "vote")),
    Measure("vote_gain", SHARE, words="gain from voting"),
    Measure("pool_perplexity", Kind(1, 4, 4), words="perplexity of the pool's right chains"),
    # of the paths of self-consistency
    Measure(
        "paths_distinct_right",
        CHAINS,
        table="distinct right chains of a question",
        words="distinct right chains of a question",
    ),
    Measure(
        "right_pairs_differ",
        SHARE,
        table="pairs of right paths that differ (%)",
        words="pairs of right paths of a question that differ",
    ),
    Measure("entropy", NATS, table="entropy, nats per token", words="entropy in nats per token"),
    Measure("path_tokens", TOKENS, table="sampled tokens of a path"),
    # of the samples that a round is trained on
    Measure("distinct_right", CHAINS, table="distinct right chains a question, before training"),
    Measure("share_right", SHARE, table="right samples (%), before training"),
    # logged while training
    Measure("positive", NATS, log="scores/positive"),
    Measure("negative", NATS, log="scores/negative"),
    Measure(
        "positive_drift",
        NATS.difference,
        heading="right chains, nats per token",
        table="drift of right chains",
        log="scores/positive_drift",
    ),
    Measure(
        "negative_drift",
        NATS.difference,
        heading="wrong chains, nats per token",
        table="drift of wrong chains",
        log="scores/negative_drift",
    ),
    Measure(
        "both_fell",
        LOGGED_SHARE,
        heading="questions on which both fell (%)",
        table="both fell (%)",
        log="groups/both_fell",
    ),
    Measure("active", LOGGED_SHARE, "wrong chains at their boundary (%)", log="constraint/active_fraction"),
)
MEASURES = {measure.name: measure for measure in _ALL}


def measure_of(name: str) -> Measure:
    """A measure by its name, or a share by number of paths such as `vote@16`. Raises `KeyError` for any other name."""
    family, _, size = name.partition("@")
    if not size:
        return MEASURES[name]
    words = {"vote": f"vote of {size}", "pass": f"pass@{size}"}[family]
    return Measure(name, SHARE, table=f"{words} (%)", words=words)


COLUMNS = [measure for measure in _ALL if measure.short]  # of the main table
MEASURED = sorted((measure for measure in _ALL if measure.path), key=lambda measure: measure.optional)
COMPARED = [measure for measure in _ALL if measure.values]  # of every pair of models
LOGGED = [measure for measure in _ALL if measure.log]
DISPLACEMENT = [measure for measure in LOGGED if measure.heading]


def has_pool(models: Iterable[Mapping[str, Any]]) -> bool:
    """True if a model of a report has scored the pool."""
    return any(model[measure.name] is not None for model in models for measure in MEASURED if measure.of_pool)


FAMILIES = (
    Family("vote", ("self_consistency", "vote"), "vote@", "Majority vote of n paths (%)", "n"),
    Family("pass", ("self_consistency", "pass"), "pass@", "pass@k: any of k paths is right (%)", "k"),
    Family("categories", ("by_category", "categories"), "accuracy:"),
)
