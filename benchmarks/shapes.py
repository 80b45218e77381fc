"""Llama shapes built from code, and the operations that a step cannot do without."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from groups import END_ID, PAD_ID, Lengths


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Llama: sizes as in its configuration."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    tied: bool = False

    @property
    def body_weights(self) -> int:
        """Weights of all layers' matrices: each takes part once for every token."""
        attention = 2 * self.hidden**2 + 2 * self.hidden * (self.hidden // self.heads) * self.kv_heads
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def head_weights(self) -> int:
        """Weights of the vocabulary projection."""
        return self.hidden * self.vocabulary

    @property
    def weights(self) -> int:
        """All of the model's, norms apart."""
        return self.body_weights + (1 if self.tied else 2) * self.head_weights


SMALL = Shape("512 × 8, vocabulary 32k", 512, 8, 8, 8, 1376, 32_000)
SMALL_2K = dataclasses.replace(SMALL, name="512 × 8, vocabulary 2k", vocabulary=2_000)
SMALLEST = Shape("256 × 4, vocabulary 2k", 256, 4, 4, 4, 688, 2_000)
TINY = Shape("64 × 2, vocabulary 500", 64, 2, 2, 1, 96, 500)  # to see that a benchmark runs
LLAMA_1B = Shape("1B-like", 2048, 16, 32, 8, 8192, 128_256, tied=True)
LLAMA_7B = Shape("7B-like", 4096, 32, 32, 32, 11_008, 32_000)


def floor_operations(shape: Shape, groups: Sequence[Lengths]) -> float:
    """Floating point operations of a forward and backward pass that computes nothing twice and no padding.

    Every unique token once through the layers, exactly the causal pairs in attention, the vocabulary projection at
    response positions only; a multiplication and an addition each, and twice the forward pass again backward.
    """
    tokens = sum(group.unique for group in groups)
    predicted = sum(group.predicted for group in groups)
    pairs = sum(group.attention_pairs for group in groups)
    forward = 2 * shape.body_weights * tokens + 4 * shape.hidden * shape.layers * pairs
    return 3.0 * (forward + 2 * shape.head_weights * predicted)


def build(shape: Shape, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """The model with random weights, in training mode, its gradients allocated and zero."""
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.ffn,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        pad_token_id=PAD_ID,
        eos_token_id=END_ID,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.train()
    clear_gradients(model)
    return model


def view(model: PreTrainedModel) -> PreTrainedModel:
    """Another model object on the same weights and gradients: what is done to its forward leaves the other alone."""
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})


def clear_gradients(model: PreTrainedModel) -> None:
    """Set gradients to zero in place, allocating them where there are none: no step pays for it."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()


def that_fits(shape: Shape, device: str, *, spare_gb: float = 16) -> Shape:
    """The shape with as many layers as fit a GPU with their gradients in 16 bits, `spare_gb` left for a step."""
    if not device.startswith("cuda"):
        return shape
    free = torch.cuda.mem_get_info()[0] - spare_gb * 2**30
    layers = shape.layers
    while layers > 1 and 4 * dataclasses.replace(shape, layers=layers).weights > free:
        layers -= 1
    if layers == shape.layers:
        return shape
    return dataclasses.replace(shape, name=f"{shape.name}, only {layers} layers fit", layers=layers)
