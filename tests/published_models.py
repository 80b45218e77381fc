"""What the checkpoints that configs/models/ names say of their architecture on the hub, as far as it makes the weights.

`parameters`: as the hub or the authors count them. A tied head counts once, Gemma's model for images does not count.
"""

from __future__ import annotations

from typing import Any


def _sizes(hidden: int, inner: int, layers: int, heads: int, groups: int, vocabulary: int, tied: bool, **more: Any):
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **more,
    }


def _llama3(factor: float) -> dict[str, Any]:
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"rope_parameters": rope, "max_position_embeddings": 131_072}


def _gemma(window: int, scale: int, head: int = 256) -> dict[str, Any]:
    return {"head_dim": head, "sliding_window": window, "query_pre_attn_scalar": scale}


# hub name: (model_type, parameters, settings)
PUBLISHED: dict[str, tuple[str, float, dict[str, Any]]] = {
    "Qwen/Qwen2.5-0.5B": ("qwen2", 0.494e9, _sizes(896, 4864, 24, 14, 2, 151_936, True)),
    "Qwen/Qwen2.5-1.5B": ("qwen2", 1.544e9, _sizes(1536, 8960, 28, 12, 2, 151_936, True)),
    "Qwen/Qwen2.5-3B": ("qwen2", 3.086e9, _sizes(2048, 11_008, 36, 16, 2, 151_936, True)),
    "Qwen/Qwen2.5-7B": ("qwen2", 7.616e9, _sizes(3584, 18_944, 28, 28, 4, 152_064, False)),
    "Qwen/Qwen2.5-14B": ("qwen2", 14.77e9, _sizes(5120, 13_824, 48, 40, 8, 152_064, False)),
    "Qwen/Qwen2.5-32B": ("qwen2", 32.76e9, _sizes(5120, 27_648, 64, 40, 8, 152_064, False)),
    "Qwen/Qwen2.5-72B": ("qwen2", 72.71e9, _sizes(8192, 29_568, 80, 64, 8, 152_064, False)),
    "Qwen/Qwen3-0.6B-Base": ("qwen3", 0.596e9, _sizes(1024, 3072, 28, 16, 8, 151_936, True, head_dim=128)),
    "Qwen/Qwen3-1.7B-Base": ("qwen3", 1.721e9, _sizes(2048, 6144, 28, 16, 8, 151_936, True, head_dim=128)),
    "Qwen/Qwen3-4B-Base": ("qwen3", 4.022e9, _sizes(2560, 9728, 36, 32, 8, 151_936, True, head_dim=128)),
    "Qwen/Qwen3-8B-Base": ("qwen3", 8.191e9, _sizes(4096, 12_288, 36, 32, 8, 151_936, False, head_dim=128)),
    "Qwen/Qwen3-14B-Base": ("qwen3", 14.77e9, _sizes(5120, 17_408, 40, 40, 8, 151_936, False, head_dim=128)),
    "meta-llama/Llama-3.2-1B": (
        "llama",
        1.236e9,
        _sizes(2048, 8192, 16, 32, 8, 128_256, True, head_dim=64, **_llama3(32.0)),
    ),
    "meta-llama/Llama-3.2-3B": (
        "llama",
        3.213e9,
        _sizes(3072, 8192, 28, 24, 8, 128_256, True, head_dim=128, **_llama3(32.0)),
    ),
    "meta-llama/Llama-3.1-8B": ("llama", 8.030e9, _sizes(4096, 14_336, 32, 32, 8, 128_256, False, **_llama3(8.0))),
    "meta-llama/Llama-3.1-70B": ("llama", 70.55e9, _sizes(8192, 28_672, 80, 64, 8, 128_256, False, **_llama3(8.0))),
    "mistralai/Mistral-7B-v0.3": (
        "mistral",
        7.248e9,
        _sizes(4096, 14_336, 32, 32, 8, 32_768, False, sliding_window=None),
    ),
    "google/gemma-3-1b-pt": ("gemma3_text", 1.000e9, _sizes(1152, 6912, 26, 4, 1, 262_144, True, **_gemma(512, 256))),
    "google/gemma-3-4b-pt": ("gemma3", 3.880e9, _sizes(2560, 10_240, 34, 8, 4, 262_208, True, **_gemma(1024, 256))),
    "google/gemma-3-12b-pt": ("gemma3", 11.77e9, _sizes(3840, 15_360, 48, 16, 8, 262_208, True, **_gemma(1024, 256))),
    "google/gemma-3-27b-pt": (
        "gemma3",
        27.01e9,
        _sizes(5376, 21_504, 62, 32, 16, 262_208, True, **_gemma(1024, 168, 128)),
    ),
    "HuggingFaceTB/SmolLM2-135M": ("llama", 0.1345e9, _sizes(576, 1536, 30, 9, 3, 49_152, True)),
    "HuggingFaceTB/SmolLM2-360M": ("llama", 0.3618e9, _sizes(960, 2560, 32, 15, 5, 49_152, True)),
    "HuggingFaceTB/SmolLM2-1.7B": ("llama", 1.711e9, _sizes(2048, 8192, 24, 32, 32, 49_152, True)),
    "HuggingFaceTB/SmolLM3-3B-Base": ("smollm3", 3.075e9, _sizes(2048, 11_008, 36, 16, 4, 128_256, True)),
    "allenai/OLMo-2-0425-1B": ("olmo2", 1.485e9, _sizes(2048, 8192, 16, 16, 16, 100_352, False)),
    "allenai/OLMo-2-1124-7B": ("olmo2", 7.299e9, _sizes(4096, 11_008, 32, 32, 32, 100_352, False)),
    "allenai/OLMo-2-1124-13B": ("olmo2", 13.72e9, _sizes(5120, 13_824, 40, 40, 40, 100_352, False)),
    "allenai/OLMo-2-0325-32B": ("olmo2", 32.23e9, _sizes(5120, 27_648, 64, 40, 8, 100_352, False)),
}
