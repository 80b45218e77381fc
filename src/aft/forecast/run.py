"""The forecast of a run: for each stage its memory, whether it fits, its tokens, operations, hours and cost."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from ..config import Config, align_config
from ..config.launch_file import asked_processes, on_cpu, read_launch_file
from ..config.plan import PlanConfig
from ..config.schema import DEFAULT_POOL
from ..device import use_cpu
from ..errors import ConfigError, DataError
from ..json_files import read_json
from ..model import SPECIAL_TOKENS, lora_arguments, model_config
from ..run.folder import BASE, VALIDATE
from ..scoring.packing import SHARED
from ..stages.plan import Plan
from ..tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION, closed_vocabulary
from .hardware import GPUS, WITHOUT_BFLOAT16, Gpu
from .memory import (
    BYTES,
    DDP,
    FSDP,
    ONE,
    ZERO1,
    ZERO2,
    ZERO3,
    Memory,
    Setup,
    cached_tokens,
    quantised_bytes,
    sampling_memory,
    training_memory,
)
from .optimizers import DEFAULT, is_known
from .trace import StepMemory, Texts, trace_step
from .weights import Architecture, read_architecture
from .work import Costs, Lengths, Speed, Work, candidates_used, rounds_of_groups, seconds, work

_SAMPLED_QUESTIONS = 256
_CHARACTERS_PER_TOKEN = 4
# LoRA as an alternative, where the run has none.
DEFAULT_LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
# Questions of the traced call. More of them would only take longer: their tokens go into these.
_TRACED = 2


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where the run computes. `memory`: bytes of one GPU, or of the CPU, that may be used; None: not known."""

    gpus: int
    memory: float | None
    shown: str
    cpu: bool
    price: float | None


@dataclasses.dataclass(frozen=True)
class StageForecast:
    """One unit of a seed. `memory`: at its peak, of one process. `seconds`: on all GPUs; None: not known.

    `fits`: None if the memory of the hardware is not known. `shown`: how the unit computes. `details`: further lines.
    """

    work: Work
    memory: Memory | None
    fits: bool | None
    shown: str
    operations: float | None
    seconds: float | None
    details: tuple[str, ...] = ()


