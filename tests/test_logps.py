"""Token log-probs: the model's own cross entropy, in chunks, from response tokens alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from aft import logps
from aft.logps import default_chunk_size, mean_scores, sequence_logps, sum_by_sequence, token_logps

VOCABULARY = 61
HIDDEN = 16


def tiny_llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def padded_batch():
    """(input_ids, attention_mask, response_mask): three right-padded sequences with responses of 4, 2 and 5 tokens."""
    prompts, responses, width = (3, 5, 1), (4, 2, 5), 9
    input_ids = torch.randint(1, VOCABULARY, (3, width), generator=torch.Generator().manual_seed(1))
    column = torch.arange(width)
    prompt, end = torch.tensor(prompts)[:, None], torch.tensor(prompts)[:, None] + torch.tensor(responses)[:, None]
    return input_ids, (column < end).long(), (column >= prompt) & (column < end)


def last_hidden(model, input_ids, attention_mask):
    return model.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def full_logits_logps(model, input_ids, attention_mask, response_mask):
    """The plain way: all logits at once, shifted by hand."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
    every = logits.log_softmax(-1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    return torch.where(response_mask[:, 1:], every, 0.0).sum(1)


class CountingHead(nn.Module):
    """A linear head that writes down how many rows each call gets."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(3)
        self.weight = nn.Parameter(torch.randn(VOCABULARY, HIDDEN, dtype=dtype))
        self.rows: list[int] = []

    def forward(self, hidden):
        self.rows.append(len(hidden))
        return hidden @ self.weight.T


def random_rows(rows, dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(rows, HIDDEN, generator=generator, dtype=torch.float64).to(dtype)
    return hidden, torch.randint(VOCABULARY, (rows,), generator=generator)


def test_equals_the_models_own_cross_entropy():
    model = tiny_llama()
    input_ids, attention_mask, response_mask = padded_batch()
    labels = input_ids.masked_fill(~response_mask, -100)
    with torch.no_grad():
        hidden = last_hidden(model, input_ids, attention_mask)
        seq_logps, lengths = sequence_logps(hidden, input_ids, response_mask, model.lm_head, chunk_size=3)
        assert lengths.tolist() == [4, 2, 5] and lengths.dtype == torch.int64
        whole = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
        assert -seq_logps.sum() / lengths.sum() == pytest.approx(whole.item(), abs=1e-6)
        for row, score in enumerate(mean_scores(seq_logps, lengths).tolist()):
            one = model(
                input_ids=input_ids[row : row + 1],
                attention_mask=attention_mask[row : row + 1],
                labels=labels[row : row + 1],
            ).loss
            assert -score == pytest.approx(one.item(), abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_gradient_of_every_parameter_equals_the_full_logits_path(dtype, tolerance, chunk_size):
    model = tiny_llama(dtype)
    batch = input_ids, attention_mask, response_mask = padded_batch()
    weights = torch.tensor([0.3, -1.0, 2.0], dtype=dtype)
    (full_logits_logps(model, *batch) * weights).sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    hidden = last_hidden(model, input_ids, attention_mask)
    seq_logps, _ = sequence_logps(hidden, input_ids, response_mask, model.lm_head, chunk_size=chunk_size)
    (seq_logps * weights).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=tolerance, atol=tolerance)


def test_chunking_changes_nothing():
    hidden, targets = random_rows(23, torch.float64)
    results = []
    for chunk_size in (1, 2, 5, 22, 23, 24, 1000):
        head = CountingHead(torch.float64)
        leaf = hidden.clone().requires_grad_()
        out = token_logps(leaf, targets, head, chunk_size=chunk_size)
        (out * torch.arange(23)).sum().backward()
        results.append((out.detach(), leaf.grad, head.weight.grad))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-12)


def test_the_head_never_sees_more_rows_than_a_chunk():
    hidden, targets = random_rows(23)
    head = CountingHead()
    out = token_logps(hidden.requires_grad_(), targets, head, chunk_size=5)
    assert len(head.rows) == 5 and max(head.rows) <= 5 and sum(head.rows) == 23
    out.sum().backward()
    assert len(head.rows) == 10 and max(head.rows) <= 5  # once more in the backward pass
    head.rows.clear()
    with torch.no_grad():
        token_logps(hidden, targets, head, chunk_size=5)
    assert len(head.rows) == 5


def saved_logits(chunk_size):
    """Elements of tensors as wide as the vocabulary that the forward pass keeps for the backward pass."""
    hidden, targets = random_rows(40)
    head = CountingHead()
    kept: list[int] = []

    def note(tensor):
        if tensor.ndim == 2 and tensor.shape[-1] == VOCABULARY:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        token_logps(hidden.requires_grad_(), targets, head, chunk_size=chunk_size)
    return sum(kept)


def test_no_logits_are_kept_for_the_backward_pass_unless_one_chunk_is_all():
    assert saved_logits(chunk_size=40) > 0
    assert saved_logits(chunk_size=39) == 0


def test_one_chunk_is_not_computed_twice():
    hidden, targets = random_rows(7)
    head = CountingHead()
    token_logps(hidden.requires_grad_(), targets, head, chunk_size=7).sum().backward()
    assert head.rows == [7]


def linear_head(dtype=torch.float32, *, bias=True, frozen=False) -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=dtype).requires_grad_(not frozen)


def capped(logits):
    return 3.0 * torch.tanh(logits / 3.0)


@pytest.mark.parametrize("keep_bytes", [0, 2**30])
@pytest.mark.parametrize("chunk_size", [1, 7, 40, 100])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("postprocess", [None, capped])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_head_has_the_values_and_gradients_of_whole_logits(bias, postprocess, frozen, chunk_size, keep_bytes):
    hidden, targets = random_rows(40)
    hidden, weights = hidden.double(), torch.linspace(-1, 2, 40, dtype=torch.float64)
    head = linear_head(torch.float64, bias=bias, frozen=frozen)
    found_hidden, expected_hidden = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    options = {"chunk_size": chunk_size, "keep_bytes": keep_bytes, "postprocess": postprocess}
    found = token_logps(found_hidden, targets, head, **options)
    (found * weights).sum().backward()
    gradients = [parameter.grad for parameter in head.parameters()]
    head.zero_grad()
    logits = head(expected_hidden) if postprocess is None else postprocess(head(expected_hidden))
    expected = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    (expected * weights).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_hidden.grad, expected_hidden.grad)
    for gradient, parameter in zip(gradients, head.parameters(), strict=True):
        assert (gradient is None) == frozen
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize("keep_bytes", [0, 2**30])
def test_a_linear_heads_gradient_is_the_numerical_one(keep_bytes):
    hidden, targets = random_rows(5)
    head = linear_head(torch.float64)

    def function(hidden, weight):
        with torch.no_grad():
            head.weight.copy_(weight)
        return torch.func.functional_call(
            _Wrapped(head, targets, keep_bytes), {"head.weight": weight}, (hidden,), strict=False
        )

    inputs = (hidden.double().requires_grad_(), head.weight.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)


class _Wrapped(nn.Module):
    def __init__(self, head, targets, keep_bytes):
        super().__init__()
        self.head, self.targets, self.keep_bytes = head, targets, keep_bytes

    def forward(self, hidden):
        return token_logps(hidden, self.targets, self.head, chunk_size=2, keep_bytes=self.keep_bytes)


def saved_by_linear(*, keep_bytes=0, frozen=False):
    """Shapes of what the forward pass over 40 rows keeps, apart from the head's own weight."""
    hidden, targets = random_rows(40)
    head, kept = linear_head(bias=False, frozen=frozen), []

    def note(tensor):
        if tensor.data_ptr() != head.weight.data_ptr():
            kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        token_logps(hidden.requires_grad_(), targets, head, chunk_size=20, keep_bytes=keep_bytes)
    return kept


def test_logits_are_kept_where_they_fit_and_the_head_trains():
    whole = 40 * VOCABULARY * 4
    assert saved_by_linear(keep_bytes=whole).count((40, VOCABULARY)) == 1
    assert saved_by_linear(keep_bytes=whole - 1).count((40, VOCABULARY)) == 0
    # a frozen head leaves what its backward pass needs: one gradient of each log-prob, as wide as the hidden states
    assert sorted(saved_by_linear(keep_bytes=whole, frozen=True)) == [(40, HIDDEN)] * 2


def test_bfloat16_weights_sum_their_gradient_in_float32():
    hidden, targets = random_rows(512)
    head = linear_head(torch.bfloat16, bias=False)
    token_logps(hidden.bfloat16(), targets, head, chunk_size=2).sum().backward()
    exact = linear_head(torch.float32, bias=False)
    with torch.no_grad():
        exact.weight.copy_(head.weight)
    token_logps(hidden.bfloat16().float(), targets, exact).sum().backward()
    assert head.weight.grad.dtype == torch.bfloat16
    error = (head.weight.grad.float() - exact.weight.grad).norm() / exact.weight.grad.norm()
    assert error < 0.01, "256 chunks, each rounded to eight bits, would be worse"


def test_under_autocast_a_linear_head_computes_as_autocast_would():
    hidden, targets = random_rows(12)
    head = linear_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_logps(hidden, targets, head, chunk_size=5)
        expected = head(hidden).float().log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.sum().backward()
    assert head.weight.grad.dtype == torch.float32


def test_hooks_on_a_linear_head_run_once_around_all_chunks():
    """They gather a sharded weight: ranks with unequal numbers of rows must gather equally often."""
    for rows in (0, 1, 6):
        hidden, targets = random_rows(rows)
        head, seen = linear_head(), []
        head.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(("before", len(inputs[0]))))
        head.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(("after", len(output))))
        out = token_logps(hidden.requires_grad_(), targets, head, chunk_size=2)
        assert seen == [("before", rows), ("after", rows)]
        out.sum().backward()
        assert head.weight.grad is not None and "forward" not in vars(head)


