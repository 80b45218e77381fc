"""Which layout a model is given, and the line that says why."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AttentionInterface

from aft.errors import ConfigError
from aft.model import build_model
from aft.scoring import attention
from aft.scoring.forward import enable_scoring
from aft.scoring.layouts import choose_layout
from aft.scoring.packing import LAYOUTS, PACKED, PADDED, SHARED, pack
from aft.scoring.responses import score_responses
from tiny_models import CONFIGS, as_entries, random_items, tiny_model, word_tokenizer

ENTRIES = as_entries(random_items(2, [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0]]))
PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def scoring(architecture: str, **options):
    model = tiny_model(architecture)
    enable_scoring(model, **options)
    return model


@pytest.mark.parametrize("architecture", [name for name in CONFIGS if name != "qwen3_next"])
def test_causal_attention_computes_questions_once_and_says_nothing(architecture):
    assert choose_layout(scoring(architecture), ENTRIES, 0) == (SHARED, None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wanted_layout_is_taken(layout):
    assert choose_layout(scoring("llama"), ENTRIES, 0, wanted=layout) == (layout, None)


def test_mode_and_random_numbers_stay():
    model = tiny_model("gpt2", resid_pdrop=0.5).train()
    enable_scoring(model)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    choose_layout(model, ENTRIES, 0)
    assert model.training and torch.equal(torch.get_rng_state(), before)


UNSHARED = {
    "qwen3_next": (CONFIGS["qwen3_next"], "layers of another kind (linear_attention)"),
    "mamba": (
        {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "intermediate_size": 32},
        "layers of another kind (linear_attention)",
    ),
    "bloom": (
        {"hidden_size": 16, "n_layer": 2, "n_head": 2},
        "its attention is not one that transformers lets us replace",
    ),
    "gpt_oss": (
        {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
        },
        "its attention takes s_aux",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", UNSHARED)
def test_a_model_that_cannot_share_is_padded_and_says_why(architecture):
    config, reason = UNSHARED[architecture]
    model = build_model(architecture, config, word_tokenizer(), seed=0).eval()
    enable_scoring(model)
    layout, line = choose_layout(model, ENTRIES, 0)
    assert layout == PADDED and "\n" not in line
    assert line.startswith(f"{type(model).__name__}: questions are computed again for each of their responses, padded")
    assert line.endswith(f"because {'it has ' if 'layers' in reason else ''}{reason}")
    with pytest.raises(ConfigError, match=r"cannot be given 'shared' rows: .*; allowed: auto, padded"):
        choose_layout(model, ENTRIES, 0, wanted=SHARED)


@pytest.mark.filterwarnings(PEFT_WARNING)
@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_prompt_tuning_is_padded_and_scored_as_its_own_logits_say():
    items = [item for (item,) in ENTRIES]
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, num_layers=2, token_dim=16, num_attention_heads=2
    )
    model = get_peft_model(tiny_model(), config).eval()
    expected = []
    with torch.no_grad():
        for item in items:
            for response in item.responses:
                ids = torch.tensor([item.prompt_ids + response])
                logps = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 3:].log_softmax(-1)
                first = len(item.prompt_ids) - 1
                expected.append(sum(logps[first + k, token] for k, token in enumerate(response)))
        enable_scoring(model)
        layout, line = choose_layout(model, ENTRIES, 0)
        found, _ = score_responses(model, pack(items, 0, layout))
    assert layout == PADDED and line.endswith("because its adapter puts tokens of its own before every row")
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


def forgets(what):
    """Our attention, with a mistake that a model or a library could make."""

    def function(module, query, key, value, mask, sliding_window=None, **others):
        segments = others[attention.SEGMENTS]
        if what == "prefix":
            segments = attention.Segments(segments.lengths, (-1,) * len(segments.lengths))
        return AttentionInterface()["aft_sdpa"](
            module,
            query,
            key,
            value,
            mask,
            sliding_window=None if what == "window" else sliding_window,
            **{**others, attention.SEGMENTS: segments},
        )

    return function


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize(("what", "layout"), [("prefix", PACKED), ("window", PADDED)])
def test_wrong_scores_are_found_out(monkeypatch, what, layout, rough):
    """A row whose responses lose the question can still be packed; one whose windows are lost cannot."""
    monkeypatch.setitem(attention.IMPLEMENTATIONS, None, "test_broken")
    AttentionInterface.register("test_broken", forgets(what))
    model = tiny_model("mistral").to(torch.bfloat16 if rough else torch.float32)
    enable_scoring(model)
    found, line = choose_layout(model, ENTRIES, 0, rough=rough)
    assert found == layout and "a token's log-prob would be wrong by" in line


@pytest.mark.parametrize("what", ["prefix", "window"])
def test_the_question_that_shows_a_mistake_is_among_those_that_are_tried(monkeypatch, what):
    """It need not be the one with most tokens, nor its first response the long one, nor the longest one that shares."""
    monkeypatch.setitem(attention.IMPLEMENTATIONS, None, "test_broken")
    AttentionInterface.register("test_broken", forgets(what))
    one, two = [dataclasses.replace(item, prompt_ids=[3, 4]) for item in random_items(2, [[0.0], [0.0]])]
    many = dataclasses.replace(two, responses=[[5, 1]] * 40, supervised=[False] * 40, ratings=[0.0] * 40)
    if what == "window":
        # short sequences by the dozen, and one long response behind many short ones
        long = dataclasses.replace(many, responses=[[5, 1]] * 9 + [[5, 6, 7, 8] * 4], ratings=[0.0] * 10)
        items = [many, many, dataclasses.replace(long, supervised=[False] * 10), one]
    else:
        # long questions with nothing to share, and one short group
        alone = dataclasses.replace(one, responses=[[5, 6, 7, 8] * 5])
        group = dataclasses.replace(two, responses=[[6, 1], [7, 8, 1]], supervised=[False] * 2, ratings=[0.0, 1.0])
        items = [alone, alone, group, dataclasses.replace(one, responses=[[6]])]
    model = tiny_model("mistral")
    enable_scoring(model)
    found, line = choose_layout(model, as_entries(items), 0)
    assert found != SHARED and "a token's log-prob would be wrong by" in line


def test_whatever_a_model_raises_steps_down(monkeypatch):
    monkeypatch.setitem(attention.IMPLEMENTATIONS, None, "test_broken")
    AttentionInterface.register("test_broken", lambda module, query, key, value, mask, **others: mask.shape)
    layout, line = choose_layout(scoring("llama"), ENTRIES, 0)
    assert layout == PADDED and "it fails: 'NoneType' object has no attribute 'shape'" in line


def test_the_trial_needs_no_more_room_than_one_sequence_and_a_row_of_a_few(monkeypatch):
    shapes = []
    model = scoring("llama")
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    big = random_items(1, [[0.0] * 40] * 6)
    choose_layout(model, as_entries(big), 0)
    longest = max(len(item.prompt_ids) + len(response) for item in big for response in item.responses)
    assert all(rows == 1 for rows, _ in shapes) and max(columns for _, columns in shapes) <= 9 * longest


def test_what_a_forced_attention_lacks_steps_down_with_its_reason():
    layout, line = choose_layout(scoring("gemma2", attn_implementation="sdpa"), ENTRIES, 0)
    assert layout == PADDED and line.endswith("because scaled-dot-product attention has no soft-capping")
    layout, line = choose_layout(scoring("llama", attn_implementation="flex_attention"), ENTRIES, 0)
    assert layout == PADDED and line.endswith("because its model.attn_implementation has no form for packed rows")
    assert choose_layout(scoring("gemma2", attn_implementation="eager"), ENTRIES, 0) == (SHARED, None)


def test_nothing_to_score_needs_no_trial():
    assert choose_layout(torch.nn.Linear(1, 1), [], 0) == (SHARED, None)
