"""The base models of the study of size: shapes, learning rates, and rates that their grids try beside. Data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A base model of other tables: its width, the rates of its pretraining and of its VFT, its initial weights."""

    width: int
    pretrain_rate: float
    vft_rate: float
    spread: float


@dataclass(frozen=True)
class Size:
    """One size of the base model. `rates`: learning rates that a grid tries beyond the scale's.

    Adam moves each weight by about its learning rate, and an output sums such moves over the width. So rates fall as
    1 / width from those of `known`, and initial weights as 1 / sqrt(width).
    """

    name: str
    known: Known
    width: int
    inner: int
    layers: int
    heads: int
    rates: tuple[float, ...] = ()

    @property
    def base_overrides(self) -> tuple[str, ...]:
        """Overrides of the configuration that makes the base model."""
        ratio = self.known.width / self.width
        shape = {
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "initializer_range": round(self.known.spread * math.sqrt(ratio), 3),
        }
        keys = (f"model.from_scratch.config.{key}={value:g}" for key, value in shape.items())
        return (*keys, f"pretrain.training.learning_rate={self.known.pretrain_rate * ratio:.1g}")

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of a run on that base model."""
        return (f"vft.training.learning_rate={self.known.vft_rate * self.known.width / self.width:.1g}",)


_TINY = Known(96, 3e-3, 4e-4, 0.05)  # configs/arithmetic
_GPU = Known(512, 6e-4, 1e-4, 0.02)  # configs/tables/gpu-base.yaml

# None: the base model of the scale's other tables, 0.35 and 25 million parameters
SIZES: dict[str, tuple[Size | None, ...]] = {
    "tiny": (
        Size("0.14m", _TINY, 72, 192, 2, 4, (3e-3,)),
        None,
        Size("1m", _TINY, 144, 384, 4, 4),
        Size("4m", _TINY, 256, 688, 5, 8, (1e-5,)),
    ),
    "gpu": (
        Size("1m", _GPU, 144, 384, 4, 4, (1e-3,)),
        Size("4m", _GPU, 256, 688, 5, 8, (1e-3,)),
        None,
        Size("100m", _GPU, 768, 2048, 14, 12, (3e-6,)),
    ),
}