class RunForecast:
    """Forecasts the units of a plan. `network`: the model's configuration may be fetched from the hub.

    Raises `ConfigError` if no configuration of the model can be read here. Weights are never read.
    """

    def __init__(self, plan: Plan, *, network: bool = True) -> None:
        self.plan, self.config, self.asked = plan, plan.config, plan.config.plan
        self.notes: list[str] = []
        launch = plan.config.launch
        self.launch_file = read_launch_file(launch.config) if launch.config is not None else {}
        config = find_model_config(plan, network=network)
        lora = plan.config.model.lora
        self.lora = lora_arguments(dataclasses.asdict(lora)) if lora is not None else None
        self.model = read_architecture(config, self.lora)
        self._adapted: dict[str, Architecture] = {}
        self.machine = self._machine()
        self._steps: dict[Any, StepMemory | str] = {}

    # ---- hardware ----

    def _machine(self) -> Machine:
        asked, launch = self.asked, self.config.launch
        processes = asked_processes(launch, self.launch_file) or 1
        gpus = asked.gpus or processes
        named = GPUS.get(asked.hardware or "")
        cpu = asked.hardware is None and asked.memory_gb is None and asked.tflops is None
        cpu = cpu and (on_cpu(self.launch_file) if launch.config is not None else use_cpu(launch.device))
        memory, shown = asked.memory_gb and asked.memory_gb * 1e9, str(asked.hardware or "GPU")
        if memory is None and named is not None:
            memory = named.memory_gb * 1e9
        elif memory is None and cpu:
            shown = "CPU"
            memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / launch.workers
        elif memory is None and torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            memory, shown = float(properties.total_memory), properties.name
        return Machine(
            gpus=gpus,
            memory=None if memory is None else memory * (1 - asked.reserve),
            shown=shown,
            cpu=cpu,
            price=asked.price_per_hour,
        )

    def _compute(self, training: dict[str, Any]) -> str | None:
        """The type of mixed precision of a training."""
        if training.get("bf16"):
            return "bfloat16"
        if training.get("fp16"):
            return "float16"
        mixed = self.launch_file.get("mixed_precision")
        mixed = None if self.launch_file.get("distributed_type") == "DEEPSPEED" else mixed
        return {"bf16": "bfloat16", "fp16": "float16"}.get(str(mixed))

    def _products(self, setup: Setup | None = None) -> str:
        """The type in which a training multiplies matrices, or, without one, sampling and scoring."""
        section = self.config.model.quantization
        if section is not None and self.is_quantised(inference=setup is None):
            return section.bnb_4bit_compute_dtype or self.dtype()
        return self.dtype(inference=True) if setup is None else setup.compute or setup.dtype

    def _speed(self, setup: Setup | None) -> Speed:
        """The rates of one GPU in a unit. `setup`: of its training; None: it trains nothing."""
        asked, named = self.asked, GPUS.get(self.asked.hardware or "")
        rate = asked.bandwidth_gb or (named.bandwidth_gb if named is not None else None)
        return Speed(
            _operations(asked, named, self._products(setup)),
            None if rate is None else rate * 1e9 * asked.mbu,
            asked.train_tokens_per_second,
            asked.sample_tokens_per_second,
            scoring=_operations(asked, named, self._products()),
        )

    def _processes(self, stage: str) -> int:
        """How many GPUs compute a unit: those of the processes that share it, and vLLM's own."""
        section, gpus = self.section_of(stage), self.machine.gpus
        if getattr(section, "engine", None) == "vllm":
            copies = section.vllm.replicas
            return gpus if copies is None else min(gpus, copies * section.vllm.tensor_parallel_size)
        if self._divided() != ONE:
            return gpus
        if gpus > 1:
            self._note(
                f"one process computes without launch.config, so {gpus - 1} of {gpus} GPUs stand idle in {stage}"
            )
        return 1

    def dtype(self, *, inference: bool = False) -> str:
        """The dtype of the weights, in training or when they sample and score."""
        model = self.config.model
        if inference and self.is_quantised(inference=True):
            return "float32"  # what stands between the products in 4 bits
        found = (model.inference_dtype if inference else None) or model.dtype
        if found != "auto":
            return found
        own = str(getattr(self.model.config, "dtype", None) or "float32").removeprefix("torch.")
        return own if own in BYTES else "float32"

    # ---- settings of the trainings ----

    def _divided(self) -> str:
        kind = str(self.launch_file.get("distributed_type") or "NO")
        if kind == "DEEPSPEED":
            stage = (self.launch_file.get("deepspeed_config") or {}).get("zero_stage")
            return {1: ZERO1, 2: ZERO2}.get(int(stage or 3), ZERO3)
        return {"FSDP": FSDP, "MULTI_GPU": DDP, "MULTI_CPU": DDP}.get(kind, ONE)

    def setup(self, training: dict[str, Any]) -> Setup:
        """How the run's own launch settings divide and compute a training."""
        divided = self._divided()
        checkpointing = training.get("activation_checkpointing", training.get("gradient_checkpointing", False))
        return Setup(
            divided,
            1 if divided == ONE else self.machine.gpus,
            self.dtype(),
            self._compute(training),
            str(training.get("optim", DEFAULT)),
            bool(checkpointing),
            self.lora,
            quantised=self.is_quantised(),
            cpu=self.machine.cpu,
        )

    def is_quantised(self, *, inference: bool = False) -> bool:
        """True if the weights are in 4 bits, in training or when they sample and score."""
        section = self.config.model.quantization
        return section is not None and (section.inference or not inference)

    def _inference_weights(self) -> float:
        """Bytes of the weights that sample and score."""
        if not self.is_quantised(inference=True):
            return float(self.model.count * BYTES[self.dtype(inference=True)])
        return quantised_bytes(self.model) + 4 * sum(weight.count for weight in self.model.adapters)

    def texts(self, stage: str, name: str | None, training: dict[str, Any], budget: int | None) -> tuple[Texts, bool]:
        """The largest call of a training, and whether its steps have several calls.

        Batches vary in length. The longest of a training is taken to exceed the mean by 1.2 / √(questions of a batch).
        """
        lengths = self.lengths
        responses = [lengths.response]
        if stage == "align":
            align, k = align_config(self.config, name or ""), self.config.sample.num_samples
            used = candidates_used(self.config, align, k) * rounds_of_groups(self.config, name or "")
            if align.loss is not None or align.supervise != "reference":
                responses += [lengths.sampled] * used
        whole = [max(2, round(response)) for response in responses]
        prompt = max(1, round(lengths.prompt))
        each = prompt + sum(response - 1 for response in whole)
        batch = int(training.get("per_device_train_batch_size", 8))
        tokens = batch * each * (1 + 1.2 / math.sqrt(batch))
        several = int(training.get("gradient_accumulation_steps", 1)) > 1
        if budget is not None and tokens > budget:
            tokens, several = max(float(budget), each * 1.0), True
        questions = max(1, min(_TRACED, round(tokens / each)))
        # the call's tokens stand in these questions
        scale = tokens / (questions * each)
        whole = [max(2, round(response * scale)) for response in whole]
        prompt = max(1, round(tokens / questions) - sum(response - 1 for response in whole))
        return Texts(questions, prompt, tuple(whole)), several

    def step(self, setup: Setup, texts: Texts) -> StepMemory:
        """The traced step. Raises `ConfigError` if the architecture cannot be traced."""
        model = self.config.model
        layout = SHARED if model.layout == "auto" else model.layout
        settings = setup.step(model.logps_chunk_mb * 2**20, model.logps_keep_mb * 2**20, layout)
        key = (repr(settings), texts)
        if key not in self._steps:
            try:
                self._steps[key] = trace_step(self.model.config, settings, texts)
            except Exception as error:  # an architecture that needs data, as a router of experts does
                self._steps[key] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        found = self._steps[key]
        if isinstance(found, str):
            kind = getattr(self.model.config, "model_type", "this architecture")
            raise ConfigError(f"activations of {kind} cannot be forecast: {found}")
        return found

    def memory(self, setup: Setup, texts: Texts, *, again: bool) -> Memory:
        """The peak of one process in a training."""
        found = self.model
        if setup.lora is not None and setup.lora != self.lora:
            key = repr(setup.lora)
            if key not in self._adapted:
                self._adapted[key] = read_architecture(self.model.config, setup.lora)
            found = self._adapted[key]
        return training_memory(found, setup, self.step(setup, texts), again=again)

    def fits(self, memory: Memory) -> bool | None:
        """True if the memory suffices; None if the hardware's is not known."""
        return None if self.machine.memory is None else memory.total <= self.machine.memory

    # ---- lengths ----

    @functools.cached_property
    def lengths(self) -> Lengths:
        """The numbers and lengths of the texts."""
        return count_lengths(self.plan)

    # ---- units ----

    def units(self, stages: Sequence[str]) -> list[StageForecast]:
        """The forecast of each unit of a seed."""
        found = [
            unit
            for unit in work(self.config, self.lengths, 1 if self._divided() == ONE else self.machine.gpus)
            if unit.stage in stages
        ]
        return [self._training(unit) if unit.stage in ("vft", "align") else self._sampling(unit) for unit in found]

    def training_of(self, unit: Work) -> dict[str, Any]:
        """The TrainingArguments of a unit."""
        section = align_config(self.config, unit.name or "") if unit.stage == "align" else self.config.vft
        return self.plan.training(section.training)

    def _training(self, unit: Work) -> StageForecast:
        training = self.training_of(unit)
        setup = self.setup(training)
        if not is_known(setup.optim):
            self._note(f"training.optim: the states of {setup.optim} are not known here; counted as AdamW's")
        texts, again = self.texts(unit.stage, unit.name, training, self.config.model.max_tokens_per_batch)
        memory: Memory | None = None
        details: tuple[str, ...] = ()
        try:
            memory = self.memory(setup, texts, again=again)
        except ConfigError as error:
            details = tuple(error.problems)
        costs = self._costs(setup.lora is not None, setup.checkpointing)
        return self._finish(
            unit, memory, f"{setup.describe()}, {texts.tokens:,} tokens a call", costs, details, setup=setup
        )

    def _sampling(self, unit: Work) -> StageForecast:
        section: Any = self.section_of(unit.stage)
        dtype, lengths = self.dtype(inference=True), self.lengths
        costs = self._costs(frozen=True, again=False)
        if section.engine == "openai":
            return StageForecast(unit, None, None, "a server", None, None)
        rows = section.batch_size
        if section.engine == "vllm":
            share = section.vllm.gpu_memory_utilization
            whole = (self.machine.memory or 0) / (1 - self.asked.reserve)
            together = section.vllm.tensor_parallel_size
            room = cached_tokens(self.model, section.vllm.dtype or dtype, share * whole * together) if whole else None
            weights = self.model.count * BYTES[section.vllm.dtype or dtype] / together
            memory = Memory(weights, 0.0, 0.0, 0.0, max(0.0, share * whole - weights))
            full = lengths.longest + section.max_new_tokens
            line = "" if room is None else f"room for {room // full:,} completions of {full:,} tokens at once"
            fits = None if room is None else room >= full
            shown = f"vLLM, {share:.0%} of the memory"
            return self._finish(unit, memory if whole else None, shown, costs, (line,) if line else (), fits, rows)
        memory = self.sampling(unit.stage, rows)
        return self._finish(
            unit,
            memory,
            f"{rows} rows, {'4 bits' if self.is_quantised(inference=True) else dtype}",
            costs,
            (),
            None,
            rows,
        )

    def section_of(self, stage: str) -> Any:
        """The section with the engine of a stage. The validation of rounds samples as the evaluation does."""
        return getattr(self.config, "evaluate" if stage == VALIDATE else stage)

    def sampling(self, stage: str, rows: int) -> Memory:
        """The memory of the transformers engine with `rows` completions at once, all of the greatest length."""
        section: Any = self.section_of(stage)
        k = self.config.sample.num_samples if stage == "sample" else 1
        prompts = max(1, math.ceil(rows / k))
        return sampling_memory(
            *(self.model, self.dtype(inference=True), rows, self.lengths.longest, section.max_new_tokens, prompts),
            weights=self._inference_weights(),
        )

    def _costs(self, frozen: bool, again: bool) -> Costs:
        model = self.model
        return Costs(model.used_by_token, model.head, model.attention_width * model.layers, frozen, again)

    def _finish(
        self,
        unit: Work,
        memory: Memory | None,
        shown: str,
        costs: Costs,
        details: tuple[str, ...],
        fits: bool | None = None,
        rows: int = 1,
        setup: Setup | None = None,
    ) -> StageForecast:
        if fits is None and memory is not None:
            fits = self.fits(memory)
        if self.lengths.questions is None:
            return StageForecast(unit, memory, fits, shown, None, None, details)
        size = BYTES[self.dtype(inference=True)]
        length = self.lengths.prompt + self.lengths.sampled / 2
        sampling = (self._inference_weights(), self.model.cache_values * size * length, rows)
        taken = seconds(unit, costs, self._speed(setup), sampling, self._processes(unit.stage))
        return StageForecast(unit, memory, fits, shown, costs.operations(unit), taken, details)

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


