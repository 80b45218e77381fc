"""The `data` section: one dataclass per task. The text under a field describes it in docs/configuration.md.

Bounds are checked when a file is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..records import WORLD_SIZES


@dataclass(frozen=True)
class Gsm8kData:
    """Grade-school word problems (Cobbe et al., 2021), with the paper's splits."""

    name: Literal["gsm8k"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `train.jsonl` and `test.jsonl`; null: `openai/gsm8k` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their chain (VFT data); null: all training questions that `num_answer_only` does not take."""
    num_answer_only: int = field(default=0, metadata={"ge": 0})
    """More training questions, without their chain: they are used in alignment groups, not in VFT."""
    num_validation: int = field(default=400, metadata={"ge": 0})
    """Questions moved from the official test set to validation (paper: 400)."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: the rest of the official test set (paper: 919)."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffle before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    keep_annotations: bool = True
    """Keep the `<<48/2=24>>` calculator annotations, as the paper does."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True)
class AquaData:
    """Algebra problems with five options (Ling et al., 2017), in the paper's sizes if there are enough questions."""

    name: Literal["aqua"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `dev.json`, `test.json` and either `train.json` or `flan_aqua_train.tsv`; null: `deepmind/aqua_rat`
    from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their rationale; null: 5,000 as in the paper, or all remaining questions if there are fewer."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """More training questions, used with their answer only; null: the questions without a rationale."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Dev questions, then training questions; null: 400 as in the paper, or only dev if train is too small."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions, then training questions; null: 1,254 as in the paper, or only test if train is too small."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True)
class EcqaData:
    """CommonsenseQA questions with explanations (Aggarwal et al., 2021), in the authors' split."""

    name: Literal["ecqa"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `ecqa_train.jsonl`, `ecqa_val.jsonl` and `ecqa_test.jsonl`; null: `tasksource/ecqa` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their explanation; null: all training questions that `num_answer_only` does not take."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Training questions used with their answer only; null: the questions without an explanation."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Validation questions; null: all (paper: 1,090)."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: all (paper: 2,194)."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""
    answer_as: Literal["letter", "text"] = "letter"
    """letter: a reference ends with the option's letter; text: with the option's text, because a small model does not
    learn to look up the letter. If the text would not be read back as the answer, the letter is used. Completions are
    read in both forms."""


@dataclass(frozen=True)
class MmluData:
    """Questions of 57 subjects (Hendrycks et al., 2021), evaluated zero-shot. There are no training questions."""

    name: Literal["mmlu"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `dev/*.csv` and `test/*.csv`, or with a .tar.gz of both; null: `cais/mmlu` from the hub."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Questions of the dev files; null: all 285."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions, drawn from all subjects; null: all 14,042."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True)
class SvampData:
    """Short word problems (Patel et al., 2021). The equation is used as the chain."""

    name: Literal["svamp"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `train.jsonl` and `test.jsonl`, with the hub's field names; null: `ChilleD/SVAMP` from the hub."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their equation; null: all questions that the other splits do not take."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """More training questions, used with their answer only; null: the questions without an equation."""
    num_validation: int = field(default=100, metadata={"ge": 0})
    """Questions taken out of the training file."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: all 300."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True)
class MathData:
    """Competition problems (Hendrycks et al., 2021). Each solution has its answer in LaTeX's `\\boxed{}`."""

    name: Literal["math"]
    path: str | None = field(default=None, metadata={"path": True})
    """Folder with `train.jsonl` and `test.jsonl` (`problem`, `solution`); null: `EleutherAI/hendrycks_math`."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Problems with their solution; null: all problems that the other splits do not take."""
    num_answer_only: int = field(default=0, metadata={"ge": 0})
    """More training problems, used with their answer only."""
    num_validation: int = field(default=500, metadata={"ge": 0})
    """Problems taken out of the training file."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test problems; null: all 5,000."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True, kw_only=True)
class GeneratedData:
    """Fields of the generated tasks. Each problem belongs to one split, which does not depend on seeds."""

    name: str
    num_train: int = field(default=WORLD_SIZES["num_train"], metadata={"ge": 1, "le": 10_000_000})
    """Questions with their chain (VFT data)."""
    num_answer_only: int = field(default=WORLD_SIZES["num_answer_only"], metadata={"ge": 0, "le": 10_000_000})
    """More training questions, used with their answer only."""
    num_validation: int = field(default=WORLD_SIZES["num_validation"], metadata={"ge": 0, "le": 10_000_000})
    """Validation questions."""
    num_test: int = field(default=WORLD_SIZES["num_test"], metadata={"ge": 0, "le": 10_000_000})
    """Test questions; 0 where none are evaluated. Every run seed draws its own questions for all splits except
    pretrain."""
    num_pretrain: int = field(default=WORLD_SIZES["num_pretrain"], metadata={"ge": 1, "le": 10_000_000})
    """Right and wrong chains that the base model is pre-trained on."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""


@dataclass(frozen=True, kw_only=True)
class ArithmeticData(GeneratedData):
    """Generated multi-step word problems. No download is needed. The pre-training text includes wrong chains."""

    name: Literal["arithmetic"]
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of `aft.tasks.arithmetic.Arithmetic`: size of the problems, `num_choices`, `phrasing`, error
    rates of the pre-training text."""


@dataclass(frozen=True, kw_only=True)
class CreaturesData(GeneratedData):
    """Generated multiple-choice questions about invented creatures. The answer needs facts from pre-training."""

    name: Literal["creatures"]
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of `aft.tasks.creatures.Creatures`: `num_choices`, error rates of the pre-training text."""


@dataclass(frozen=True)
class JsonlData:
    """Your own task in local JSONL files. A split without a file is taken from the train file."""

    name: Literal["jsonl"]
    train: str | None = field(default=None, metadata={"path": True})
    """File with the training questions; null: no training questions."""
    validation: str | None = field(default=None, metadata={"path": True})
    """File with validation questions; null: `num_validation` questions are taken from the train file."""
    test: str | None = field(default=None, metadata={"path": True})
    """File with test questions; null: `num_test` questions are taken from the train file."""
    answer_type: Literal["number", "choice", "text", "boxed"] = "number"
    """Kind of answer: a number, one of the line's options, text, or LaTeX in `\\boxed{}`."""
    question_field: str = "question"
    """Name of the field with the question."""
    answer_field: str = "answer"
    """Name of the field with the answer. For `choice`, the answer is a letter or the text of an option."""
    rationale_field: str = "rationale"
    """Name of the field with the worked solution. If a line has no solution, only its answer is used."""
    options_field: str = "options"
    """Name of the field with the list of options, for choices."""
    category_field: str = "category"
    """Name of an optional field. Accuracy is also reported for each of its values."""
    num_train: int | None = field(default=None, metadata={"ge": 1})
    """Questions with their rationale; null: all questions that the other splits do not take."""
    num_answer_only: int | None = field(default=None, metadata={"ge": 0})
    """Training questions used with their answer only; null: the questions without a rationale."""
    num_validation: int | None = field(default=None, metadata={"ge": 0})
    """Validation questions; null: all of the validation file, or none if there is no file."""
    num_test: int | None = field(default=None, metadata={"ge": 1})
    """Test questions; null: all of the test file, or none if there is no file."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the shuffles before the splits are cut; all run seeds share it."""
    answer_marker: str = "[ANS]"
    """Text before the final answer in every response."""
    skip_unreadable: bool = False
    """Leave out records that cannot be read, such as one whose gold answer is no number; count and show them. false:
    the first such record stops the run."""


@dataclass(frozen=True)
class PythonData:
    """Your own task as a Python class with the methods of `aft.tasks.base.Task`. The module's code is run."""

    name: Literal["python"]
    module: str = field(metadata={"path": True})
    """A file `my_task.py`, or the dotted name of an importable module. The module's code is run: trust its author."""
    class_name: str
    """Name of the class in the module."""
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
    """The part's `data` section. Its `num_train` is the part's number of training questions."""
    share: float | None = field(default=None, metadata={"ge": 0.0, "le": 1.0})
    """Share of the mixture's training questions; null: all of the part's questions; 0: the part is only evaluated."""


@dataclass(frozen=True)
class MixtureData:
    """Several tasks in one run, as in the paper's multi-task table. Accuracy is reported for each."""

    name: Literal["mixture"]
    parts: dict[str, MixturePart]
    """Name -> part. Either every part that is trained on has a `share` and the shares sum to 1, or none has one."""
    split_seed: int = field(default=0, metadata={"ge": 0, "le": 2**32 - 1})
    """Seed of the order in which the parts' questions are mixed."""


DataConfig = PartData | MixtureData
