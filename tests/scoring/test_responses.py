"""Scores in every layout against the plain forward, one sequence at a time, for several architectures."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from aft.errors import AftError
from aft.model import add_lora
from aft.scoring.batching import Packer, StepSampler, entry_loader
from aft.scoring.forward import enable_scoring
from aft.scoring.packing import LAYOUTS, PACKED, PADDED, SHARED, Item, pack
from aft.scoring.responses import candidate_scores, score_candidates, score_responses
from tiny_models import CONFIGS, as_entries, checkpoint_activations, random_items, tiny_model

CHUNK_BYTES = 4 * 32 * 7  # seven rows of logits: several chunks in every batch below
KINDS = [[None, 1.0, 0.0], [None], [1.0, 0.0, 0.0, 1.0]]


def plain_logps(model, item: Item) -> list[torch.Tensor]:
    """Sum of the response's token log-probs for each response, each sequence alone and unpadded."""
    found = []
    for response in item.responses:
        ids = torch.tensor([item.prompt_ids + response])
        logps = model(input_ids=ids).logits[0].float().log_softmax(-1)
        before = len(item.prompt_ids) - 1
        found.append(torch.stack([logps[before + k, token] for k, token in enumerate(response)]).sum())
    return found


def scoring_model(architecture: str, keep_bytes: int = 0, **config):
    model = tiny_model(architecture, **config)
    enable_scoring(model, chunk_bytes=CHUNK_BYTES, keep_bytes=keep_bytes)
    return model


# Every layout of every architecture that can have it: linear attention keeps a state, which rows cannot share.
LAID_OUT = [(name, layout) for name in CONFIGS for layout in LAYOUTS if name != "qwen3_next" or layout == PADDED]


@pytest.mark.parametrize(("architecture", "layout"), LAID_OUT)
def test_scores_equal_the_plain_forward(architecture, layout):
    items = random_items(3, KINDS)
    with torch.no_grad():
        plain = tiny_model(architecture)
        expected = torch.stack([value for item in items for value in plain_logps(plain, item)])
        # against sequences alone: neither padding nor company changes a score
        seq_logps, lengths = score_responses(scoring_model(architecture), pack(items, 0, layout))
    assert seq_logps.dtype == torch.float32
    torch.testing.assert_close(seq_logps / lengths, expected / lengths, rtol=0, atol=1e-5)
    assert lengths.tolist() == [len(response) for item in items for response in item.responses]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "opt"])
def test_the_supervised_mean_is_the_models_own_cross_entropy(architecture):
    items = random_items(4, [[None]] * 5)
    batch = pack(items, 0, PADDED)
    labels = torch.full_like(batch["input_ids"], -100)
    for row, item in enumerate(items):
        start = len(item.prompt_ids)
        labels[row, start : start + len(item.responses[0])] = torch.tensor(item.responses[0])
    with torch.no_grad():
        whole = tiny_model(architecture)(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        seq_logps, lengths = score_responses(scoring_model(architecture), pack(items, 0, SHARED))
    torch.testing.assert_close(-seq_logps.sum() / lengths.sum(), whole)


def flat_gradient(model) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def relative_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("architecture", "layout"), LAID_OUT)
def test_the_gradient_equals_the_one_of_each_sequence_alone(architecture, layout):
    items = random_items(5, KINDS)
    weights = torch.linspace(-1, 1, 8)
    plain = tiny_model(architecture)
    (torch.stack([v for item in items for v in plain_logps(plain, item)]) * weights).sum().backward()
    for keep_bytes in (0, 2**20):  # what the head does in its backward pass
        scoring = scoring_model(architecture, keep_bytes=keep_bytes)
        seq_logps, _ = score_responses(scoring, pack(items, 0, layout))
        (seq_logps * weights).sum().backward()
        assert relative_distance(flat_gradient(scoring), flat_gradient(plain)) < 1e-5


PATTERNS = [[0, 1], [0, 0, 1], None, [1, 0, 1], [1, 0, 0, 0]]


def masked_items(seed: int) -> list[Item]:
    """Items of which most responses have a mask with at least one 1."""
    found, patterns = [], itertools.cycle(PATTERNS)
    for item in random_items(seed, KINDS):
        masks = [pattern and (pattern * 9)[: len(r)] for r, pattern in zip(item.responses, patterns, strict=False)]
        found.append(dataclasses.replace(item, masks=[mask if mask and any(mask) else None for mask in masks]))
    assert sum(0 in (mask or ()) for item in found for mask in item.masks) >= 4
    return found


