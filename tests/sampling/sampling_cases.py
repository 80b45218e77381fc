"""Requests and models that the tests of sampling share."""

from __future__ import annotations

import random

import torch

from aft.sampling.requests import Request, make_seeds
from tiny_models import random_ids, tiny_model


def ask(question_id: str, prompt_ids, indices=(0,)) -> Request:
    return Request(question_id, tuple(prompt_ids), make_seeds(question_id, indices, "test", 0))


def requests(count: int, indices=(0,), *, low: int = 1, high: int = 9, seed: int = 0) -> list[Request]:
    generator = random.Random(seed)
    return [ask(f"q{n}", random_ids(generator, low, high), indices) for n in range(count)]


def ending_model(architecture: str, ends: list[int] | int = 1):
    """A model with some likelihood to end, so that the rows of a batch leave it at different steps."""
    model = tiny_model(architecture)
    model.generation_config.eos_token_id = ends
    return model


def by_generate(model, prompt_ids, limit) -> list[int]:
    prompt = torch.tensor([prompt_ids])
    whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=limit)
    return whole[0, len(prompt_ids) :].tolist()
