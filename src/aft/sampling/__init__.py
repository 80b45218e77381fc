"""Completions from a model: which ones, the engines that sample them, files that survive a cut."""

from .decoding import Decoding
from .engine import Engine
from .openai_engine import OpenaiEngine
from .requests import CONTINUOUS, STATIC, Request, derive_seed, make_seeds, plan_shards
from .resumable import collect
from .transformers_engine import TransformersEngine
from .vllm_engine import VllmEngine

__all__ = [
    "CONTINUOUS",
    "STATIC",
    "Decoding",
    "Engine",
    "OpenaiEngine",
    "Request",
    "TransformersEngine",
    "VllmEngine",
    "collect",
    "derive_seed",
    "make_seeds",
    "plan_shards",
]