def plain_masked(model, item: Item) -> list[torch.Tensor]:
    """Sum of the log-probs of each response's tokens with a 1, each sequence alone."""
    found = []
    for response, mask in zip(item.responses, item.masks, strict=True):
        logps = model(input_ids=torch.tensor([item.prompt_ids + response])).logits[0].float().log_softmax(-1)
        before = len(item.prompt_ids) - 1
        kept = [k for k in range(len(response)) if mask is None or mask[k]]
        found.append(torch.stack([logps[before + k, response[k]] for k in kept]).sum())
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask_gives_the_scores_and_the_gradient_of_the_sequence_alone(layout):
    items = masked_items(5)
    plain, scoring = tiny_model("llama"), scoring_model("llama")
    expected = torch.stack([value for item in items for value in plain_masked(plain, item)])
    counted = [len(r) if m is None else sum(m) for i in items for r, m in zip(i.responses, i.masks, strict=True)]
    batch = pack(items, 0, layout)
    seq_logps, lengths = score_responses(scoring, batch)
    assert lengths.tolist() == counted
    torch.testing.assert_close(seq_logps / lengths, expected / lengths, rtol=0, atol=1e-5)
    # means, supervised sums and all that a loss is made of follow from these
    weights = torch.linspace(-1, 1, len(counted))
    (expected * weights).sum().backward()
    (seq_logps * weights).sum().backward()
    assert relative_distance(flat_gradient(scoring), flat_gradient(plain)) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_loss_reaches_the_prediction_of_a_masked_token(layout):
    model = scoring_model("llama")
    score_responses(
        model, pack(random_items(0, [[None]]), 0, layout)
    )  # the first call is compared with the model's own
    item = Item("q", [5, 6], [[9, 7, 8], [9, 7, 4]], [False, False], [1.0, 0.0], masks=[[0, 1, 1], [0, 0, 1]])
    seen = []
    forward = model.lm_head.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    batch = pack([item], 0, layout)
    _, lengths = score_responses(model, batch)
    forward.remove()
    assert sum(seen) == 3 == int(lengths.sum()), "the head computes no row of a masked token"
    assert batch["targets"].tolist() == [7, 8, 4]
    # all-ones masks are no masks
    ones = dataclasses.replace(item, masks=[[1, 1, 1], None])
    with torch.no_grad():
        unmasked = dataclasses.replace(item, masks=None)
        found, expected = (score_responses(model, pack([one], 0, layout))[0] for one in (ones, unmasked))
    assert torch.equal(found, expected)


