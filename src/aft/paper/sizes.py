"""The base models of the study of size: shapes, rates of pretraining and of their grids, and k. Data."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """The base model of a scale's other tables: its width, the rate of its pretraining, its initial weights."""

    width: int
    rate: float
    spread: float


@dataclass(frozen=True)
class Size:
    """One size of the base model. `shared`: it is that of other tables. `rates`: what a grid tries beyond the scale's.

    Adam moves each weight by about its learning rate, and an output sums such moves over the width. So the rate of
    pretraining falls as 1 / width from that of `known`, and the spread of initial weights as 1 / sqrt(width).
    """

    name: str
    known: Known
    width: int
    inner: int
    layers: int
    heads: int
    rates: tuple[float, ...] = ()

    @property
    def shared(self) -> bool:
        """True for the base model of other tables, which needs no overrides."""
        return self.width == self.known.width

    @property
    def overrides(self) -> tuple[str, ...]:
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
        return (*keys, f"pretrain.training.learning_rate={self.known.rate * ratio:.1g}")


SIZE_KS = (3, 6, 12)  # all from one set of samples
_TINY = Known(96, 3e-3, 0.05)  # configs/arithmetic/base.yaml
_GPU = Known(512, 6e-4, 0.02)  # configs/tables/gpu-base.yaml

SIZES = {
    "tiny": (
        Size("0.14m", _TINY, 72, 192, 2, 4, (3e-3,)),
        Size("0.35m", _TINY, 96, 256, 3, 4, (3e-3,)),
        Size("1m", _TINY, 144, 384, 4, 4, (3e-3,)),
        Size("4m", _TINY, 256, 688, 5, 8, (1e-5,)),
    ),
    "gpu": (
        Size("1m", _GPU, 144, 384, 4, 4, (1e-3,)),
        Size("4m", _GPU, 256, 688, 5, 8, (1e-3,)),
        Size("25m", _GPU, 512, 1376, 8, 8, (1e-3,)),
        Size("100m", _GPU, 768, 2048, 14, 12, (3e-6,)),
    ),
}