def _operations(asked: PlanConfig, named: Gpu | None, dtype: str) -> float | None:
    """Operations a second of one GPU with products in `dtype`; None: not known."""
    tflops = asked.tflops
    if tflops is None and named is not None:
        half = dtype == "float16" or (dtype == "bfloat16" and asked.hardware not in WITHOUT_BFLOAT16)
        tflops = named.half if half else named.single
    return None if tflops is None else tflops * 1e12 * asked.mfu


# ---- the model's configuration ----


def find_model_config(plan: Plan, *, network: bool) -> Any:
    """transformers' configuration of the run's model, from `plan.model`, its folder, its cache, or the hub.

    Raises `ConfigError` if there is none here.
    """
    asked, model = plan.config.plan.model, plan.config.model
    if isinstance(asked, str):
        path = Path(asked)
        path = path if path.is_file() else path / "config.json"
        if not path.is_file():
            raise ConfigError(f"plan.model: no file {path} (looked in {Path.cwd()})")
        try:
            asked = read_json(path) or {}
        except DataError as error:
            raise ConfigError(f"plan.model: {error}") from None
    if asked is not None:
        keys = dict(asked)
        return _for_model("plan.model", str(keys.pop("model_type", "llama")), keys)
    if model.from_scratch is not None and not model.name_or_path:
        scratch = model.from_scratch
        vocabulary = closed_vocabulary(plan.task) if plan.sees_data else None
        size = len(vocabulary) + len(SPECIAL_TOKENS) if vocabulary else scratch.vocab_size
        return _for_model("model.from_scratch", scratch.architecture, {"vocab_size": size, **scratch.config})
    checkpoint = plan.checkpoint(BASE, None)
    try:
        if not network and not Path(checkpoint).is_dir():
            from transformers.utils import cached_file

            cached_file(checkpoint, "config.json", revision=model.revision, local_files_only=True)
        return model_config(
            checkpoint,
            revision=None if Path(checkpoint).is_dir() else model.revision,
            trust_remote_code=model.trust_remote_code,
            gguf_file=plan.gguf_file(checkpoint),
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"model.name_or_path: the config.json of '{checkpoint}' cannot be read here ({reason});"
            " set plan.model to a folder or file with it, or to its keys, as in"
            " plan.model='{model_type: llama, hidden_size: 4096, ...}'"
        ) from None


