"""The sections of a run's YAML. The text under a field describes it, with its unit, in docs/configuration.md.

Bounds are checked when a file is read. A star (*) marks a choice that the paper leaves open. docs/method.md lists these
choices with the reasons.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from ..run.folder import BASE, STAGES, VFT, Stage, count_rounds, round_names
from .data import DataConfig
from .from_prefix import FromPrefixConfig
from .hub import HubConfig
from .losses import AlignmentLoss, RankingLoss
from .plan import PlanConfig
from .quantization import QuantizationConfig
from .ratings import BinaryRatings, Ratings
from .rounds import RoundsConfig
from .slurm import SlurmConfig
from .training_scores import TrainingScoresConfig

DEFAULT_POOL = 50  # questions, where `sample.pool_questions` is null


@dataclass(frozen=True)
class PromptConfig:
    """How a question becomes a prompt."""

    template: str = "Question: {question}\nAnswer:\n"
    """Text that contains `{question}`. The response follows it directly."""
    chat: bool = False
    """Wrap the rendered text as a user turn of the tokenizer's chat template."""
    system: str | None = None
    """System turn, only with `chat`."""
    allow_special_tokens: bool = False
    """Read the text of a control token such as `<|im_end|>` in questions and responses as that token. Otherwise such a
    text is text: it neither opens nor closes a turn."""
    date: str | None = None
    """Day that a chat template's `strftime_now` shows, as YYYY-MM-DD; null: the day on which the run began.
    Only with `chat`."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Variables for the chat template, for example `enable_thinking: false`. Only with `chat`."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (peft)."""

    r: int = field(default=16, metadata={"ge": 1, "le": 65536})
    """Rank of the adapters."""
    lora_alpha: int = field(default=32, metadata={"ge": 1})
    """Scale: the adapter's output is multiplied by lora_alpha / r."""
    lora_dropout: float = field(default=0.0, metadata={"ge": 0.0, "lt": 1.0})
    """Dropout on the adapters' input."""
    target_modules: list[str] | str | None = None
    """Modules to adapt, or 'all-linear'; null: peft's choice for the architecture."""
    modules_to_save: list[str] | None = None
    """Modules that are trained whole and saved with the adapter, for example `lm_head`; null: none."""
    save: Literal["adapter", "merged", "both"] = "both"
    """What a stage leaves. both: the merged model, and the adapter in `adapter/`; merged: the merged model alone;
    adapter: the adapter alone, which later stages load onto its base model (docs/lora.md)."""


@dataclass(frozen=True)
class FromScratch:
    """A base model that the `pretrain` stage trains from scratch."""

    architecture: str = "llama"
    """`model_type` of transformers' configurations."""
    config: dict[str, Any] = field(default_factory=dict)
    """Arguments of transformers' configuration, for example hidden_size. The tokenizer sets the vocabulary size."""
    vocab_size: int = field(default=2000, metadata={"ge": 300})
    """Size of the byte-level BPE tokenizer, trained on the task's text. A task with its own vocabulary ignores it."""


