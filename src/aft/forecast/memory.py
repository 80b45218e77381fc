"""Bytes of one process that trains: weights, gradients, optimizer, activations, under each way to divide them."""

from __future__ import annotations

import dataclasses
from typing import Any

from .optimizers import Trained, state_bytes, step_bytes
from .trace import StepMemory, StepSettings
from .weights import Architecture

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# NF4 with double quantisation: 4 bits, an 8-bit scale for 64 values, a float32 scale for 256 scales.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# DeepSpeed's own sizes of its buckets and of what ZeRO-3 keeps whole, in values.
_BUCKET, _LIVE = 500_000_000, 1_000_000_000

ONE, DDP, FSDP, ZERO1, ZERO2, ZERO3 = "one process", "DDP", "FSDP2", "ZeRO-1", "ZeRO-2", "ZeRO-3"
DIVIDES_ALL = (FSDP, ZERO3)


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a training is divided and computed.

    `kind`: how processes share it. `dtype`: of the weights. `compute`: the type of mixed precision; None: `dtype`.
    `lora`: arguments of peft's LoraConfig. `quantised`: the frozen linear layers are in 4 bits.
    """

    kind: str
    processes: int
    dtype: str
    compute: str | None
    optim: str
    checkpointing: bool
    lora: dict[str, Any] | None = None
    quantised: bool = False
    cpu: bool = False

    def step(self, chunk_bytes: int, keep_bytes: int, layout: str) -> StepSettings:
        """How the step of this training is traced. FSDP2 and DeepSpeed compute with weights of the compute type."""
        whole = self.kind in (ONE, DDP)
        dtype = self.dtype if whole else (self.compute or self.dtype)
        if self.quantised:
            # what stands between the products in 4 bits is float32
            dtype = self.compute or "float32"
        autocast = self.compute if self.compute not in (None, dtype) or (self.lora and self.compute) else None
        return StepSettings(
            *(dtype, autocast, self.checkpointing, self.lora, chunk_bytes, keep_bytes, layout), quantised=self.quantised
        )

    def describe(self) -> str:
        """The setup in a few words."""
        where = self.kind if self.kind == ONE or self.processes == 1 else f"{self.kind} × {self.processes}"
        what = "QLoRA" if self.quantised else "LoRA" if self.lora is not None else "all weights"
        return f"{where}, {what}{', checkpointing' if self.checkpointing else ''}"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one process. `buffers`: gathered weights, buckets and dequantised weights."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.buffers


def states(found: Architecture, setup: Setup) -> Memory:
    """What a training holds all the time: its activations are 0.

    With LoRA, `found` has the adapters of `setup.lora`. peft keeps them in float32.
    """
    size, computing = BYTES[setup.dtype], BYTES[setup.compute or setup.dtype]
    trained = _trained(found, setup)
    gradients = sum(_count(shape) * each for shape, each, _ in trained)
    optimizer, shards = state_bytes(setup.optim, trained), setup.processes
    weights, buffers = _weight_bytes(found, setup, size), 0.0
    if setup.kind == DDP and setup.processes > 1:
        buffers = gradients  # the buckets in which gradients are summed
    elif setup.kind == FSDP:
        weights, gradients, optimizer = weights / shards, gradients / shards, optimizer / shards
        buffers = _gathered(found, setup, computing) if setup.processes > 1 else 0.0
    elif setup.kind in (ZERO1, ZERO2, ZERO3):
        values = sum(_count(shape) for shape, _, _ in trained)
        # sixteen-bit weights and gradients, with a float32 copy of the weights beside the states
        mixed = setup.compute is not None
        half = BYTES[setup.compute] if setup.compute else size
        optimizer = state_bytes(setup.optim, [(shape, 4.0, e) for shape, _, e in trained]) if mixed else optimizer
        optimizer = (optimizer + (4 * values if mixed else 0)) / shards
        weights = _weight_bytes(found, setup, half)
        gradients = values * half
        bucket = min(values, _BUCKET) * half
        if setup.kind == ZERO3:
            weights /= shards
            buffers = min(found.count, _LIVE) * half + bucket
        else:
            buffers = 2 * bucket
        if setup.kind != ZERO1:
            gradients /= shards
    if setup.quantised:
        # one matrix at a time is written out for its product
        buffers += max((w.count for w in found.in_layers() if w.linear), default=0) * computing
    return Memory(weights, gradients, optimizer, 0.0, buffers)


def training_memory(found: Architecture, setup: Setup, step: StepMemory, *, again: bool) -> Memory:
    """The memory of one process at its peak. `again`: a step has several calls, so that gradients meet activations."""
    held = states(found, setup)
    trained = _trained(found, setup)
    own = sum(_count(shape) * each for shape, each, _ in trained)
    whole = setup.kind in (ONE, DDP)
    # gradients that are divided are gone from this process when the next layer makes its own
    in_step = step.peak(found.layers, again=again or not whole) - _whole_gradients(found, step)
    updating = step_bytes(setup.optim, trained, cpu=setup.cpu) / (1 if whole else setup.processes)
    if whole:
        peak = max(in_step + _whole_gradients(found, step), own + updating)
        return dataclasses.replace(held, activations=max(0.0, peak - own))
    return dataclasses.replace(held, activations=max(in_step, updating))


def _whole_gradients(found: Architecture, step: StepMemory) -> float:
    return step.gradients + (found.layers - step.measured) * step.layer_gradients


def _trained(found: Architecture, setup: Setup) -> list[Trained]:
    if setup.lora is not None:
        return [(weight.shape, 4.0, False) for weight in found.adapters]
    return [(weight.shape, float(BYTES[setup.dtype]), weight.embedding) for weight in found.weights]


def _weight_bytes(found: Architecture, setup: Setup, size: float) -> float:
    weights = quantised_bytes(found) if setup.quantised else found.count * size
    return weights + (4 * sum(w.count for w in found.adapters) if setup.lora is not None else 0)


def quantised_bytes(found: Architecture) -> float:
    """Bytes of a model's own weights in 4 bits. All but the linear layers is float32, as `load_quantised` leaves it."""
    return sum(weight.count * (NF4 if weight.linear and weight.layer is not None else 4) for weight in found.weights)


