"""What each table consists of: its rows, its columns, its measures and the claims it bears on. Data, no code."""

from __future__ import annotations

from dataclasses import dataclass

from ..run.folder import round_name
from .figures import RANK
from .methods import NUMBER


@dataclass(frozen=True)
class ModelRow:
    """A row: its labels, and the name of the model behind it."""

    labels: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Series:
    """A row for every model of a run whose name matches `pattern`, in the order of the number in it."""

    label: str
    pattern: str


@dataclass(frozen=True)
class Spec:
    """One table or part of a figure.

    `across`: what the columns are: `task` or `model` (a run each), `measure`, `category`, `paths`, or `best` (the best
    of the series, a run a cell); `gain`: each method's gain over VFT, a row for each size, amount of data and k, whose
    labels are method and k. `reference`: the model and task whose figures of the paper stand beside a run that is
    none of the paper's; no task: that of the run. `figures`: what a figure of the paper holds, in a table by measure.
    `picture`: what the horizontal axis of the picture is. `paths`: the page also has the tables and the picture of
    sampled paths (`path_tables`).
    """

    key: str
    title: str
    rows: tuple[ModelRow | Series, ...]
    across: str
    headings: tuple[str, ...] = ("method",)
    measures: tuple[str, ...] = ("task_accuracy",)
    reference: tuple[str, str] = ("LLama-7B", RANK)
    figures: str = "TAcc / AAcc / PPL"
    claims: tuple[str, ...] = ()
    picture: str | None = None
    paths: bool = False


def _rows(*pairs: tuple[str, str]) -> tuple[ModelRow, ...]:
    return tuple(ModelRow((label,), name) for label, name in pairs)


_TAKEN_4 = ("RRHF", "rrhf", "rrhf-dc"), ("PRO", "pro", "pro-dc"), ("DPO", "dpo", "dpo-dc"), ("AFT", "aft", "aft-bc")
_MAIN = _rows(
    ("VFT", "vft"), ("VFT, further steps", "vft-more"), ("RFT", "rft"), ("AFT DC", "aft-dc"), ("AFT BC", "aft-bc")
)
_EQUAL_WORK = (
    ("RFT, as many sequences as AFT", "rft-sequences"),
    ("RFT, as many tokens as AFT", "rft-tokens"),
)
ROUNDS = 3  # of the study of rounds
LOSSES = ("aft", "rrhf", "pro", "dpo")
_ROWS_4 = (
    ModelRow(("VFT", "–"), "vft"),
    *(
        ModelRow((label, kind), name)
        for label, *pair in _TAKEN_4
        for kind, name in zip(("without", "with"), pair, strict=True)
    ),
)
_MEASURES_4 = (
    *("task_accuracy", "assessment_accuracy", "pool_assessment_accuracy", "perplexity", "pool_positive"),
    *("positive_drift", "negative_drift", "both_fell"),
)
# the label and the method of each constraint without a constant
RULES = (
    ("tapered, sums", "aft-tapered"),
    ("tapered, means", "aft-tapered-mean"),
    ("pass rate, sums", "aft-pass-rate"),
    ("pass rate, means", "aft-pass-rate-mean"),
    ("balanced, means", "aft-balanced"),
    ("balanced, sums", "aft-balanced-sum"),
    ("floor", "aft-floor"),
    ("positive floor", "aft-positive-floor"),
    ("controlled β", "aft-controlled"),
)
# the comparisons in which wrong chains may show their worth: those with RFT of as many tokens are of equal work
WORTH = (
    ("aft-bc", "rft"),
    ("aft-bc", "rft-tokens"),
    ("rft-bc", "rft"),
    ("rft-bc", "rft-tokens"),
    ("rft-balanced", "rft"),
)
_GAINING = ("VFT, further steps", "vft-more"), ("RFT", "rft"), ("AFT BC", "aft-bc"), ("RFT + AFT BC", "rft-bc")
_CLAIMS_4 = tuple(f"{kind}-{loss}" for kind in ("degrades", "repaired") for loss in LOSSES)