def test_a_head_that_is_more_than_linear_is_called_as_it_is():
    class Doubled(nn.Linear):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    hidden, targets = random_rows(6)
    torch.manual_seed(3)
    head = Doubled(HIDDEN, VOCABULARY)
    expected = head(hidden).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    torch.testing.assert_close(token_logps(hidden, targets, head, chunk_size=4), expected)


def test_no_rows_give_no_logps_and_a_zero_gradient():
    head = CountingHead()
    hidden = torch.zeros(0, HIDDEN, requires_grad=True)
    out = token_logps(hidden, torch.zeros(0, dtype=torch.long), head)
    assert out.shape == (0,) and out.dtype == torch.float32
    out.sum().backward()
    assert torch.equal(head.weight.grad, torch.zeros(VOCABULARY, HIDDEN))
    assert hidden.grad.shape == (0, HIDDEN)


def test_a_batch_without_response_is_a_differentiable_zero():
    head = CountingHead()
    hidden = torch.randn(2, 4, HIDDEN, generator=torch.Generator().manual_seed(0)).requires_grad_()
    input_ids = torch.ones(2, 4, dtype=torch.long)
    seq_logps, lengths = sequence_logps(hidden, input_ids, torch.zeros(2, 4, dtype=torch.bool), head)
    scores = mean_scores(seq_logps, lengths)
    assert scores.tolist() == [0, 0] and lengths.tolist() == [0, 0]
    scores.sum().backward()
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
    assert torch.equal(head.weight.grad, torch.zeros_like(head.weight))