def test_prompt_tokens_contribute_nothing_and_the_end_token_does():
    model = scoring_model("llama")
    prompt, response = [5, 6, 7], [8, 9, 1]
    with torch.no_grad():
        whole, lengths = score_responses(model, pack([Item("q", prompt, [response], [True], [None])], 0, SHARED))
        # the same sequence with one more token counted as prompt: exactly that token's log-prob is missing
        shorter, _ = score_responses(model, pack([Item("q", [*prompt, 8], [response[1:]], [True], [None])], 0, SHARED))
        logps = tiny_model()(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        without_end, _ = score_responses(model, pack([Item("q", prompt, [response[:-1]], [True], [None])], 0, SHARED))
    assert lengths.tolist() == [3]
    assert (whole - shorter).item() == pytest.approx(logps[2, 8].item(), abs=1e-5)
    assert (whole - without_end).item() == pytest.approx(logps[4, 1].item(), abs=1e-5)
    # no gradient from the log-probs of prompt tokens: the head never sees the states that predict them
    batch = pack([Item("q", prompt, [response], [True], [None])], 0, SHARED)
    assert batch["positions"].tolist() == [2, 3, 4]


def test_candidate_scores_by_hand():
    batch = pack(random_items(0, [[None, 1.0, 0.0], [None], [1.0]]), 0, SHARED)
    seq_logps = torch.tensor([-1.0, -6.0, -8.0, -1.0, -3.0], requires_grad=True)
    scores = candidate_scores(seq_logps, torch.tensor([1, 2, 4, 1, 3]), batch)
    assert scores.tolist() == [[-3.0, -2.0], [0.0, 0.0], [-1.0, 0.0]]
    scores.sum().backward()
    torch.testing.assert_close(seq_logps.grad, torch.tensor([0, 1 / 2, 1 / 4, 0, 1 / 3]))


def test_candidate_scores_of_a_batch_without_candidates():
    batch = pack(random_items(0, [[None], [None]]), 0, SHARED)
    seq_logps = torch.tensor([-1.0, -2.0], requires_grad=True)
    scores = candidate_scores(seq_logps, torch.tensor([1, 2]), batch)
    assert scores.tolist() == [[0.0], [0.0]]
    scores.sum().backward()
    assert seq_logps.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("max_tokens", [None, 40])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_score_candidates_by_question_whatever_the_batches(batch_size, layout, max_tokens):
    items = random_items(6, [*KINDS, [0.0, 1.0]])
    model = scoring_model("qwen2")
    counted = []
    found = score_candidates(
        model,
        entry_loader(StepSampler(as_entries(items), Packer(0, layout, max_tokens), batch_size, shuffle=False)),
        lambda batch: batch,
        advance=counted.append,
    )
    plain = tiny_model("qwen2")
    assert sum(counted) == 4 and sorted(found) == ["q0", "q2", "q3"]
    with torch.no_grad():
        for item in items:
            logps = plain_logps(plain, item)
            expected = [logps[index].item() / len(item.responses[index]) for index in item.candidates]
            assert found.get(item.question_id, []) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient(architecture, layout):
    """Layers that are made again in the backward pass must find the attention of the first time."""
    items, gradients = random_items(5, KINDS), []
    for checkpointed in (False, True):
        model = scoring_model(architecture)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.train()
        if checkpointed:
            checkpoint_activations(model)
        score_responses(model, pack(items, 0, layout))[0].sum().backward()
        gradients.append(flat_gradient(model))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("checkpointed", [False, True])
def test_lora_has_the_same_gradient_in_every_layout(checkpointed):
    items, gradients = random_items(3, KINDS), {}
    for layout in LAYOUTS:
        torch.manual_seed(0)
        model = add_lora(tiny_model(), {"r": 4, "target_modules": "all-linear", "init_lora_weights": "gaussian"})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        enable_scoring(model, chunk_bytes=CHUNK_BYTES)
        if checkpointed:
            checkpoint_activations(model)
        model.train()
        score_responses(model, pack(items, 0, layout))[0].sum().backward()
        gradients[layout] = flat_gradient(model)
    for layout in (SHARED, PACKED):
        assert relative_distance(gradients[layout], gradients[PADDED]) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_lora_scores_as_the_model_and_trains_only_adapters(checkpointed, layout):
    items = random_items(3, KINDS)
    model = add_lora(tiny_model(), {"r": 4, "target_modules": "all-linear"})
    enable_scoring(model, chunk_bytes=CHUNK_BYTES)
    if checkpointed:
        checkpoint_activations(model)
    model.train()
    seq_logps, _ = score_responses(model, pack(items, 0, layout))
    with torch.no_grad():
        expected = torch.stack([value for item in items for value in plain_logps(tiny_model(), item)])
    # an untrained adapter is zero
    torch.testing.assert_close(seq_logps, expected, rtol=1e-5, atol=2e-5)
    seq_logps.sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient and all("lora_" in name for name in with_gradient)
    assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    changed = [p.grad.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n]
    assert all(value > 0 for value in changed)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2"])
def test_bfloat16_autocast_runs_and_stays_near(architecture, layout):
    items = random_items(3, KINDS)
    model = scoring_model(architecture, initializer_range=0.1)
    expected, _ = score_responses(model, pack(items, 0, PADDED))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seq_logps, _ = score_responses(model, pack(items, 0, layout))
    assert seq_logps.dtype == torch.float32 and not torch.equal(seq_logps, expected)
    torch.testing.assert_close(seq_logps, expected, rtol=0.02, atol=0.02)
    seq_logps.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_check_of_the_first_call_costs_no_gradient_under_autocast(layout):
    """Weights that were cast without gradient must not be taken from autocast's cache, nor autocast stay on."""
    batch, gradients = pack(random_items(3, KINDS), 0, layout), []
    model = scoring_model("llama")
    # as accelerate does it: one autocast object around every call
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
    for _ in range(2):
        model.zero_grad()
        score_responses(model, batch)[0].sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert not torch.is_autocast_enabled("cpu")
    assert all(gradient is not None for gradient in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_scores_that_are_not_finite_name_model_and_tensor():
    model = scoring_model("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.inf
    sampler = StepSampler(as_entries(random_items(3, KINDS)), Packer(0), 2, shuffle=False)
    with pytest.raises(AftError) as error:
        score_candidates(model, entry_loader(sampler), lambda batch: batch)
    assert str(error.value) == (
        "scores of question 'q0': the log-probs of 'LlamaForCausalLM' are not finite: its tensor model.norm.weight"
        " holds nan or inf"
    )
