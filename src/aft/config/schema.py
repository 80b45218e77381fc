"""The sections of a run's YAML. Each field carries a sentence with its unit; bounds are checked when a file is read.

A star (*) marks a choice that the paper leaves open; docs/method.md lists them with the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..run.folder import BASE, STAGES, VFT, Stage
from .data import DataConfig
from .losses import AlignmentLoss, RankingLoss
from .ratings import BinaryRatings, Ratings


@dataclass(frozen=True)
class PromptConfig:
    """How a question becomes a prompt."""

    template: str = "Question: {question}\nAnswer:\n"
    """Text with `{question}` in it; the response follows directly."""
    chat: bool = False
    """Wrap the rendered text as a user turn of the tokenizer's chat template."""
    system: str | None = None
    """System turn, only with `chat`."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (peft); the checkpoint of a stage is the merged model."""

    r: int = field(default=16, metadata={"ge": 1})
    """Rank of the adapters."""
    lora_alpha: int = field(default=32, metadata={"ge": 1})
    """Scale: the adapter's output is multiplied by lora_alpha / r."""
    lora_dropout: float = field(default=0.0, metadata={"ge": 0.0, "lt": 1.0})
    """Dropout on the adapters' input."""
    target_modules: list[str] | str | None = None
    """Modules to adapt, or 'all-linear'; null: peft's choice for the architecture."""


@dataclass(frozen=True)
class FromScratch:
    """A base model with random weights, made by the `pretrain` stage."""

    architecture: str = "llama"
    """`model_type` of transformers' configurations."""
    config: dict[str, Any] = field(default_factory=dict)
    """Arguments of that configuration, such as hidden_size; the tokenizer sets the vocabulary size."""
    vocab_size: int = field(default=2000, metadata={"ge": 300})
    """Size of the byte-level BPE tokenizer trained on the task's text; ignored by a task with its own vocabulary."""


@dataclass(frozen=True)
class ModelConfig:
    """The base model."""

    name_or_path: str | None = None
    """Hub name or folder of the base model; null: `from_scratch`, made by the `pretrain` stage."""
    from_scratch: FromScratch | None = None
    """Build the base model instead of loading one."""
    gguf_file: str | None = None
    """GGUF file in `name_or_path`. Its weights are dequantised to `dtype`. Needs the extra `gguf`."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory while training; mixed precision is `training.bf16`."""
    inference_dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Type of the weights while sampling and evaluating; null: as `dtype`."""
    attn_implementation: str | None = None
    """Attention backend, by transformers' names, or 'varlen' (torch's); null: by device (docs/performance.md)."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint. Off unless you trust its authors."""
    max_length: int = field(default=512, metadata={"ge": 8})
    """Longest prompt plus response in training, in tokens (paper: 512)."""
    overlong: Literal["drop", "truncate"] = "drop"
    """What happens to a longer one*: left out, or cut at its end (then without end token); both are counted."""
    lora: LoraConfig | None = None
    """Train adapters instead of all weights."""
    layout: Literal["auto", "shared", "packed", "padded"] = "auto"
    """A question computed once for all its responses, or repeated without or with padding; auto: the best that fits."""
    max_tokens_per_batch: int | None = field(default=8192, metadata={"ge": 1})
    """Budget of one model call, in tokens that it reads: a batch of `per_device_train_batch_size` questions is divided
    to keep it; null: no limit."""
    logps_chunk_mb: int = field(default=64, metadata={"ge": 1})
    """Memory for one chunk of logits when log-probs are computed, in MB."""
    logps_keep_mb: int = field(default=512, metadata={"ge": 0})
    """Logits that all fit in so many MB are kept for the backward pass instead of being made again; 0: never."""


