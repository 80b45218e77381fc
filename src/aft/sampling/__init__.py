"""Completions from a model: which ones, the engines that sample them, files that survive a cut."""

from .decoding import Decoding
from .engine import Engine
from .requests import CONTINUOUS, STATIC, Request, derive_seed, make_seeds, plan_shards
from .resumable import collect
from .transformers_engine import TransformersEngine

__all__ = [
    "CONTINUOUS",
    "STATIC",
    "Decoding",
    "Engine",
    "Request",
    "TransformersEngine",
    "collect",
    "derive_seed",
    "make_seeds",
    "plan_shards",
]
