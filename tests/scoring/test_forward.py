"""A causal LM's second way to be called: what it computes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from aft.errors import ConfigError
from aft.model import build_model
from aft.scoring.forward import disable_scoring, enable_scoring
from aft.scoring.packing import SHARED, pack
from aft.scoring.responses import score_responses
from tiny_models import checkpoint_activations, random_items, same_weights, tiny_model, word_tokenizer

CHUNK_BYTES = 4 * 32 * 7


def test_any_other_call_is_passed_on_untouched():
    plain, scoring = tiny_model(), tiny_model()
    enable_scoring(scoring, chunk_bytes=CHUNK_BYTES)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected, found = plain(ids, labels=ids), scoring(ids, labels=ids)
        assert torch.equal(expected.logits, found.logits) and torch.equal(expected.loss, found.loss)
        options = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(plain.generate(ids, **options), scoring.generate(ids, **options))


def test_what_scoring_adds_is_not_saved(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "plain")
    enable_scoring(model, chunk_bytes=CHUNK_BYTES)
    with torch.no_grad():
        score_responses(model, pack(random_items(0, [[None]]), 0, SHARED))
    model.save_pretrained(tmp_path / "scoring")
    for name in sorted(path.name for path in (tmp_path / "plain").iterdir()):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "scoring" / name).read_bytes()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "scoring")
    assert same_weights(loaded, model)


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 32 * 7, 2**20])
def test_the_head_sees_response_tokens_alone_and_is_entered_once(chunk_bytes):
    """Once however many chunks: with sharded weights, entering it is a collective operation."""
    model = tiny_model()
    enable_scoring(model, chunk_bytes=chunk_bytes)
    batch = pack(random_items(1, [[None], [1.0, 0.0]]), 0, SHARED)
    assert len(batch["targets"]) == 19
    score_responses(model, batch)  # the first call also checks itself
    rows = []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    seq_logps, _ = score_responses(model, batch)
    seq_logps.sum().backward()
    assert rows == [19]
    handle.remove()


def test_after_a_packed_row_other_calls_find_the_models_own_attention():
    plain, scoring = tiny_model("mistral"), tiny_model("mistral")
    enable_scoring(scoring, chunk_bytes=CHUNK_BYTES)
    own = scoring.config._attn_implementation
    ids = torch.tensor([[3, 4, 5, 6, 7, 8]])
    score_responses(scoring, pack(random_items(0, [[1.0, 0.0]]), 0, SHARED))[0].sum().backward()
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, scoring(ids).logits)
        options = {"max_new_tokens": 8, "do_sample": False}
        score_responses(scoring, pack(random_items(0, [[1.0, 0.0]]), 0, SHARED))
        assert scoring.config._attn_implementation == own, "without gradient there is nothing to keep it for"
        assert torch.equal(plain.generate(ids, **options), scoring.generate(ids, **options))


def test_a_copy_scores_with_its_own_weights():
    model = tiny_model()
    enable_scoring(model, chunk_bytes=CHUNK_BYTES)
    batch = pack(random_items(0, [[1.0, 0.0]]), 0, SHARED)
    with torch.no_grad():
        before = score_responses(model, batch)[0]
        other = copy.deepcopy(model)
        for weight in other.parameters():
            weight.mul_(1.5)
        expected = score_responses(same_weights_enabled(other), batch)[0]
        torch.testing.assert_close(score_responses(other, batch)[0], expected)
        assert torch.equal(score_responses(model, batch)[0], before) and not torch.allclose(expected, before)
    disable_scoring(other)
    assert other.config._attn_implementation == tiny_model().config._attn_implementation


def same_weights_enabled(model):
    """Another model with the weights of this one, its scoring enabled afresh."""
    fresh = tiny_model()
    fresh.load_state_dict(model.state_dict())
    enable_scoring(fresh, chunk_bytes=CHUNK_BYTES)
    return fresh


def test_enabled_again_the_last_settings_hold_and_disabled_nothing_is_left():
    model = tiny_model()
    forward, own = model.forward, model.config._attn_implementation
    for implementation in (None, "eager"):
        enable_scoring(model, chunk_bytes=CHUNK_BYTES, attn_implementation=implementation)
        score_responses(model, pack(random_items(0, [[1.0, 0.0]]), 0, SHARED))[0].sum().backward()
    assert model.config._attn_implementation == "aft_eager"
    disable_scoring(model)
    assert model.forward == forward and model.config._attn_implementation == own
    disable_scoring(model)


def test_gradient_checkpointing_keeps_no_logits():
    kept = {}
    for checkpointed in (False, True):
        model = tiny_model().train()
        enable_scoring(model, keep_bytes=2**30)
        if checkpointed:
            checkpoint_activations(model)
        batch, wide = pack(random_items(1, [[None], [1.0, 0.0]]), 0, SHARED), []

        def note(tensor, wide=wide):
            wide.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            score_responses(model, batch)
        kept[checkpointed] = (19, 32) in wide
    assert kept == {False: True, True: False}


def test_an_architecture_that_scoring_does_not_know_is_refused():
    config = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build_model("bert", {**config, "is_decoder": True}, word_tokenizer(), seed=0)
    with torch.no_grad():
        model.cls.predictions.bias.copy_(torch.arange(32.0))
    enable_scoring(model, chunk_bytes=CHUNK_BYTES)
    with pytest.raises(ConfigError, match=r"^model: BertLMHeadModel does more to its logits"):
        score_responses(model, pack(random_items(0, [[None]]), 0, SHARED))


@pytest.mark.parametrize("training", [True, False])
def test_the_check_leaves_mode_and_random_numbers_alone(training):
    model = tiny_model("gpt2", resid_pdrop=0.5).train(training)
    enable_scoring(model, chunk_bytes=CHUNK_BYTES)
    batch = pack(random_items(0, [[None]]), 0, SHARED)
    with torch.no_grad():
        torch.manual_seed(0)
        first, _ = score_responses(model, batch)
        torch.manual_seed(0)
        second, _ = score_responses(model, batch)
    assert torch.equal(first, second) and model.training == training
