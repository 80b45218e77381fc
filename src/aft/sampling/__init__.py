"""Completions from a model: which ones, the loop over the cache, files that survive a cut."""

from .decoding import Decoding
from .requests import Request, derive_seed
from .transformers_engine import sample

__all__ = ["Decoding", "Request", "derive_seed", "sample"]