def test_a_frozen_head_gets_no_gradient_and_passes_it_on():
    hidden, targets = random_rows(9)
    head = nn.Linear(HIDDEN, VOCABULARY).requires_grad_(False)
    token_logps(hidden.requires_grad_(), targets, head, chunk_size=4).sum().backward()
    assert head.weight.grad is None and hidden.grad.abs().sum() > 0


@pytest.mark.parametrize("chunk_size", [3, 100])
def test_bf16_states_give_float32_logps(chunk_size):
    hidden, targets = random_rows(10, torch.bfloat16)
    head = CountingHead(torch.bfloat16)
    out = token_logps(hidden.requires_grad_(), targets, head, chunk_size=chunk_size)
    assert out.dtype == torch.float32
    logits = (hidden @ head.weight.T).float()  # rounded to bf16 by the model, and no more after that
    expected = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    out.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16


def test_postprocess_acts_on_float32_logits():
    hidden, targets = random_rows(10, torch.bfloat16)
    head = CountingHead(torch.bfloat16)

    def soft_cap(logits):
        assert logits.dtype == torch.float32
        return 5.0 * torch.tanh(logits / 5.0)

    out = token_logps(hidden, targets, head, chunk_size=3, postprocess=soft_cap)
    logits = 5.0 * torch.tanh((hidden @ head.weight.T).float() / 5.0)
    expected = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


