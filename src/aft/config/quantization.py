"""The section `model.quantization`: base weights in 4 bits while adapters train (QLoRA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QuantizationConfig:
    """Linear layers of the base model in 4 bits while adapters train (QLoRA). Needs `model.lora` and the extra `qlora`.

    The keys have the names of transformers' BitsAndBytesConfig.
    """

    load_in_4bit: bool = True
    """Must be true. `model.quantization: null` holds the weights in `model.dtype`."""
    load_in_8bit: bool = False
    """Must be false. 8-bit products of a row depend on the other rows of its batch, so no layout could be trusted."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """Data type of the 4-bit weights."""
    bnb_4bit_use_double_quant: bool = True
    """Quantise the scales of the 4-bit weights, too."""
    bnb_4bit_compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Dtype of the products with 4-bit weights; null: `model.dtype`."""
    inference: bool = False
    """Hold the weights in 4 bits during sampling and evaluation, too, with the adapter unmerged. Needs
    `model.lora.save: adapter`."""
