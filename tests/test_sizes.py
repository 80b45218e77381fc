"""Ids against embeddings, and lengths against positions."""

from __future__ import annotations

import contextlib
import re

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from aft.errors import ConfigError
from aft.model import architecture_settings
from aft.sizes import Positions, check_ids, check_length, positions_of, vllm_positions

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
}


@pytest.mark.parametrize(
    ("architecture", "config", "expected"),
    [
        ("gpt2", {"n_positions": 64}, Positions(64, hard=True)),
        ("opt", {"max_position_embeddings": 64}, Positions(64, hard=True)),
        ("gpt_neo", {"max_position_embeddings": 64}, Positions(64, hard=True)),
        ("gptj", {"n_positions": 64}, Positions(64, hard=True)),  # a table of rotations, and no more
        ("codegen", {"n_positions": 64}, Positions(64, hard=True)),
        ("gpt_bigcode", {"n_positions": 64}, Positions(64, hard=True)),
        ("biogpt", {"max_position_embeddings": 64}, Positions(64, hard=True)),
        ("llama", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("nemotron_h", {"max_position_embeddings": 64}, Positions(64, hard=False)),  # no positions in its attention
        ("jamba", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("zamba", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("xglm", {"max_position_embeddings": 64}, Positions(64, hard=False)),  # its table of sines grows
        ("gpt_neox", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("phi", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("gemma2", {"max_position_embeddings": 64}, Positions(64, hard=False)),
        ("falcon", {"alibi": True}, None),
        ("bloom", {}, None),
        ("mamba", {}, None),
        ("no-such-architecture", {}, None),
    ],
)
def test_the_positions_of_architectures(architecture, config, expected):
    assert positions_of(architecture_settings(architecture, config)) == expected


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("gpt2", {"n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}),
        ("gptj", {"n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4}),
        ("biogpt", SMALL),
        ("xglm", {**SMALL, "d_model": 16, "attention_heads": 2, "ffn_dim": 16, "num_layers": 1}),
        ("jamba", {**SMALL, "num_key_value_heads": 2, "use_mamba_kernels": False, "attn_layer_offset": 0}),
        ("llama", SMALL),
    ],
)
def test_a_model_fails_beyond_positions_that_are_hard_and_only_there(architecture, config):
    config = {**config, "vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **config))
    positions = positions_of(architecture_settings(architecture, config))
    fails = pytest.raises((IndexError, RuntimeError)) if positions.hard else contextlib.nullcontext()
    with torch.no_grad(), fails:
        model(torch.full((1, positions.count + 3), 5))


def test_a_sequence_that_has_no_positions_is_an_error_and_an_untrained_length_a_warning():
    assert check_length(64, Positions(64, hard=True), "a prompt", "key") is None
    assert check_length(10**6, None, "a prompt", "key") is None
    told = "key: a prompt can have 65 tokens, but the model has 64 positions; make key smaller by 1"
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        check_length(65, Positions(64, hard=True), "a prompt", "key")
    told = "warning: a prompt can have 65 tokens, but the model was made for 64 positions; key decides"
    assert check_length(65, Positions(64, hard=False), "a prompt", "key") == told


def test_an_id_without_an_embedding_is_named():
    check_ids({"the end": 1, "padding": None}, 31, 32)
    told = (
        "model.name_or_path: the tokenizer has ids without an embedding: padding 32, 40 in the data; the model has 32"
        " rows. Choose tokens that it has, or save a copy of the model after"
        " model.resize_token_embeddings(len(tokenizer))"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        check_ids({"the end": 1, "padding": 32}, 40, 32)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn", "factor": 4}}, None),
        ({"max_position_embeddings": 64, "rope_scaling": {"rope_type": "linear", "factor": 2}}, None),
        ({"model_type": "bloom"}, None),
    ],
)
def test_the_positions_that_vllm_does_not_go_beyond(settings, count):
    positions = vllm_positions(settings)
    assert (positions and positions.count) == count and (positions is None or positions.hard)
