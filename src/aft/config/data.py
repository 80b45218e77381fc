"""The `data` section: one dataclass per task. Each field carries a sentence; bounds are checked when a file is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..records import WORLD_SIZES


@dataclass(frozen=True)
class Gsm8kData:
    """Grade-school word problems (Cobbe et al., 2021), with the paper's splits."""

    name: Literal["gsm8k"]
    path: str | None = None
    """Folder with `train.jsonl` and `test.jsonl`; null: `openai/gsm8k` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their chain (VFT data); null: all that `num_answer_only` leaves."""
    num_answer_only: int = field(default=0, metadata={"ge": 0})
    """Further training questions of which only the answer is used: they enter alignment groups, not VFT."""
    num_validation: int = field(default=400, metadata={"ge": 0})
    """Questions taken out of the official test set for choosing hyper-parameters (paper: 400)."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: the rest of the official test set (paper: 919)."""
    split_seed: int = 0
    """Seed of the shuffle that splits and slices; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""
    keep_annotations: bool = True
    """Keep the `<<48/2=24>>` calculator annotations, as the paper does."""


@dataclass(frozen=True)
class AquaData:
    """Algebra problems with five options (Ling et al., 2017), in the paper's sizes where there are so many."""

    name: Literal["aqua"]
    path: str | None = None
    """Folder with `dev.json`, `test.json` and `train.json`, or `flan_aqua_train.tsv` in place of the last; null:
    `deepmind/aqua_rat` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their rationale; null: 5,000 as in the paper, or all that are left where there are fewer."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Further training questions of which only the answer is used; null: those without a rationale."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Official dev questions, then training ones; null: 400 as in the paper, or dev where train is too small."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Official test questions, then training ones; null: 1,254 as in the paper, or test where train is too small."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True)
class EcqaData:
    """CommonsenseQA questions with explanations (Aggarwal et al., 2021), in the authors' split."""

    name: Literal["ecqa"]
    path: str | None = None
    """Folder with `ecqa_train.jsonl`, `ecqa_val.jsonl` and `ecqa_test.jsonl`; null: `tasksource/ecqa` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their explanation; null: all that `num_answer_only` leaves."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Training questions of which only the answer is used; null: those that have no explanation."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Validation questions; null: all (paper: 1,090)."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: all (paper: 2,194)."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True)
class MmluData:
    """Questions of 57 subjects (Hendrycks et al., 2021), evaluated zero-shot; nothing to train on."""

    name: Literal["mmlu"]
    path: str | None = None
    """Folder with `dev/*.csv` and `test/*.csv`, or with a .tar.gz of these; null: `cais/mmlu` from the hub."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Questions of the dev files; null: all 285."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions, drawn from all subjects together; null: all 14,042."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True)
class SvampData:
    """Short word problems (Patel et al., 2021); the equation stands for the chain."""

    name: Literal["svamp"]
    path: str | None = None
    """Folder with `train.jsonl` and `test.jsonl` of the hub's fields; null: `ChilleD/SVAMP` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their equation; null: all that the others leave."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Further training questions of which only the answer is used; null: those without an equation."""
    num_validation: int = field(default=100, metadata={"ge": 0})
    """Questions taken out of the training file."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: all 300."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True)
class MathData:
    """Competition problems whose solutions box their answer in LaTeX (Hendrycks et al., 2021)."""

    name: Literal["math"]
    path: str | None = None
    """Folder with `train.jsonl` and `test.jsonl` (`problem`, `solution`); null: `EleutherAI/hendrycks_math`."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Problems with their solution; null: all that the others leave."""
    num_answer_only: int = field(default=0, metadata={"ge": 0})
    """Further training problems of which only the answer is used."""
    num_validation: int = field(default=500, metadata={"ge": 0})
    """Problems taken out of the training file."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test problems; null: all 5,000."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""


@dataclass(frozen=True, kw_only=True)
class GeneratedData:
    """What the made-up worlds have in common. Every problem stays in one split, whatever the seeds."""

    name: str
    num_train: int = field(default=WORLD_SIZES["num_train"], metadata={"ge": 1})
    """Questions with their chain (VFT data)."""
    num_answer_only: int = field(default=WORLD_SIZES["num_answer_only"], metadata={"ge": 0})
    """Further training questions of which only the answer is used."""
    num_validation: int = field(default=WORLD_SIZES["num_validation"], metadata={"ge": 0})
    """Validation questions."""
    num_test: int = field(default=WORLD_SIZES["num_test"], metadata={"ge": 1})
    """Test questions; they, and all other splits but pretrain, are drawn anew for every run seed."""
    num_pretrain: int = field(default=WORLD_SIZES["num_pretrain"], metadata={"ge": 1})
    """Chains, right and wrong, that the base model reads."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticData(GeneratedData):
    """Generated multi-step word problems: no download, and a base model that has met wrong reasoning."""

    name: Literal["arithmetic"]
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `aft.tasks.arithmetic.Arithmetic`: size of the problems, `num_choices`, `phrasing`, error
    rates of the base's data."""


