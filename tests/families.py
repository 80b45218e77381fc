"""Tiny random models in the architectures of configs/models/, each with a tokenizer of its family's kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import tokenizer_kinds
from published_models import PUBLISHED
from tiny_models import CONFIGS

# short texts reach the stretched positions
_LLAMA3 = {**PUBLISHED["meta-llama/Llama-3.2-1B"][2]["rope_parameters"], "original_max_position_embeddings": 64}
_ROOM = {"max_position_embeddings": 512}
# A family's file in configs/models -> (model_type, settings, tokenizer). The embeddings have rows without a token, as
# most published ones do.
FAMILIES: dict[str, tuple[str, dict[str, Any], Callable[[], PreTrainedTokenizerFast]]] = {
    "qwen2.5-1.5b": ("qwen2", {**CONFIGS["qwen2"], "tie_word_embeddings": True}, tokenizer_kinds.qwen_base),
    "llama-3.2-1b": (
        "llama",
        {**CONFIGS["llama"], "tie_word_embeddings": True, "rope_parameters": _LLAMA3},
        tokenizer_kinds.llama3,
    ),
    "qwen3-0.6b": ("qwen3", {**CONFIGS["qwen3"], "tie_word_embeddings": True}, tokenizer_kinds.qwen_base),
    "mistral-7b": ("mistral", {**CONFIGS["mistral"], "sliding_window": None}, tokenizer_kinds.llama),
    "gemma-3-1b": ("gemma3_text", CONFIGS["gemma3_text"], tokenizer_kinds.gemma),
    "gemma-3-4b": ("gemma3", CONFIGS["gemma3_text"], tokenizer_kinds.gemma),
    "smollm3-3b": ("smollm3", {**CONFIGS["smollm3"], "tie_word_embeddings": True}, tokenizer_kinds.llama3),
    "olmo2-7b": ("olmo2", CONFIGS["olmo2"], tokenizer_kinds.gpt2),
}
_IMAGES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def save_family(file: str, folder: Path) -> Path:
    """Saves a checkpoint of the family as the hub has it, and returns its folder."""
    kind, settings, make_tokenizer = FAMILIES[file]
    tokenizer = make_tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    # no padding id: transformers would make the row of that id zero
    settings = {**settings, **_ROOM, **ids, "pad_token_id": None, "vocab_size": len(tokenizer) + 8}
    if kind == "gemma3":
        settings = {"text_config": settings, "vision_config": {**_IMAGES, "image_size": 28, "patch_size": 14}}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