def test_dropout_in_the_head_is_the_same_in_both_passes():
    """With a head adapter in training mode the backward pass must meet the masks of the forward pass."""
    hidden, targets = random_rows(12, torch.float64)
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(HIDDEN, VOCABULARY, dtype=torch.float64)).train()

    def run(leaf):
        torch.manual_seed(7)
        return token_logps(leaf, targets, head, chunk_size=5)

    assert torch.autograd.gradcheck(run, hidden.requires_grad_())


def test_no_token_id_is_special():
    hidden, targets = random_rows(3)
    targets[1] = -100
    with pytest.raises((RuntimeError, IndexError)):
        token_logps(hidden, targets, CountingHead())


def test_only_states_before_response_tokens_get_gradient():
    input_ids, _, response_mask = padded_batch()
    hidden = torch.randn(3, 9, HIDDEN, generator=torch.Generator().manual_seed(5)).requires_grad_()
    seq_logps, _ = sequence_logps(hidden, input_ids, response_mask, CountingHead(), chunk_size=4)
    seq_logps.sum().backward()
    predicts = torch.zeros_like(response_mask)
    predicts[:, :-1] = response_mask[:, 1:]
    assert torch.equal(hidden.grad.abs().sum(-1) > 0, predicts)


def test_prompt_and_padding_contribute_nothing_and_the_end_token_does():
    input_ids, _, response_mask = padded_batch()
    hidden = torch.randn(3, 9, HIDDEN, generator=torch.Generator().manual_seed(6))
    head = CountingHead()
    expected, _ = sequence_logps(hidden, input_ids, response_mask, head)
    other_ids = torch.where(response_mask, input_ids, 0)
    assert torch.equal(sequence_logps(hidden, other_ids, response_mask, head)[0], expected)
    without_end = response_mask.clone()
    for row, end in enumerate((6, 6, 5)):  # the last response token of each sequence
        assert response_mask[row, end] and not response_mask[row, end + 1 :].any()
        without_end[row, end] = False
    shorter, lengths = sequence_logps(hidden, input_ids, without_end, head)
    assert lengths.tolist() == [3, 1, 4] and (shorter > expected).all()


def test_padding_may_stand_on_either_side():
    input_ids, _, response_mask = padded_batch()
    hidden = torch.randn(3, 9, HIDDEN, generator=torch.Generator().manual_seed(6))
    head = CountingHead()
    expected, lengths = sequence_logps(hidden, input_ids, response_mask, head)
    left = (hidden.roll(2, 1), input_ids.roll(2, 1), response_mask.roll(2, 1))
    got, got_lengths = sequence_logps(*left, head)
    torch.testing.assert_close(got, expected)
    assert torch.equal(got_lengths, lengths)