@dataclass(frozen=True)
class ModelConfig:
    """The base model."""

    name_or_path: str | None = field(default=None, metadata={"path": True})
    """Hub name or folder of the base model; null: the `pretrain` stage makes the model from `from_scratch`."""
    from_scratch: FromScratch | None = None
    """Train the base model from scratch instead of loading one."""
    gguf_file: str | None = field(default=None, metadata={"path": True})
    """GGUF file in `name_or_path`. Its weights are dequantised to `dtype`. Needs the extra `gguf`."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Dtype of the weights in memory during training. `training.bf16` turns on mixed precision."""
    inference_dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Dtype of the weights during sampling and evaluation; null: the same as `dtype`."""
    attn_implementation: str | None = None
    """Attention backend: a name of transformers or 'varlen' (torch's); null: by device (docs/performance.md)."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint. Set it only if you trust the authors."""
    max_length: int = field(default=512, metadata={"ge": 8})
    """Longest prompt plus response in training, in tokens (paper: 512)."""
    overlong: Literal["drop", "truncate"] = "drop"
    """drop*: a longer prompt plus response is left out; truncate: it is cut at its end and has no end token. Both
    cases are counted."""
    lora: LoraConfig | None = None
    """Train adapters instead of all weights."""
    quantization: QuantizationConfig | None = None
    """Hold the base model in 4 bits while adapters train (QLoRA); null: in `dtype`."""
    layout: Literal["auto", "shared", "packed", "padded"] = "auto"
    """shared: a question is computed once for all its responses; packed: the question is repeated, without padding;
    padded: the question is repeated, with padding; auto: the best layout that the model supports."""
    max_tokens_per_batch: int | None = field(default=8192, metadata={"ge": 1})
    """Most input tokens in one model call. A batch of `per_device_train_batch_size` questions is split to stay below
    the limit; null: no limit."""
    logps_chunk_mb: int = field(default=64, metadata={"ge": 1})
    """Size of one chunk of logits when log-probs are computed, in MB."""
    logps_keep_mb: int = field(default=512, metadata={"ge": 0})
    """If all logits fit in this many MB, they are kept for the backward pass instead of computed twice; 0: never."""


@dataclass(frozen=True)
class PretrainConfig:
    """Trains a base model from scratch on the task's pre-training text."""

    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage. They override the shared `training`."""


@dataclass(frozen=True)
class ValidationConfig:
    """Task accuracy on validation questions at each evaluation of `training.eval_strategy` (`eval_task_accuracy`).

    Logged beside it: the shares of answers that are parsed (`eval_parsed`) and that end by themselves (`eval_ended`).
    """

    num_questions: int = field(default=200, metadata={"ge": 1})
    """Number of validation questions."""
    batch_size: int = field(default=256, metadata={"ge": 1})
    """Questions decoded in one batch."""


@dataclass(frozen=True)
class VftConfig:
    """Stage 1: maximum likelihood on the reference chains (Eq 1)."""

    reduction: Literal["token_mean", "token_sum"] = "token_mean"
    """token_mean: L_VFT is the mean over the step's tokens*; token_sum: Eq 1's token sum, averaged over sequences."""
    validation: ValidationConfig | None = None
    """Task accuracy on the validation split during training; null: only the validation loss."""
    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage. They override the shared `training`."""


@dataclass(frozen=True)
class VllmConfig:
    """How vLLM samples. Only with `engine: vllm`.

    The environment variable AFT_VLLM_PYTHON names the interpreter that has vLLM. Without the variable, the
    interpreter of the command must have vLLM.
    """

    tensor_parallel_size: int = field(default=1, metadata={"ge": 1})
    """GPUs that share one copy of the model."""
    replicas: int | None = field(default=None, metadata={"ge": 1})
    """Copies of the model on each machine; null: GPUs // tensor_parallel_size, and 1 without a GPU."""
    gpu_memory_utilization: float = field(default=0.9, metadata={"gt": 0.0, "le": 1.0})
    """Share of a GPU's whole memory that vLLM may use."""
    max_model_len: int | None = field(default=None, metadata={"ge": 2})
    """Longest prompt plus completion, in tokens; null: the stage's longest prompt plus its `max_new_tokens`."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Dtype of the weights; null: `model.inference_dtype` or `model.dtype`."""
    enforce_eager: bool = False
    """Compile nothing. vLLM then starts sooner and samples more slowly."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """More arguments of `vllm.LLM`, by their own names. `batch_size` is its `max_num_seqs`."""


@dataclass(frozen=True)
class OpenaiConfig:
    """Which OpenAI-compatible server samples. Only with `engine: openai`.

    The server must have `/completions`, and the weights of the stage's checkpoint. Nothing checks the weights.
    """

    base_url: str | None = None
    """Address up to `/v1`, as http://localhost:8000/v1; null: the environment variable OPENAI_BASE_URL."""
    model: str | None = None
    """Name of the model at the server; null: the checkpoint's folder or hub name. `{name}` (base, vft or a method) and
    `{seed}` stand for those of the unit."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key. It may be unset."""
    concurrency: int = field(default=64, metadata={"ge": 1})
    """Most requests of one process at a time."""
    retries: int = field(default=5, metadata={"ge": 0})
    """Further tries of a request that failed, with growing delays."""
    timeout: float = field(default=600.0, metadata={"gt": 0.0})
    """Seconds until a request without a whole reply has failed."""


@dataclass(frozen=True)
class SampleConfig:
    """Stage 2a: chains of thought sampled from the VFT model."""

    model: Literal["vft", "base"] = "vft"
    """Model that writes the chains (paper: vft)."""
    num_samples: int = field(default=6, metadata={"ge": 1, "le": 10_000})
    """Completions per question (paper: k = 6)."""
    temperature: float = field(default=1.0, metadata={"ge": 0.0})
    """Sampling temperature (paper: 1); 0: greedy."""
    top_p: float = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Nucleus sampling: sample from the smallest set of tokens with this total probability; 1: all tokens."""
    max_new_tokens: int = field(default=512, metadata={"ge": 1, "le": 2**20})
    """Longest completion, in tokens."""
    batch_size: int = field(default=64, metadata={"ge": 1})
    """Completions decoded in one batch on each device, or by each copy of vLLM's model."""
    batching: Literal["continuous", "static"] = "continuous"
    """continuous: the next completion replaces a finished one; static: a batch runs until its last row ends."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """What samples: this package with a transformers model, vLLM, or an OpenAI-compatible server."""
    vllm: VllmConfig = field(default_factory=VllmConfig)
    """How vLLM samples."""
    openai: OpenaiConfig = field(default_factory=OpenaiConfig)
    """Which server samples."""
    from_prefix: FromPrefixConfig | None = None
    """Continue right chains from their steps and keep what ends wrong (docs/data.md); null: no."""
    pool_questions: int | None = field(default=None, metadata={"ge": 0})
    """Number of validation questions to sample as well: a fixed, held-out pool that every model scores; null: 50, or
    all if there are fewer; 0: no pool."""


@dataclass(frozen=True)
class WarnLimits:
    """Shares of a seed's samples at which the run warns, after sampling and after labelling. null: never.

    The warning shows three samples, the likeliest cause, and the key to change. The limits change no result.
    """

    unparsed: float | None = field(default=0.2, metadata={"gt": 0.0, "le": 1.0})
    """Share of the completions in which no answer is found."""
    truncated: float | None = field(default=0.2, metadata={"gt": 0.0, "le": 1.0})
    """Share of the completions that the length limit cut."""
    all_wrong: float | None = field(default=0.9, metadata={"gt": 0.0, "le": 1.0})
    """Share of the sampled questions without a right completion. Only with binary ratings."""
    all_right: float | None = field(default=0.9, metadata={"gt": 0.0, "le": 1.0})
    """Share of the sampled questions without a wrong completion. Only with binary ratings."""


@dataclass(frozen=True)
class StopLimits:
    """Shares of a seed's samples at which the run stops before alignment. The labels stay. null: never.

    `all_wrong` and `all_right` count only if a loss that is to be trained needs pairs. `loss: null`, KTO and NCA need
    none. At 1 they stop a run only if no group has a pair. With `label.include_reference`, references make pairs with
    wrong samples.
    """

    unparsed: float | None = field(default=None, metadata={"gt": 0.0, "le": 1.0})
    """Share of the completions in which no answer is found."""
    truncated: float | None = field(default=None, metadata={"gt": 0.0, "le": 1.0})
    """Share of the completions that the length limit cut."""
    all_wrong: float | None = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Share of the sampled questions without a right completion. Only with binary ratings."""
    all_right: float | None = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Share of the sampled questions without a wrong completion. Only with binary ratings."""


@dataclass(frozen=True)
class LabelConfig:
    """Stage 2b: labels completions right or wrong by their final answer."""

    unparsed: Literal["negative", "drop"] = "negative"
    """A completion without an answer is a negative*, or is left out. Both cases are counted separately."""
    deduplicate: Literal["exact", "none"] = "exact"
    """exact: drop a question's completions with the same text*; none: keep them."""
    include_reference: bool = False
    """Add the reference chain to the positives* (the paper samples all of G_P)."""
    ratings: Ratings = field(default_factory=lambda: BinaryRatings(name="binary"))
    """Source of the ratings: binary, file, judge or function. The label always comes from the final answer."""
    warn: WarnLimits = field(default_factory=WarnLimits)
    """Shares at which the run warns."""
    stop: StopLimits = field(default_factory=StopLimits)
    """Shares at which the run stops before alignment."""


@dataclass(frozen=True)
class CollapseConfig:
    """Ends a training if right chains become unlikely. The training then ends as after its last step."""

    max_fall: float = field(default=0.5, metadata={"gt": 0.0})
    """Largest allowed fall of the positives' mean score since step 0, in nats per token."""
    patience: int = field(default=2, metadata={"ge": 1})
    """Number of consecutive logs (`training.logging_steps`) beyond `max_fall` that end the training."""


@dataclass(frozen=True)
class AlignConfig:
    """Stage 3: L_VFT plus a term on each question's candidates."""

    init_from: Literal["base", "vft"] = "base"
    """base: start from the base model and train with the joint loss*; vft: start from the VFT checkpoint."""
    supervise: Literal["reference", "reference_and_positives"] = "reference"
    """Chains in L_VFT: the reference, or the reference and every sampled positive (RFT)."""
    pair_references: bool = True
    """Use another question's reference in L_VFT if a question has no known chain, so that all steps have equally
    many. Not with `vft_reduction: question_mean` or `question_sum`, where each question counts once."""
    max_candidates: int | None = field(default=None, metadata={"ge": 1})
    """Use only this many first samples of each question, to vary k with one sample set; null: all samples."""
    negatives: Literal["all", "sampled", "from_prefix"] = "all"
    """Wrong candidates that are used: all; sampled: whole completions alone; from_prefix: those alone that continue a
    right chain (`sample.from_prefix`). Right ones are used in any case."""
    response_mask: bool = True
    """Score a candidate by the tokens that its `response_mask` counts; false: by all its tokens."""
    loss: RankingLoss | None = field(default_factory=AlignmentLoss)
    """The loss term on the candidates; null: none (continued VFT, or RFT)."""
    groups: Literal["all", "mixed"] = "all"
    """mixed: leave out each question whose samples are all right or all wrong, from L_VFT too."""
    vft_reduction: Literal["token_mean", "token_sum", "question_mean", "question_sum"] = "token_mean"
    """See `vft.reduction`. question_mean: each question with supervised chains weighs the same, with the mean over
    their tokens; question_sum: with the mean of their token sums (MaxRL, with `supervise: reference_and_positives`)."""
    drift: bool = True
    """Log the change of scores since step 0. Needs one pass without gradient before training."""
    stop_on_collapse: CollapseConfig | None = None
    """Stop if right chains become much less likely than at step 0 (turns `drift` on); null: never."""
    validation: ValidationConfig | None = None
    """See `vft.validation`."""
    training: dict[str, Any] = field(default_factory=dict)
    """TrainingArguments of this stage. They override the shared `training`."""


@dataclass(frozen=True)
class AssessmentConfig:
    """Assessment accuracy and perplexity on new samples of the evaluated model, and perplexity on the references."""

    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """Number of training questions; null: all, as in the paper."""
    per_label: int = field(default=3, metadata={"ge": 1})
    """Number of right chains, and of wrong chains, per question (paper: 3 + 3, so 9 pairs)."""
    max_samples: int = field(default=48, metadata={"ge": 2, "le": 10_000})
    """Most samples per question. If they do not yield enough right and wrong chains, the question is skipped* and
    counted."""
    samples_per_round: int = field(default=12, metadata={"ge": 1})
    """Samples per question in one round. Each round samples only questions that still lack chains."""
    temperature: float = field(default=1.0, metadata={"gt": 0.0})
    """Sampling temperature."""


@dataclass(frozen=True)
class SelfConsistencyConfig:
    """Majority vote and pass@k over several sampled paths. All path counts use the same samples."""

    num_paths: int = field(default=64, metadata={"ge": 1, "le": 1000})
    """Paths (completions) per question, sampled once (paper: up to 64)."""
    temperature: float = field(default=1.0, metadata={"gt": 0.0})
    """Sampling temperature of the paths*."""
    top_p: float = field(default=1.0, metadata={"gt": 0.0, "le": 1.0})
    """Nucleus sampling: sample from the smallest set of tokens with this total probability; 1: all tokens."""
    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """Use only this many first questions of task accuracy; null: all."""
    ns: list[int] = field(default_factory=lambda: [1, 4, 8, 16, 32, 64])
    """Path counts n for the vote (paper: 1 to 64), also used as the k of pass@k. None may exceed num_paths."""
    chains: bool = False
    """Also measure the chains of the paths: distinct right ones, pairs of right ones that differ, sampled tokens and
    entropy. Scores every distinct path once. Needs temperature 1 and top_p 1."""

    def recorded(self) -> dict[str, Any]:
        """Returns the keys as files have them: `chains` only where it is on, so that earlier files stay as they are."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "chains" or value}


@dataclass(frozen=True)
class EvaluateConfig:
    """Compares models on the same questions."""

    models: list[str] | None = None
    """Names: base, vft or a method; null: base and all models that this run trains."""
    split: Literal["test", "validation"] = "test"
    """Questions for task accuracy. Use `validation` to choose hyper-parameters."""
    num_questions: int | None = field(default=None, metadata={"ge": 1})
    """Use only this many first questions of the split; null: all."""
    temperature: float = field(default=0.0, metadata={"ge": 0.0})
    """Temperature for task accuracy; 0: greedy*."""
    max_new_tokens: int = field(default=512, metadata={"ge": 1, "le": 2**20})
    """Longest completion, in tokens."""
    batch_size: int = field(default=64, metadata={"ge": 1})
    """Completions decoded in one batch on each device, or by each copy of vLLM's model."""
    batching: Literal["continuous", "static"] = "continuous"
    """continuous: the next completion replaces a finished one; static: a batch runs until its last row ends."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """What samples, see `sample.engine`. Scores always come from the transformers model."""
    vllm: VllmConfig = field(default_factory=VllmConfig)
    """See `sample.vllm`."""
    openai: OpenaiConfig = field(default_factory=OpenaiConfig)
    """See `sample.openai`."""
    assessment: AssessmentConfig | None = field(default_factory=AssessmentConfig)
    """Assessment accuracy and perplexity; null: not measured."""
    self_consistency: SelfConsistencyConfig | None = None
    """Majority vote over several paths, and pass@k; null: not measured."""
    training_scores: TrainingScoresConfig | None = field(default_factory=TrainingScoresConfig)
    """Scores of training chains, for report.html; null: not kept. With vllm or openai they are kept only if something
    else is scored: the model is not loaded for them alone. The key outdates no finished evaluation."""


@dataclass(frozen=True)
class LaunchConfig:
    """How the processes of a stage are started."""

    config: str | None = field(default=None, metadata={"path": True})
    """accelerate configuration: a path, or the name of one in configs/accelerate/ or of one that comes with aft; null:
    one process, on a GPU if available."""
    num_processes: int | None = field(default=None, metadata={"ge": 1, "le": 100_000})
    """Processes that share a stage, one a GPU; null: the number in the file that `config` names."""
    workers: int = field(default=1, metadata={"ge": 1, "le": 1000})
    """Parallel processes that divide a stage's seeds and methods. Useful for small models."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if available, or what `config` says; cpu: never a GPU; cuda: an error if there is no GPU."""
    slurm: SlurmConfig | None = None
    """The job that `--sbatch` prints a script for, and the machines of each stage inside it; null: one machine."""


@dataclass(frozen=True)
class Config:
    """One run: a base model, a task, the stages and the methods to compare."""

    output_dir: str = field(metadata={"path": True})
    """Folder of the run. All output is written into it."""
    data: DataConfig
    """The task and its data."""
    model: ModelConfig
    """The base model."""
    stages: list[Stage] = field(default_factory=lambda: [stage for stage in STAGES if stage != "pretrain"])
    """Stages to run. The order is fixed: pretrain, vft, sample, label, align, evaluate."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds (paper: 3). Every stage after pretrain runs once per seed. Tables show mean and standard deviation."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """How a question becomes a prompt."""
    training: dict[str, Any] = field(default_factory=dict)
    """transformers' TrainingArguments, by their own names, for all training stages."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Stage 0, only for a base model trained from scratch."""
    vft: VftConfig = field(default_factory=VftConfig)
    """Stage 1."""
    sample: SampleConfig = field(default_factory=SampleConfig)
    """Stage 2a."""
    label: LabelConfig = field(default_factory=LabelConfig)
    """Stage 2b."""
    align: AlignConfig = field(default_factory=AlignConfig)
    """Stage 3."""
    methods: dict[str, Any] = field(default_factory=lambda: {"aligned": {}})
    """Name -> changes to `align`. All methods are trained on the same samples and compared in one table."""
    rounds: RoundsConfig | None = None
    """Sample, label and align more than once; null: once."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Stage 4."""
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    """How the processes of a stage are started."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    """What `--plan` assumes. It changes no result."""
    hub: HubConfig | None = None
    """Push the trained models to the Hugging Face hub; null: they stay here."""


def model_names(config: Config) -> list[str]:
    """Names of the models that `evaluate` compares, in order."""
    if config.evaluate.models is not None:
        return config.evaluate.models
    names = [BASE]
    if "vft" in config.stages:
        names.append(VFT)
    return names + (trained_names(config) if "align" in config.stages else [])


def num_rounds(config: Config) -> int:
    """Returns how many rounds the run may have."""
    return count_rounds(config.rounds)


def validates_rounds(config: Config) -> bool:
    """True if the run has rounds whose models are validated."""
    return config.rounds is not None and num_rounds(config) > 1 and config.rounds.validation_questions != 0


def trained_names(config: Config) -> list[str]:
    """Names of the models that `align` may train: each method with its rounds."""
    return round_names(config.methods, num_rounds(config))


def hub_repos(config: Config) -> list[tuple[str, str, int]]:
    """(repository, model, seed) of each model that the section `hub` pushes, in order: the methods, or vft."""
    if config.hub is None:
        return []
    names = list(config.methods) if "align" in config.stages else [VFT]
    return [(f"{config.hub.repo}-{name}-seed{seed}", name, seed) for name in names for seed in config.seeds]
