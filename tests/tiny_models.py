"""Tiny models, tokenizers and items for the tests, built from code: no network, no files, the same on every machine."""

from __future__ import annotations

import random
import string
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from aft.model import build_model, build_word_tokenizer
from aft.scoring.packing import Entry, Item

_LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    # wide enough that tokens differ in probability, so that a wrong position or mask changes a score visibly
    "initializer_range": 0.4,
}

# Windows of 4 tokens and hard caps, so that a path that forgets them is far off.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": {**_LLAMA_LIKE, "head_dim": 8},
    "mistral": {**_LLAMA_LIKE, "sliding_window": 4},
    "gemma2": {
        **_LLAMA_LIKE,
        "head_dim": 8,
        "sliding_window": 4,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 1.5,
    },
    # no caps, queries and keys are normalised, and one layer of two has the window
    "gemma3_text": {
        **_LLAMA_LIKE,
        "head_dim": 8,
        "sliding_window": 4,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    # the second layer has no positions
    "smollm3": {**_LLAMA_LIKE, "no_rope_layers": [1, 0]},
    # norms behind attention and feed-forward instead of before them, and of queries and keys over all heads
    "olmo2": _LLAMA_LIKE,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.4},
    "opt": {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "init_std": 0.4,
    },
    "phi": _LLAMA_LIKE,
    # linear attention beside full attention: rows keep a state that is no list of keys and values
    "qwen3_next": {
        **_LLAMA_LIKE,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "cohere": {**_LLAMA_LIKE, "logit_scale": 0.5},
    "granite": {**_LLAMA_LIKE, "logits_scaling": 3.0},
}

WORDS = [*string.ascii_lowercase, "0", "1", "?"]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """32 tokens: <pad> 0, <eos> 1, <unk> 2, then `WORDS`, one token each."""
    return build_word_tokenizer(WORDS)


def tiny_model(architecture: str = "llama", *, seed: int = 0, **config: Any) -> PreTrainedModel:
    """A random model of the architecture with the vocabulary of `word_tokenizer`, in evaluation mode."""
    return build_model(architecture, {**CONFIGS[architecture], **config}, word_tokenizer(), seed=seed).eval()


def random_ids(generator: random.Random, low: int, high: int) -> list[int]:
    """Between `low` and `high` ids of words."""
    return [generator.randrange(3, 3 + len(WORDS)) for _ in range(generator.randint(low, high))]


def random_items(seed: int, kinds: list[list[float | None]], *, supervise_positives: bool = False) -> list[Item]:
    """Items of unequal lengths. `kinds[i]` are the ratings of item i's responses; None is a supervised reference."""
    generator = random.Random(seed)
    return [
        Item(
            question_id=f"q{number}",
            prompt_ids=random_ids(generator, 1, 7),
            responses=[[*random_ids(generator, 1, 9), 1] for _ in ratings],
            supervised=[rating is None or (supervise_positives and rating > 0) for rating in ratings],
            ratings=list(ratings),
        )
        for number, ratings in enumerate(kinds)
    ]


def as_entries(items: list[Item]) -> list[Entry]:
    """One entry for each item."""
    return [(item,) for item in items]


def checkpoint_activations(model: torch.nn.Module) -> None:
    """Make layers again in the backward pass, under the name that this transformers has for it."""
    enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether all parameters and buffers of two models are equal bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