def test_sum_by_sequence_takes_tokens_in_any_order():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], requires_grad=True)
    seq_logps, lengths = sum_by_sequence(values, torch.tensor([2, 0, 2, 3, 0]), 5)
    assert seq_logps.tolist() == [18.0, 0.0, 5.0, 8.0, 0.0] and lengths.tolist() == [2, 0, 2, 1, 0]
    (mean_scores(seq_logps, lengths) * torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])).sum().backward()
    assert values.grad.tolist() == [50.0, 0.5, 50.0, 1000.0, 0.5]


def test_half_precision_logps_are_summed_in_float32():
    seq_logps, _ = sum_by_sequence(torch.full((4096,), -1.0, dtype=torch.bfloat16), torch.zeros(4096).long(), 1)
    assert seq_logps.dtype == torch.float32 and seq_logps.item() == -4096


def test_default_chunk_keeps_the_logits_within_the_budget():
    with torch.device("meta"):
        head = nn.Linear(8, 128_256)
    rows = default_chunk_size(head)
    assert rows * 128_256 * 4 <= logps.CHUNK_BYTES < (rows + 1) * 128_256 * 4
    assert default_chunk_size(head, 128_256 * 4 * 7) == 7
    assert default_chunk_size(head, 1) == 1
    assert default_chunk_size(lambda hidden: hidden) == logps.UNKNOWN_VOCABULARY_CHUNK


def message(function, *args, **options):
    with pytest.raises(ValueError) as caught:
        function(*args, **options)
    return str(caught.value)


def test_bad_arguments_of_token_logps_are_named():
    head = CountingHead()
    hidden, targets = random_rows(3)
    assert message(token_logps, hidden[0], targets, head) == "token_logps: hidden must be (R, H), got (16,)"
    assert message(token_logps, hidden, targets[:2], head) == "token_logps: targets must be (R,) = (3,), got (2,)"
    assert message(token_logps, hidden, targets.int(), head).endswith("targets must be torch.int64, got torch.int32")
    assert "chunk_size must be >= 1, got 0" in message(token_logps, hidden, targets, head, chunk_size=0)


def test_bad_arguments_of_sum_by_sequence_are_named():
    values, index = torch.zeros(3), torch.zeros(3, dtype=torch.long)
    assert message(sum_by_sequence, values[None], index, 1).endswith("token_logps must be (R,), got (1, 3)")
    assert message(sum_by_sequence, values, index[:1], 1).endswith("sequence_index must be (R,) = (3,), got (1,)")
    assert message(sum_by_sequence, values, values, 1).endswith("must be torch.int64, got torch.float32")


def test_bad_arguments_of_sequence_logps_are_named():
    head = CountingHead()
    input_ids, _, response_mask = padded_batch()
    hidden = torch.zeros(3, 9, HIDDEN)
    assert message(sequence_logps, hidden[0], input_ids, response_mask, head).endswith("(N, T, H), got (9, 16)")
    assert message(sequence_logps, hidden, input_ids[:, 1:], response_mask, head) == (
        "sequence_logps: input_ids must be (N, T) = (3, 9), got (3, 8)"
    )
    assert message(sequence_logps, hidden, input_ids, response_mask[:2], head) == (
        "sequence_logps: response_mask must be (N, T) = (3, 9), got (2, 9)"
    )
    assert message(sequence_logps, hidden, input_ids, response_mask.long(), head).endswith(
        "response_mask must be torch.bool, got torch.int64"
    )
    response_mask[1, 0] = True
    assert message(sequence_logps, hidden, input_ids, response_mask, head).endswith(
        "must be false in the first column, is true in rows [1]"
    )


def test_arguments_are_left_as_they_were():
    input_ids, _, response_mask = padded_batch()
    hidden = torch.randn(3, 9, HIDDEN, generator=torch.Generator().manual_seed(6))
    kept = (hidden.clone(), input_ids.clone(), response_mask.clone())
    sequence_logps(hidden, input_ids, response_mask, CountingHead(), chunk_size=2)
    assert all(torch.equal(a, b) for a, b in zip((hidden, input_ids, response_mask), kept, strict=True))
