"""Completions from a model: which ones, the engines that sample them, files that survive a cut."""

from .decoding import Decoding
from .engine import Engine
from .requests import Request, derive_seed, make_seeds
from .resumable import collect
from .transformers_engine import TransformersEngine

__all__ = ["Decoding", "Engine", "Request", "TransformersEngine", "collect", "derive_seed", "make_seeds"]
