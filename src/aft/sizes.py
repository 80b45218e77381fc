"""Sizes that must agree: a tokenizer's ids with the embeddings, and the lengths of sequences with the positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .errors import ConfigError

# Keys of transformers' configurations with the number of positions.
_COUNTS = ("max_position_embeddings", "n_positions")
# The `model_type` of causal models that read positions from a table of fixed size, learned or not. All others compute
# what a position needs, or have no positions.
# fmt: off
_TABLES = frozenset((
    "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot", "blenderbot-small",
    "camembert", "codegen", "ctrl", "data2vec-text", "electra", "ernie", "git", "gpt2", "gpt_bigcode", "gpt_neo",
    "gptj", "marian", "mbart", "megatron-bert", "mvp", "openai-gpt", "opt", "pegasus", "plbart", "reformer", "rembert",
    "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "trocr", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod",
))
# fmt: on


@dataclasses.dataclass(frozen=True)
class Positions:
    """How many positions a model has. `hard`: it fails beyond them; otherwise it only was not trained for them."""

    count: int
    hard: bool


def positions_of(settings: Mapping[str, Any]) -> Positions | None:
    """The positions of a model by its configuration's keys; None: no limit is known."""
    count = next((settings[key] for key in _COUNTS if isinstance(settings.get(key), int)), None)
    if count is None or count < 1 or settings.get("alibi") or settings.get("position_embedding_type") == "alibi":
        return None
    return Positions(count, settings.get("model_type") in _TABLES)


def vllm_positions(settings: Mapping[str, Any]) -> Positions | None:
    """The positions beyond which vLLM refuses to go; None: it counts them itself, as where rotations are stretched."""
    rotations = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rotations, dict) or (rotations.get("rope_type") or "default") != "default":
        return None
    positions = positions_of(settings)
    return positions and dataclasses.replace(positions, hard=True)


def check_length(tokens: int, positions: Positions | None, what: str, key: str) -> str | None:
    """Compare the tokens of the longest sequence with the positions.

    Raises `ConfigError` if the model would fail. Returns a warning if it was not trained for that length, else None.
    `what` names the sequence, `key` the configuration's key that makes it shorter.
    """
    if positions is None or tokens <= positions.count:
        return None
    if positions.hard:
        raise ConfigError(
            f"{key}: {what} can have {tokens:,} tokens, but the model has {positions.count:,} positions;"
            f" make {key} smaller by {tokens - positions.count:,}"
        )
    return (
        f"warning: {what} can have {tokens:,} tokens, but the model was made for {positions.count:,} positions;"
        f" {key} decides"
    )


def check_ids(named: Mapping[str, int | None], largest: int, rows: int) -> None:
    """Raise `ConfigError` if an id has no row in the embeddings.

    `named`: the tokenizer's special tokens by name. `largest`: the largest id in the data. `rows`: of the embeddings.
    """
    beyond = [f"{name} {number}" for name, number in named.items() if number is not None and number >= rows]
    if largest >= rows:
        beyond.append(f"{largest} in the data")
    if beyond:
        raise ConfigError(
            f"model.name_or_path: the tokenizer has ids without an embedding: {', '.join(beyond)}; the model has"
            f" {rows:,} rows. Choose tokens that it has, or save a copy of the model after"
            " model.resize_token_embeddings(len(tokenizer))"
        )