_ALL = (
    Spec(
        key="1",
        title="Table 1, pilot: VFT models, task accuracy / assessment accuracy (%)",
        rows=_rows(("VFT", "vft")),
        across="task",
        measures=("task_accuracy", "assessment_accuracy"),
        reference=("LLama-7B", "GSM8K"),
    ),
    Spec(
        key="2",
        title="Table 2, binary feedback: task accuracy (%)",
        rows=_MAIN,
        across="task",
        reference=("LLama-7B", "GSM8K"),
        claims=("misassesses", "rft-vft", "aft-dc-vft", "aft-bc-vft", "aft-dc-rft", "aft-bc-rft"),
    ),
    Spec(
        key="real",
        title="Table 2 on a real model, SmolLM2-135M-Instruct, with all measures",
        rows=(
            *_MAIN[:3],
            *_rows(("AFT, no constraint", "aft"), ("AFT DC", "aft-dc"), ("AFT BC", "aft-bc")),
            *_rows(("RFT + AFT BC", "rft-bc")),
        ),
        across="measure",
        measures=(
            *("task_accuracy", "assessment_accuracy", "pool_assessment_accuracy", "vote@16", "pass@4", "pass@16"),
            *("perplexity", "perplexity_reference"),
        ),
        reference=("LLama-7B", ""),
        figures="TAcc / AAcc",
        claims=(
            *("misassesses", "rft-vft", "aft-dc-vft", "aft-bc-vft", "aft-dc-rft", "aft-bc-rft", "rft-bc-rft"),
            *("degrades-aft", "repaired-aft"),
        ),
    ),
    Spec(
        key="3",
        title="Table 3, ranking feedback: task accuracy (%)",
        rows=(*_MAIN[:3], *_rows(("RRHF", "rrhf"), ("PRO", "pro"), ("AFT RBC", "aft-bc"))),
        across="model",
        claims=("rft-vft", "aft-bc-vft", "aft-bc-rft", "degrades-rrhf", "degrades-pro"),
    ),
    Spec(
        key="4",
        title="Table 4, each loss without and with its constraint (DC; AFT: boundary)",
        rows=_ROWS_4,
        across="measure",
        headings=("method", "constraint"),
        measures=_MEASURES_4,
        claims=_CLAIMS_4,
    ),
    Spec(
        key="5",
        title="Table 5, several tasks at once: task accuracy (%)",
        rows=_MAIN,
        across="category",
        reference=("LLama-7B", "GSM8K"),
        claims=("rft-vft", "aft-dc-vft", "aft-bc-vft", "aft-dc-rft", "aft-bc-rft"),
    ),
    Spec(
        key="7",
        title="Table 7, the best β of the boundary by validation accuracy",
        rows=(Series("{}", rf"aft-bc-beta({NUMBER})"),),
        across="best",
        headings=("model",),
        reference=("LLama-7B", "GSM8K"),
    ),
    Spec(
        key="8",
        title="Table 8, kinds of ranking constraint: task accuracy (%)",
        rows=_rows(("VFT", "vft"), ("RBC", "aft-bc"), ("RDC1", "aft-dc"), ("RDC2", "aft-dc2"), ("none", "aft")),
        across="model",
        headings=("constraint",),
        claims=("rdc2", "degrades-aft", "repaired-aft"),
    ),
    Spec(
        key="9",
        title="Table 9, RRHF by the weight of its term: task accuracy (%)",
        rows=(*_rows(("VFT", "vft")), Series("{}", rf"rrhf-w({NUMBER})"), *_rows(("1", "rrhf"))),
        across="model",
        headings=("weight",),
        claims=("degrades-rrhf",),
        picture="weight of RRHF",
    ),
    Spec(
        key="10",
        title="Table 10, PRO and its variations: task accuracy (%)",
        rows=_rows(
            ("VFT", "vft"),
            ("PRO", "pro"),
            ("PRO without τ", "pro-no-tau"),
            ("PRO + RDC1", "pro-dc"),
            ("PRO without τ + RDC1", "pro-no-tau-dc"),
        ),
        across="model",
        claims=("degrades-pro", "repaired-pro"),
    ),
    Spec(
        key="k",
        title="Figure 2a, accuracy over k, the sampled candidates of a question: task accuracy (%)",
        rows=(*_rows(("0", "vft")), Series("{}", r"aft-dc-k(\d+)")),
        across="model",
        headings=("k",),
        claims=("k",),
        picture="k",
    ),
    Spec(
        key="beta",
        title="Figure 2b, accuracy over β on validation questions: task accuracy (%)",
        rows=(Series("{}", rf"aft-bc-beta({NUMBER})"),),
        across="model",
        headings=("β",),
        claims=("beta",),
        picture="β",
    ),
    Spec(
        key="self-consistency",
        title="Figure 2c, accuracy of a majority vote over sampled paths (%)",
        rows=_rows(("VFT", "vft"), ("RFT", "rft"), ("AFT DC", "aft-dc"), ("AFT BC", "aft-bc")),
        across="paths",
        claims=("paths-aft-dc", "paths-aft-bc"),
        picture="paths",
    ),
    Spec(
        key="sensitivity",
        title="Sensitivity to k, temperature and β: task accuracy (%)",
        rows=(
            *_rows(("VFT", "vft"), ("AFT BC", "aft-bc")),
            Series("AFT BC, k = {}", r"aft-bc-k(\d+)"),
            Series("AFT BC, β = {}", rf"aft-bc-beta({NUMBER})"),
        ),
        across="model",
    ),
    Spec(
        key="laboratory",
        title="Laboratory: when do wrong chains earn their place?",
        rows=(
            *_MAIN[:3],
            *_rows(
                *_EQUAL_WORK,
                ("AFT, no constraint", "aft"),
                ("AFT DC", "aft-dc"),
                ("AFT BC", "aft-bc"),
                ("RFT + AFT BC", "rft-bc"),
            ),
        ),
        across="measure",
        measures=("task_accuracy", "assessment_accuracy", "pool_assessment_accuracy", "pool_positive"),
        claims=(
            *("misassesses", "rft-vft", "aft-dc-vft", "aft-bc-vft", "aft-dc-rft", "aft-bc-rft"),
            *(
                "aft-dc-sequences",
                "aft-bc-sequences",
                "aft-dc-tokens",
                "aft-bc-tokens",
                "rft-bc-rft",
                "rft-bc-sequences",
            ),
            *("degrades-aft", "repaired-aft"),
        ),
    ),
    Spec(
        key="rounds",
        title="Rounds: AFT, RFT and both when each method samples again from its own model",
        rows=(
            ModelRow(("VFT", "–"), "vft"),
            *(
                ModelRow((label, str(number)), round_name(name, number))
                for label, name in (("RFT", "rft"), ("AFT BC", "aft-bc"), ("RFT + AFT BC", "rft-bc"))
                for number in range(1, ROUNDS + 1)
            ),
        ),
        across="measure",
        headings=("method", "round"),
        measures=("task_accuracy", "pass@1", "pass@4", "pass@16", "vote@16", "distinct_right", "share_right"),
        claims=(
            *("rft-vft", "aft-bc-vft", "aft-bc-rft", "rft-bc-rft"),
            *("rounds-rft", "rounds-aft-bc", "rounds-rft-bc", "rounds-aft-bc-rft", "rounds-rft-bc-rft"),
        ),
    ),
    Spec(
        key="laboratory-losses",
        title="Laboratory: each loss without and with its constraint (DC; AFT: boundary) where VFT misassesses",
        rows=(
            *_ROWS_4,
            ModelRow(("AFT", "RDC1"), "aft-dc"),
            ModelRow(("AFT", "RDC2"), "aft-dc2"),
            ModelRow(("RFT", "–"), "rft"),
            ModelRow(("VFT, further steps", "–"), "vft-more"),
        ),
        across="measure",
        headings=("method", "constraint"),
        measures=_MEASURES_4,
        claims=("misassesses", "rft-vft", "aft-bc-vft", "aft-bc-rft", *_CLAIMS_4, "rdc2"),
    ),
    Spec(
        key="boundaries",
        title="Boundaries: constraints without a constant against fixed β, detached and none",
        rows=(
            *_rows(("VFT", "vft"), ("VFT, further steps", "vft-more"), ("RFT", "rft")),
            *_rows(("none", "aft"), ("detached", "aft-dc")),
            Series("β = {}", rf"aft-bc-beta({NUMBER})"),
            *_rows(*RULES),
        ),
        across="measure",
        headings=("constraint",),
        measures=("task_accuracy", "pool_assessment_accuracy", "positive_drift", "negative_drift", "both_fell"),
        claims=tuple(f"within-{name}" for name in (*(name for _, name in RULES), "aft-dc", "aft")),
    ),
    Spec(
        key="wrong-chains",
        title="Wrong chains: what are they good for?",
        rows=(
            *_rows(("base model", "base")),
            *_MAIN[:3],
            *_rows(
                *_EQUAL_WORK,
                ("AFT DC", "aft-dc"),
                ("AFT BC", "aft-bc"),
                ("AFT balanced", "aft-balanced"),
                ("RFT + AFT BC", "rft-bc"),
                ("RFT + AFT balanced", "rft-balanced"),
            ),
        ),
        across="measure",
        measures=(
            *("task_accuracy", "pass@1", "pass@4", "vote@64", "pass@64"),
            *("right_pairs_differ", "entropy", "paths_distinct_right", "path_tokens"),
        ),
        claims=(
            *("rft-vft", "aft-bc-rft", "aft-bc-tokens", "rft-bc-rft", "rft-bc-tokens", "rft-balanced-rft"),
            *("vote-rft-vft", *(f"vote-{a}-{b}" for a, b in WORTH)),
            *("pass-rft-vft", *(f"pass-{a}-{b}" for a, b in WORTH)),
            *("narrows-differ", *(f"differ-{a}-{b}" for a, b in WORTH)),
            *("narrows-entropy", *(f"entropy-{a}-{b}" for a, b in WORTH)),
        ),
        paths=True,
    ),
    Spec(
        key="size",
        title="Gain over VFT in points, by size of the base model, amount of data and k",
        rows=(
            *_rows(("VFT", "vft"), *_GAINING),
            *(Series(f"{label}, k = {{}}", rf"{name}-k(\d+)") for label, name in _GAINING),
        ),
        across="gain",
        headings=("million parameters", "answers alone", "k"),
        claims=(
            *("rft-vft-steps", "aft-bc-vft", "rft-bc-vft", "aft-bc-rft", "rft-bc-rft"),
            *("k-rft", "k-aft-bc", "k-rft-bc"),
            *("grows-rft", "grows-aft-bc", "grows-rft-bc", "grows-rft-bc-rft", "keeps-rft-bc-rft"),
        ),
        picture="million parameters",
    ),
)
SPECS = {spec.key: spec for spec in _ALL}