def _gathered(found: Architecture, setup: Setup, computing: float) -> float:
    """FSDP2: what is outside the layers, this layer and the next, and the gradients of two layers."""
    outside = found.count - sum(weight.count for weight in found.in_layers())
    layers = 2 * found.largest_layer * (NF4 if setup.quantised else computing)
    gradients = 0.0 if setup.lora is not None else (2 * found.largest_layer + outside) * computing
    return outside * computing + layers + gradients


def _count(shape: Any) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


# ---- sampling ----


def sampling_memory(
    found: Architecture,
    dtype: str,
    rows: int,
    prompt: int,
    new: int,
    prompts: int,
    spare: int = 64,
    weights: float | None = None,
) -> Memory:
    """The transformers engine: weights, the cache of all rows, and what choosing a token needs.

    `rows`: completions at once. `prompts`: questions that are read together. `spare`: columns kept ahead of need. The
    cache is counted for rows of the greatest length, beside one layer that is being copied. `weights`: their bytes;
    None: all of them in `dtype`.
    """
    size = BYTES[dtype]
    weights = float(found.count * size) if weights is None else weights
    cache = float(rows * (prompt + new + spare) * found.cache_values * size)
    cache += cache / max(1, found.layers) + prompts * prompt * found.cache_values * size
    # logits and their probabilities: float32, and float64 twice
    choosing = rows * found.vocabulary * (4 + 8 + 8)
    reading = prompts * prompt * (6 * found.hidden + 3 * _widest(found)) * size
    return Memory(weights, 0.0, 0.0, max(choosing, reading), cache)


def cached_tokens(found: Architecture, dtype: str, budget: float) -> int:
    """Tokens whose keys and values fit beside the weights: what vLLM has for all rows together."""
    size = BYTES[dtype]
    return int(max(0.0, budget - found.count * size) // max(1, found.cache_values * size))


def _widest(found: Architecture) -> int:
    return max((max(weight.shape) for weight in found.in_layers() if len(weight.shape) == 2), default=found.hidden)