@dataclass(frozen=True)
class PretrainConfig:
    """Trains a from-scratch base model on the task's pre-training text."""

    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage; they beat the shared `training`."""


@dataclass(frozen=True)
class ValidationConfig:
    """Task accuracy on validation questions, as `eval_task_accuracy`, whenever `training.eval_strategy` asks."""

    num_questions: int = field(default=200, metadata={"ge": 1})
    """How many validation questions."""
    batch_size: int = field(default=256, metadata={"ge": 1})
    """Questions decoded at once."""


@dataclass(frozen=True)
class VftConfig:
    """Stage 1: maximum likelihood on the reference chains (Eq 1)."""

    reduction: Literal["token_mean", "token_sum"] = "token_mean"
    """L_VFT as the mean over the step's tokens*, or the token sum of Eq 1 averaged over its sequences."""
    validation: ValidationConfig | None = None
    """Task accuracy on the validation split during training; null: only the validation loss."""
    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage; they beat the shared `training`."""


@dataclass(frozen=True)
class SampleConfig:
    """Stage 2a: chains of thought sampled from the VFT model."""

    model: Literal["vft", "base"] = "vft"
    """Which model writes them (paper: vft)."""
    num_samples: int = field(default=6, metadata={"ge": 1})
    """Completions per question (paper: k = 6)."""
    temperature: float = field(default=1.0, metadata={"ge": 0.0})
    """Sampling temperature (paper: 1); 0 is greedy."""
    top_p: float = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Nucleus: the smallest set of tokens with this probability; 1 keeps all."""
    max_new_tokens: int = field(default=512, metadata={"ge": 1})
    """Longest completion, in tokens."""
    batch_size: int = field(default=64, metadata={"ge": 1})
    """Completions decoded at once on each device."""
    batching: Literal["continuous", "static"] = "continuous"
    """continuous: the next completion takes the place of a finished one; static: a batch runs to its last row."""
    pool_questions: int = field(default=0, metadata={"ge": 0})
    """Validation questions that are sampled too: a fixed, held-out pool that every model scores."""


@dataclass(frozen=True)
class LabelConfig:
    """Stage 2b: right or wrong by the final answer."""

    unparsed: Literal["negative", "drop"] = "negative"
    """A completion without an answer counts as negative*, or is left out; counted apart either way."""
    deduplicate: Literal["exact", "none"] = "exact"
    """Drop repeated completions of a question by exact text*, or keep them."""
    include_reference: bool = False
    """Put the reference chain among the positives* (the paper's G_P is sampled)."""
    ratings: Ratings = field(default_factory=lambda: BinaryRatings(name="binary"))
    """What rates the candidates: binary, file, judge or function. Labels stay by the final answer."""


@dataclass(frozen=True)
class CollapseConfig:
    """Ends a training in which the right chains themselves become unlikely, as if it had no more steps."""

    max_fall: float = field(default=0.5, metadata={"gt": 0.0})
    """Fall of the positives' mean score since step 0 that is too far, in nats per token."""
    patience: int = field(default=2, metadata={"ge": 1})
    """In how many logs in a row (`training.logging_steps`)."""


