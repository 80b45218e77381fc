"""Turns the sections `vllm` and `openai` into engines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..config import Config
from ..config.schema import EvaluateConfig, OpenaiConfig, SampleConfig
from ..device import visible_gpus
from ..encoding import TextEncoder
from ..errors import ConfigError
from ..model import model_settings
from ..records import Question
from ..run.engines import replica_devices, vllm_python, vllm_versions
from ..run.folder import Unit
from ..sampling.openai_engine import OpenaiEngine, Serving
from ..sampling.vllm_engine import Replicas, VllmEngine
from ..sizes import vllm_positions
from .plan import ADAPTER_CONFIG

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_CPU_BLOCK = 128  # tokens; vLLM's cache on a CPU grows by so many
_CPU_TOKENS = 4096  # vLLM's own default for one step on a CPU


def open_openai(unit: Unit, section: OpenaiConfig, name: str, checkpoint: str, texts: TextEncoder) -> OpenaiEngine:
    """The engine of a server. `name`: of the model that the unit samples from, base, vft or a method."""
    model = checkpoint if section.model is None else section.model.replace("{name}", name)
    serving = Serving(
        key=unit.stage,
        model=model.replace("{seed}", str(unit.seed)) if section.model else model,
        base_url=section.base_url,
        key_variable=section.key_variable,
        concurrency=section.concurrency,
        retries=section.retries,
        timeout=section.timeout,
    )
    return OpenaiEngine(serving, texts.tokenizer, texts.ends)


def open_vllm(
    config: Config,
    unit: Unit,
    section: SampleConfig | EvaluateConfig,
    checkpoint: str,
    texts: TextEncoder,
    questions: Iterable[Question],
    *,
    cpu: bool,
    gguf_file: str | None,
) -> VllmEngine:
    """The engine of vLLM, with an engine's arguments for the longest of `questions`. Nothing starts yet.

    `cpu`: no GPU is used. Raises `ConfigError` if vLLM is not there, or cannot do what is asked.
    """
    if gguf_file is not None:
        raise ConfigError(
            f"{unit.stage}.engine: vllm, but the checkpoint is the GGUF file {gguf_file}; save it as a checkpoint of"
            " transformers first, or take the transformers engine"
        )
    if (Path(checkpoint) / ADAPTER_CONFIG).is_file():
        raise ConfigError(
            f"{unit.stage}.engine: vllm, but {checkpoint} is an adapter without its model; set model.lora.save to"
            " merged or both, or take the transformers engine"
        )
    own, model, local = section.vllm, config.model, Path(checkpoint).is_dir()
    vllm_versions()
    settings = model_settings(
        checkpoint, revision=None if local else model.revision, trust_remote_code=model.trust_remote_code
    )
    dtype = own.dtype or _dtype(unit.stage, model.inference_dtype or model.dtype, settings)
    longest = max(((len(texts.prompt(q.question)), q.id) for q in questions), default=(1, ""))
    length = own.max_model_len or longest[0] + section.max_new_tokens
    if own.max_model_len is None:
        _check_positions(unit.stage, longest, section.max_new_tokens, settings)
    gpus = [] if cpu else visible_gpus()
    arguments: dict[str, Any] = {
        "model": checkpoint,
        "revision": None if local else model.revision,
        "trust_remote_code": model.trust_remote_code,
        # its tokenizer is not used, and another version of transformers might not read it
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "max_model_len": length,
        "max_num_seqs": section.batch_size,
        "tensor_parallel_size": own.tensor_parallel_size,
        "gpu_memory_utilization": own.gpu_memory_utilization,
        "enforce_eager": own.enforce_eager,
        "disable_log_stats": True,
        "seed": 0,
    }
    environment = {}
    if not gpus:
        # A prompt that is read in two pieces needs a generator that can go back, which a CPU's cannot. With
        # `from_prefix` most of a completion can be in the prompt.
        read = length if getattr(section, "from_prefix", None) else longest[0]
        arguments["max_num_batched_tokens"] = max(_CPU_TOKENS, section.batch_size * read)
        environment = _cache_on_cpu(settings, section.batch_size, length, _BYTES[dtype])
    return VllmEngine(
        vllm_python(),
        unit.stage,
        arguments | own.arguments,
        texts.tokenizer,
        texts.ends,
        _replicas(section, gpus, f"{unit.stage}.vllm"),
        environment=environment,
    )


def _dtype(key: str, named: str, settings: dict[str, Any]) -> str:
    """The dtype's name. vLLM's own `auto` makes float32 checkpoints sixteen bits wide."""
    found = named if named != "auto" else str(settings.get("dtype") or settings.get("torch_dtype"))
    found = found.removeprefix("torch.")
    if found not in _BYTES:
        raise ConfigError(f"{key}.vllm.dtype: the checkpoint does not say its dtype; allowed: {', '.join(_BYTES)}")
    return found


def _check_positions(key: str, longest: tuple[int, str], new: int, settings: dict[str, Any]) -> None:
    positions = vllm_positions(settings)
    length, question = longest
    if positions is None or length + new <= positions.count:
        return
    raise ConfigError(
        f"{key}.max_new_tokens: {new:,} behind the {length:,} tokens of question {question} are more than the model's"
        f" {positions.count:,} positions, which vLLM refuses; make it {max(1, positions.count - length):,} or less"
    )


def _replicas(section: SampleConfig | EvaluateConfig, gpus: list[str], key: str) -> Replicas:
    """The replicas that this process drives. A machine's first processes drive one or more each."""
    from accelerate import PartialState

    state = PartialState()
    devices = replica_devices(section.vllm.tensor_parallel_size, section.vllm.replicas, gpus, key)
    on_machine = int(os.environ.get("LOCAL_WORLD_SIZE") or state.num_processes)
    driving = min(on_machine, len(devices))
    drivers = [rank for rank in range(state.num_processes) if rank % on_machine < driving]
    return Replicas(devices[state.local_process_index :: driving], drivers, state.num_processes)


def _cache_on_cpu(settings: dict[str, Any], rows: int, length: int, size: int) -> dict[str, str]:
    """The room of the keys and values on a CPU, in whole GB. vLLM's own choice is a share of all memory."""
    if "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return {}
    try:
        heads = settings["num_attention_heads"]
        width = settings.get("head_dim") or settings["hidden_size"] // heads
        token = 2 * settings["num_hidden_layers"] * (settings.get("num_key_value_heads") or heads) * width * size
    except (KeyError, TypeError):
        return {}
    columns = -(-length // _CPU_BLOCK) * _CPU_BLOCK
    return {"VLLM_CPU_KVCACHE_SPACE": str(max(1, -(-rows * columns * token // 2**30)))}
