"""The weights of an architecture, built on the meta device from its configuration. No memory is taken for them."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..errors import ConfigError
from ..model import add_lora, language_model


@dataclasses.dataclass(frozen=True)
class Weight:
    """One weight: name, shape, and the layer that it is in (None: outside the layers).

    `linear`: a matrix that 4-bit loading quantises. `embedding`: looked up by ids. `expert`: of a mixture of experts.
    """

    name: str
    shape: tuple[int, ...]
    layer: int | None
    linear: bool = False
    embedding: bool = False
    expert: bool = False

    @property
    def count(self) -> int:
        """Number of its values."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a forecast needs to know about a model.

    `cache_values`: keys and values that sampling keeps for a token, in all layers. `active`: the share of an expert's
    weights that a token uses. `head`: values of the matrix that makes logits, which may be the embedding's.
    """

    config: Any
    weights: tuple[Weight, ...]
    adapters: tuple[Weight, ...]
    layers: int
    hidden: int
    vocabulary: int
    attention_width: int
    cache_values: int
    active: float

    @property
    def count(self) -> int:
        """Number of the model's weights; tied ones count once."""
        return sum(weight.count for weight in self.weights)

    @property
    def head(self) -> int:
        """Values of the matrix that makes the logits."""
        return self.hidden * self.vocabulary

    def in_layers(self) -> Iterator[Weight]:
        """The weights of the layers."""
        return (weight for weight in self.weights if weight.layer is not None)

    @property
    def largest_layer(self) -> int:
        """Number of weights of the largest layer."""
        counts = [0] * (self.layers + 1)
        for weight in self.in_layers():
            counts[weight.layer or 0] += weight.count
        return max(counts)

    @property
    def used_by_token(self) -> float:
        """Weights in the layers' matrices that take part in the computation of one token."""
        return sum(w.count * (self.active if w.expert else 1.0) for w in self.in_layers() if len(w.shape) > 1)


def read_architecture(config: Any, lora: dict[str, Any] | None = None) -> Architecture:
    """The architecture of transformers' configuration. `lora`: arguments of peft's LoraConfig, for `adapters`.

    Raises `ConfigError` if transformers builds no causal language model from it.
    """
    model = build(config)
    text = model.config.get_text_config(decoder=True)
    layers = int(text.num_hidden_layers)
    places: dict[int, int] = {}
    for number, layer in enumerate(layers_of(model)):
        places |= dict.fromkeys(map(id, layer.parameters()), number)
    weights = tuple(_weights(model, places))
    adapters: tuple[Weight, ...] = ()
    if lora is not None:
        adapted = with_lora(model, lora)
        adapters = tuple(
            Weight(name, tuple(weight.shape), None)
            for name, weight in adapted.named_parameters()
            if weight.requires_grad
        )
    heads = int(getattr(text, "num_attention_heads", 0) or 0)
    size = int(getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0))
    shared = int(getattr(text, "num_key_value_heads", None) or heads)
    experts = next(
        (n for key in ("num_experts", "num_local_experts", "n_routed_experts") if (n := getattr(text, key, 0))), 0
    )
    chosen = getattr(text, "num_experts_per_tok", None)
    return Architecture(
        config=config,
        weights=weights,
        adapters=adapters,
        layers=layers,
        hidden=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        attention_width=heads * size,
        cache_values=2 * layers * shared * size,
        active=chosen / experts if experts and chosen else 1.0,
    )


def build(config: Any, **arguments: Any) -> PreTrainedModel:
    """The model of a configuration on the meta device, as loading leaves it. Raises `ConfigError`."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = language_model(AutoModelForCausalLM.from_config(copy.deepcopy(config), **arguments))
    except Exception as error:  # whatever an architecture does with values that do not fit
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"plan.model: no model can be built from this configuration: {reason}") from None
    return model


def with_lora(model: PreTrainedModel, lora: dict[str, Any]) -> torch.nn.Module:
    """The model with adapters, which peft makes on the CPU unless told otherwise."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return add_lora(model, lora)


def layers_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers. Raises `ConfigError` if there is no such list."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    decoder: Any = model.get_decoder() if hasattr(model, "get_decoder") else model
    for module in decoder.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(f"model: {type(model).__name__} has no list of {count} layers, so nothing can be forecast")


def is_linear(module: torch.nn.Module) -> bool:
    """True for a layer that 4-bit loading quantises."""
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def _weights(model: PreTrainedModel, places: dict[int, int]) -> Iterator[Weight]:
    seen: set[int] = set()
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            matrix = name == "weight" and is_linear(module)
            yield Weight(
                f"{path}.{name}",
                tuple(weight.shape),
                places.get(id(weight)),
                linear=matrix and module is not head,
                embedding=isinstance(module, torch.nn.Embedding),
                expert="experts" in path and "shared" not in path,
            )