@dataclass(frozen=True)
class AlignConfig:
    """Stage 3: L_VFT plus a term on each question's candidates."""

    init_from: Literal["base", "vft"] = "base"
    """Start from the base model with the joint loss*, or from the VFT checkpoint."""
    supervise: Literal["reference", "reference_and_positives"] = "reference"
    """What L_VFT covers: the reference, or also every sampled positive (RFT)."""
    pair_references: bool = True
    """A question without a known chain borrows another's reference for L_VFT, so that every step has as many."""
    max_candidates: int | None = field(default=None, metadata={"ge": 1})
    """Only each question's first so many samples, as if no more had been drawn (k from one sample set); null: all."""
    loss: RankingLoss | None = field(default_factory=AlignmentLoss)
    """The term on the candidates; null: none (VFT continued, or RFT)."""
    vft_reduction: Literal["token_mean", "token_sum"] = "token_mean"
    """As `vft.reduction`."""
    drift: bool = True
    """Log how far scores moved since step 0 (one pass without gradient before training)."""
    stop_on_collapse: CollapseConfig | None = None
    """Stop when right chains have become much less likely than at step 0 (turns `drift` on); null: never."""
    validation: ValidationConfig | None = None
    """As `vft.validation`."""
    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage; they beat the shared `training`."""


@dataclass(frozen=True)
class AssessmentConfig:
    """Assessment accuracy and perplexity on fresh samples of the model under test, perplexity on the references."""

    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """Training questions; null: all of them, as in the paper."""
    per_label: int = field(default=3, metadata={"ge": 1})
    """Right and wrong chains per question (paper: 3 + 3, so 9 pairs)."""
    max_samples: int = field(default=48, metadata={"ge": 2})
    """Budget of samples per question; a question that cannot be filled within it is skipped* and counted."""
    samples_per_round: int = field(default=12, metadata={"ge": 1})
    """Samples drawn at once before looking again which questions are full."""
    temperature: float = field(default=1.0, metadata={"gt": 0.0})
    """Temperature of these samples."""


@dataclass(frozen=True)
class SelfConsistencyConfig:
    """Majority vote and pass@k over several sampled paths: every n from one set of samples."""

    num_paths: int = field(default=64, metadata={"ge": 1, "le": 1000})
    """Completions per question, sampled once (paper: up to 64)."""
    temperature: float = field(default=1.0, metadata={"gt": 0.0})
    """Temperature of the paths*."""
    top_p: float = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Nucleus: the smallest set of tokens with this probability; 1 keeps all."""
    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """The first so many of the questions that task accuracy is measured on; null: all of those."""
    ns: list[int] = field(default_factory=lambda: [1, 4, 8, 16, 32, 64])
    """Numbers of paths to vote with (paper: 1 to 64), and the k of pass@k; none above num_paths."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Compares models on the same questions."""

    models: list[str] | None = None
    """base, vft and methods by name; null: all that this run makes."""
    split: Literal["test", "validation"] = "test"
    """Questions for task accuracy; `validation` for choosing hyper-parameters."""
    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """The first so many questions of the split; null: all."""
    temperature: float = field(default=0.0, metadata={"ge": 0.0})
    """Decoding for task accuracy; 0: greedy*."""
    max_new_tokens: int = field(default=512, metadata={"ge": 1})
    """Longest completion, in tokens."""
    batch_size: int = field(default=64, metadata={"ge": 1})
    """Completions decoded at once on each device."""
    batching: Literal["continuous", "static"] = "continuous"
    """continuous: the next completion takes the place of a finished one; static: a batch runs to its last row."""
    assessment: AssessmentConfig | None = field(default_factory=AssessmentConfig)
    """Assessment accuracy and perplexity; null: leave them out."""
    self_consistency: SelfConsistencyConfig | None = None
    """Majority vote over several paths, and pass@k; null: leave them out."""


@dataclass(frozen=True)
class LaunchConfig:
    """How a stage's process is started."""

    config: str | None = None
    """accelerate configuration: a path, or a name of configs/accelerate/; null: one process, a GPU if there is one."""
    workers: int = field(default=1, metadata={"ge": 1})
    """Processes side by side that share a stage's seeds and methods among them; for small models."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one, or as `config` says; cpu: never a GPU; cuda: an error where there is none."""


@dataclass(frozen=True)
class Config:
    """One run: a base model, a task, the stages, and what they compare."""

    output_dir: str
    """Folder of the run; everything is written below it."""
    data: DataConfig
    """The task and its data."""
    model: ModelConfig
    """The base model."""
    stages: list[Stage] = field(default_factory=lambda: [stage for stage in STAGES if stage != "pretrain"])
    """Stages to run; they always run in this order."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Every stage after pretrain runs once per seed; tables show mean and standard deviation (paper: 3)."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """How a question becomes a prompt."""
    training: dict[str, Any] = field(default_factory=dict)
    """transformers' TrainingArguments shared by the training stages, under their own names."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Stage 0, only for a from-scratch base model."""
    vft: VftConfig = field(default_factory=VftConfig)
    """Stage 1."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """Stage 2a."""
    label: LabelConfig = field(default_factory=LabelConfig)
    """Stage 2b."""
    align: AlignConfig = field(default_factory=AlignConfig)
    """Stage 3."""
    methods: dict[str, Any] = field(default_factory=lambda: {"aligned": {}})
    """Name -> changes to `align`: each is trained from the same samples and compared in one table."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Stage 4."""
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    """How the stages' processes are started."""


def model_names(config: Config) -> list[str]:
    """The models that `evaluate` compares, in order."""
    if config.evaluate.models is not None:
        return config.evaluate.models
    names = [BASE]
    if "vft" in config.stages:
        names.append(VFT)
    return names + (list(config.methods) if "align" in config.stages else [])
