"""The `plan` section: the hardware, rates and lengths that a forecast assumes. It changes no result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# The names of `aft.forecast.hardware`.
Hardware = Literal[
    "t4",
    "v100",
    "a10",
    "l4",
    "rtx-3090",
    "rtx-4090",
    "a6000",
    "l40s",
    "a100-40gb",
    "a100",
    "h100",
    "h200",
    "b200",
    "mi250x",
    "mi300x",
]


@dataclass(frozen=True)
class PlanConfig:
    """What `--plan` and `--dry-run` assume about the hardware, its rates and the texts. It changes no result."""

    gpus: int | None = field(default=None, metadata={"ge": 1, "le": 100_000})
    """GPUs; null: the processes that `launch` starts."""
    hardware: Hardware | None = None
    """Name of the GPU, which sets `memory_gb`, `tflops` and `bandwidth_gb`; null: memory of this machine's GPU."""
    memory_gb: float | None = field(default=None, metadata={"gt": 0.0})
    """Memory of one GPU, in GB of 10^9 bytes; null: the hardware's."""
    reserve: float = field(default=0.05, metadata={"ge": 0.0, "lt": 1.0})
    """Share of the memory that stays free for the CUDA context, other libraries and fragments."""
    tflops: float | None = field(default=None, metadata={"gt": 0.0})
    """Peak rate of matrix products in the training's precision, in 10^12 operations a second; null: the hardware's."""
    bandwidth_gb: float | None = field(default=None, metadata={"gt": 0.0})
    """Rate at which the memory is read, in GB a second; null: the hardware's."""
    mfu: float = field(default=0.35, metadata={"gt": 0.0, "le": 1.0})
    """Share of `tflops` that training and scoring reach."""
    mbu: float = field(default=0.3, metadata={"gt": 0.0, "le": 1.0})
    """Share of `bandwidth_gb` that sampling reaches."""
    train_tokens_per_second: float | None = field(default=None, metadata={"gt": 0.0})
    """Measured rate of training, in unique tokens a second of one GPU; null: from `tflops` and `mfu`."""
    sample_tokens_per_second: float | None = field(default=None, metadata={"gt": 0.0})
    """Measured rate of sampling, in tokens a second of one GPU; null: from `bandwidth_gb` and `mbu`."""
    price_per_hour: float | None = field(default=None, metadata={"ge": 0.0})
    """Price of one GPU for an hour, in any currency; null: no cost is shown."""
    questions: int | None = field(default=None, metadata={"ge": 1})
    """Training questions; null: counted in the data."""
    prompt_tokens: float | None = field(default=None, metadata={"gt": 0.0})
    """Tokens of a prompt on average; null: counted with the tokenizer."""
    response_tokens: float | None = field(default=None, metadata={"gt": 0.0})
    """Tokens of a response on average; null: those of the references."""
    model: dict[str, Any] | str | None = None
    """Keys of a config.json (`model_type: llama` if not given), or a folder or file with one; null: that of the base
    model."""
