"""Ids against embeddings, and lengths against positions."""

from __future__ import annotations

import re

import pytest

from aft.errors import ConfigError
from aft.model import architecture_settings
from aft.sizes import Positions, check_ids, check_length, positions_of


@pytest.mark.parametrize(
    ("architecture", "config", "expected"),
    [
        ("gpt2", {"n_positions": 64}, Positions(64, hard=True)),
        ("opt", {"max_position_embeddings": 64}, Positions(64, hard=True)),
        ("gpt_neo", {"max_position_embeddings": 64}, Positions(64, hard=True)),
        ("gptj", {"n_positions": 64}, Positions(64, hard=True)),  # a table of rotations, and no more
        ("llama", {"max_position_embeddings": 64}, Positions(64, hard=False)),
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