@dataclass(frozen=True, kw_only=True)
class CreaturesData(GeneratedData):
    """Generated multiple-choice questions about invented creatures, answered by what the question does not say."""

    name: Literal["creatures"]
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `aft.tasks.creatures.Creatures`: `num_choices`, error rates of the base's data."""


@dataclass(frozen=True)
class JsonlData:
    """A task of your own in local JSONL files; a split without a file is cut out of the train file."""

    name: Literal["jsonl"]
    train: str | None = None
    """File with the training questions; null: nothing to train on."""
    validation: str | None = None
    """File with validation questions; null: `num_validation` come out of the train file."""
    test: str | None = None
    """File with test questions; null: `num_test` come out of the train file."""
    answer_type: Literal["number", "choice", "text", "boxed"] = "number"
    """What an answer is: a number, one of the line's options, text, or LaTeX in `\\boxed{}`."""
    question_field: str = "question"
    """Name of the field with the question."""
    answer_field: str = "answer"
    """Name of the field with the answer; for a choice its letter, or the text of one of the options."""
    rationale_field: str = "rationale"
    """Name of the field with the worked solution; missing or null: only the answer is used."""
    options_field: str = "options"
    """Name of the field with the list of options, for choices."""
    category_field: str = "category"
    """Name of the field by whose text accuracy is reported apart; it may be missing."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their rationale; null: all that the others leave."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Training questions of which only the answer is used; null: those without a rationale."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Validation questions; null: the whole file, none without one."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: the whole file, none without one."""
    split_seed: int = 0
    """Seed of the shuffles; the same for every run seed."""
    answer_marker: str = "[ANS]"
    """Stands before the final answer in every response."""


@dataclass(frozen=True)
class PythonData:
    """A task of your own as a Python class with the methods of `aft.tasks.base.Task`. Runs the code of its module."""

    name: Literal["python"]
    module: str
    """A file `my_task.py`, or the dotted name of a module that Python can import. Its code runs: trust its author."""
    class_name: str
    """The class in it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""


PartData = (
    Gsm8kData
    | AquaData
    | EcqaData
    | MmluData
    | SvampData
    | MathData
    | ArithmeticData
    | CreaturesData
    | JsonlData
    | PythonData
)


@dataclass(frozen=True)
class MixturePart:
    """One task of a mixture."""

    data: PartData
    """The part's own `data` section; `num_train` there says how many of its questions are trained on."""
    share: float | None = field(default=None, metadata={"ge": 0.0, "le": 1.0})
    """Share of the mixture's training questions; null: all that the part has; 0: none, the part is only evaluated."""


@dataclass(frozen=True)
class MixtureData:
    """Several tasks at once, as in the paper's multi-task table; accuracy is reported for each."""

    name: Literal["mixture"]
    parts: dict[str, MixturePart]
    """Name -> part. Either no part that trains gives a `share`, or all of these do, and they sum to 1."""
    split_seed: int = 0
    """Seed of the order in which the parts' questions are mixed."""


DataConfig = PartData | MixtureData
