"""Holds the linear layers of a model in 4 bits (bitsandbytes), and gives them back as the 4 bits say they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .errors import ConfigError, first_line, raise_of_machine
from .model import load_model


def quantization_arguments(section: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Arguments of transformers' BitsAndBytesConfig, from the keys of `model.quantization` and `model.dtype`."""
    arguments = {key: value for key, value in section.items() if key not in ("inference", "load_in_8bit")}
    arguments["bnb_4bit_compute_dtype"] = arguments["bnb_4bit_compute_dtype"] or dtype
    return arguments


def load_quantised(name_or_path: str, arguments: dict[str, Any], device: torch.device, **load: Any) -> PreTrainedModel:
    """A checkpoint with its linear layers in 4 bits on `device`, all frozen. `load`: as for `load_model`.

    As peft's `prepare_model_for_kbit_training` says, all other weights are float32. Raises `ConfigError`.
    """
    return _prepared(load_model(name_or_path, **load, **_onto(device, arguments)))


def quantise(model: PreTrainedModel, arguments: dict[str, Any], device: torch.device) -> PreTrainedModel:
    """What `load_quantised` loads from the checkpoint of `model`, bit for bit. `model` keeps its own weights."""
    try:
        found = type(model).from_pretrained(
            None, config=model.config, state_dict=model.state_dict(), dtype=model.dtype, **_onto(device, arguments)
        )
    except Exception as error:  # transformers and bitsandbytes raise many kinds for a layer that does not fit
        raise_of_machine(error)
        raise ConfigError(f"model.quantization: the model could not be quantised: {first_line(error)}") from None
    found.generation_config = model.generation_config
    return _prepared(found)


def dequantised(model: PreTrainedModel, quantised: torch.nn.Module) -> PreTrainedModel:
    """`model` with the weights that its quantised version computes with, in the dtype of `model`, in place.

    An adapter that was trained on the 4 bits fits these weights, and not those from before.
    """
    from bitsandbytes.functional import dequantize_4bit

    with torch.no_grad():
        for name, layer in _layers(quantised):
            plain: Any = model.get_submodule(name)
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            weight = weight.T if isinstance(plain, Conv1D) else weight  # GPT-2 has its weights the other way round
            plain.weight.copy_(weight.to(plain.weight))
            if layer.bias is not None:  # bitsandbytes rounds it at the first call
                plain.bias.copy_(layer.bias.to(layer.compute_dtype).to(plain.bias))
    return model


def _onto(device: torch.device, arguments: dict[str, Any]) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(**arguments), "device_map": {"": device}}


def _prepared(model: PreTrainedModel) -> PreTrainedModel:
    from peft import prepare_model_for_kbit_training

    found = list(_layers(model))
    if not found:
        raise ConfigError(f"model.quantization: {type(model).__name__} has no linear layers that 4 bits could hold")
    for _, layer in found:
        # with it, bitsandbytes repacks the weights in evaluation, for a kernel without a gradient
        layer.support_avx512bf16_for_cpu = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # `training.gradient_checkpointing` decides about checkpointing
        prepared: PreTrainedModel = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return prepared


def _layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from bitsandbytes.nn import Linear4bit

    return ((name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit))