def _for_model(key: str, kind: str, keys: dict[str, Any]) -> Any:
    try:
        return AutoConfig.for_model(kind, **keys)
    except Exception as error:
        raise ConfigError(f"{key}: no configuration of {kind}: {' '.join(str(error).split())[:200]}") from None


# ---- lengths ----


def count_lengths(plan: Plan) -> Lengths:
    """Counts the questions, and the tokens of a sample of them, where data and tokenizer can be read without a network.

    What cannot be counted comes from the `plan` section or from an assumption, which a note names.
    """
    config, asked = plan.config, plan.config.plan
    notes: list[str] = []
    sizes: dict[str, int] = {}
    prompts: list[str] = []
    answers: list[str] = []
    if plan.sees_data:
        seed = config.seeds[0]
        for split in (TRAIN, ANSWER_ONLY, VALIDATION, TEST):
            questions = plan.task.load(split, seed=seed)
            sizes[split] = len(questions)
            if split in (TRAIN, ANSWER_ONLY):
                step = max(1, len(questions) // _SAMPLED_QUESTIONS)
                prompts += [question.question for question in questions[::step]]
                answers += [plan.task.reference_response(q) for q in questions[::step] if q.rationale is not None]
    held = sizes if plan.sees_data else _unseen(config, notes)
    encode = _encoder(plan, notes) if prompts else None
    limit, new = config.model.max_length, config.sample.max_new_tokens
    prompt, longest, response = asked.prompt_tokens, None, asked.response_tokens
    if encode is not None:
        counted = [encode(text, True) for text in prompts]
        prompt, longest = prompt or sum(counted) / len(counted), max(counted)
        if answers and response is None:
            response = sum(encode(text, False) + 1 for text in answers) / len(answers)
    if prompt is None:
        prompt = limit / 4
        notes.append(f"prompts of {prompt:.0f} tokens: a quarter of model.max_length; plan.prompt_tokens says better")
    sampled = response
    if response is None:
        sampled = new / 2
        response = min(sampled, limit - prompt)
        notes.append(
            f"responses of {response:.0f} tokens: half of sample.max_new_tokens; plan.response_tokens says better"
        )
    elif asked.response_tokens is None:
        notes.append("samples are taken to be as long as the references; plan.response_tokens says better")
    sampled = min(float(sampled or 0), float(new))
    total = asked.questions or (sizes.get(TRAIN, 0) + sizes.get(ANSWER_ONLY, 0) if plan.sees_data else None)
    referenced = sizes.get(TRAIN, total) if asked.questions is None else total
    if total is None:
        notes.append("the data cannot be read here: set plan.questions for tokens, hours and cost")
    return Lengths(
        referenced,
        total,
        held.get(VALIDATION, 0),
        held.get(TEST, 0),
        float(prompt),
        int(longest or math.ceil(min(2 * prompt, limit))),
        float(response),
        sampled,
        tuple(notes),
    )


def _unseen(config: Config, notes: list[str]) -> dict[str, int]:
    """Held-out questions of data that cannot be read: as `data` says, else as many as the stages ask for."""
    data, asked, found = config.data, config.evaluate, {}
    for split in (VALIDATION, TEST):
        key = f"num_{split}"
        size = getattr(data, key, None)
        if size is None and getattr(data, split, "unknown") is None:
            size = 0  # a file of its own that is not given
        if size is None:
            size = 0
            if split == VALIDATION and "sample" in config.stages:
                size = DEFAULT_POOL if config.sample.pool_questions is None else config.sample.pool_questions
                notes.append(f"{size} validation questions for the pool, as sample.pool_questions asks")
            if split == asked.split and "evaluate" in config.stages:
                if asked.num_questions is None:
                    keys = [f"data.{key}"] * hasattr(data, key) + ["evaluate.num_questions"]
                    notes.append(f"evaluation of {size} {split} questions; {' or '.join(keys)} says better")
                size = max(size, asked.num_questions or 0)
        found[split] = size
    return found


def _encoder(plan: Plan, notes: list[str]) -> Any:
    """A function of (text, whether it is a prompt) that counts its tokens."""
    from ..stages.context import Stage

    checkpoint = plan.checkpoint(BASE, None)
    try:
        if not Path(checkpoint).is_dir():
            raise ConfigError("the tokenizer is not here")
        stage = Stage(plan, cpu=True)
        tokenizer = stage.tokenizer(checkpoint)
        texts = stage.texts(tokenizer)
    except (ConfigError, DataError):
        notes.append(f"the tokenizer is not here: a token is counted for {_CHARACTERS_PER_TOKEN} characters")
        template = len(plan.config.prompt.template.replace("{question}", ""))
        return lambda text, prompt: (len(text) + (template if prompt else 0)) / _CHARACTERS_PER_TOKEN
    return lambda text, prompt: len(
        texts.prompt(text) if prompt else tokenizer(text, add_special_tokens=False).input_ids
    )
