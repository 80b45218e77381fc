"""The sampling loop: against transformers' own generate, its use of the cache, and the distribution it draws from."""

from __future__ import annotations

import math
import random

import pytest
import torch
from sampling_cases import by_generate, ending_model, requests

from aft.errors import AftError
from aft.sampling.decoding import NOT_FINITE, Decoding, Wanted, choose, decode
from aft.sampling.slots import SPARE_COLUMNS
from aft.sampling.transformers_engine import TransformersEngine
from tiny_models import random_ids, tiny_model, word_tokenizer

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)

# ---- the cache ----


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gpt2"])
def test_greedy_equals_generate_when_the_cache_is_renewed_and_trimmed(architecture, monkeypatch):
    """Blocks of 3 columns: longer and shorter rows take each other's places many times over."""
    monkeypatch.setattr("aft.sampling.slots.SPARE_COLUMNS", 3)
    stops = [1, 5, 9, 13, 17, 21, 25, 29]
    model, generator = ending_model(architecture, stops), random.Random(1)
    wanted = [
        Wanted(tuple(random_ids(generator, 1, 3) if n % 3 else random_ids(generator, 25, 40)), 0) for n in range(20)
    ]
    expected = [by_generate(model, one.prompt_ids, 30) for one in wanted]
    assert len(set(map(len, expected))) > 1 and max(map(len, expected)) > 12
    found = decode(model, wanted, Decoding(30, 0.0), ends=frozenset(stops), pad=0, slots=3)
    assert dict(found) == dict(enumerate(expected))


def test_a_place_goes_to_the_next_completion_while_the_others_go_on():
    model = ending_model("llama", [1, 5, 9, 13, 17, 21, 25, 29])
    wanted = [Wanted(request.prompt_ids, 0) for request in requests(16, high=20)]
    calls: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: calls.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    order = [n for n, _ in decode(model, wanted, GREEDY, ends=frozenset({1, 5}), pad=0, slots=4)]
    assert order != sorted(order) and sorted(order) == list(range(16))
    steps = [rows for rows, columns in calls if columns == 1]
    # 4 places are full until the last prompts were read, then rows leave
    read = max(place for place, (_, columns) in enumerate(calls) if columns > 1)
    assert {rows for rows, columns in calls[:read] if columns == 1} == {4} and steps[-1] < 4


def test_a_prompt_is_read_once_for_all_its_completions():
    model, lengths = tiny_model(), []
    model.register_forward_pre_hook(
        lambda _, args, inputs: lengths.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    wanted = [Wanted((3, 4, 5, 6, 7), seed) for seed in range(10)]
    assert len(dict(decode(model, wanted, Decoding(4), ends=frozenset({1}), pad=0, slots=3))) == 10
    assert lengths[0] == 5 and all(length <= 3 for length in lengths[1:])


def test_the_cache_holds_no_more_than_the_longest_live_row_and_a_block():
    """A long prompt comes first; when it is gone, its columns go too."""
    model, generator, widths = tiny_model(), random.Random(0), []
    wanted = [Wanted(tuple(random_ids(generator, 100, 100)), 0)]
    wanted += [Wanted(tuple(random_ids(generator, 2, 4)), 0) for _ in range(20)]

    def watch(_, args, inputs):
        if inputs["input_ids"].shape[1] == 1:
            widths.append((inputs["attention_mask"].shape[1], inputs["past_key_values"].layers[0].keys.shape[2]))

    model.register_forward_pre_hook(watch, with_kwargs=True)
    dict(decode(model, wanted, Decoding(20, 0.0), ends=frozenset(), pad=0, slots=2))
    seen, allocated = zip(*widths, strict=True)
    assert max(seen) == 119 and 20 < seen[-1] < 24
    assert max(allocated) <= 100 + 20 + SPARE_COLUMNS and allocated[-1] <= 4 + 20 + SPARE_COLUMNS


# ---- the distribution ----


def frequencies(decoding: Decoding, count: int, logits: torch.Tensor) -> torch.Tensor:
    rows = logits.expand(count, -1)
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.bincount(choose(rows, decoding, uniforms), minlength=len(logits)) / count


LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.5, -30.0, 1.0, -2.0])


def chi_square(observed: torch.Tensor, expected: torch.Tensor, count: int) -> float:
    real = expected > 0
    assert not observed[~real].any(), "a token of probability 0 was drawn"
    return (count * (observed - expected)[real] ** 2 / expected[real]).sum().item()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_have_their_softmax_probability(temperature):
    count = 200_000
    expected = (LOGITS.double() / temperature).softmax(-1)
    observed = frequencies(Decoding(1, temperature), count, LOGITS).double()
    likely = expected > 1e-6  # the others are too rare for the test
    # 5 degrees of freedom: the 99.9 % point is 20.5
    assert chi_square(observed * likely, expected * likely, count) < 20.5


@pytest.mark.parametrize(
    ("top_p", "kept"),
    # shares of the likeliest: 0.5313, 0.7267, 0.8453, 0.9638
    [(0.01, [0]), (0.53, [0]), (0.533, [0, 5]), (0.73, [0, 2, 5]), (0.96, [0, 2, 3, 5]), (1.0, range(7))],
)
def test_top_p_keeps_the_smallest_set_with_that_probability(top_p, kept):
    probabilities = LOGITS.double().softmax(-1)
    kept = torch.tensor(list(kept))
    assert probabilities[kept].sum() >= top_p or top_p == 1.0
    expected = torch.zeros_like(probabilities).scatter(0, kept, probabilities[kept] / probabilities[kept].sum())
    observed = frequencies(Decoding(1, 1.0, top_p), 100_000, LOGITS).double()
    likely = expected > 1e-6
    assert chi_square(observed * likely, expected * likely, 100_000) < 20.5


def test_top_p_takes_no_token_beyond_a_share_reached_exactly():
    quarters = torch.zeros(4)
    assert (frequencies(Decoding(1, 1.0, 0.5), 1000, quarters) > 0).sum() == 2
    assert (frequencies(Decoding(1, 1.0, 0.51), 1000, quarters) > 0).sum() == 3


def test_greedy_is_the_limit_of_low_temperature():
    assert choose(LOGITS[None], Decoding(1, 0.0), None).item() == 0
    assert frequencies(Decoding(1, 0.01), 100, LOGITS)[0] == 1


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform, top_p):
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.1, -math.inf]])
    drawn = choose(logits, Decoding(1, 1.0, top_p), torch.tensor([uniform], dtype=torch.float64))
    assert drawn.item() in (1, 3)


# ---- a model that is not finite ----


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_not_finite_has_no_token(temperature):
    inf, nan = math.inf, math.nan
    logits = torch.tensor([[1.0, -inf, 0.0], [1.0, nan, 0.0], [0.0, inf, 0.0], [-inf, -inf, -inf]])
    uniforms = torch.full((4,), 0.1, dtype=torch.float64) if temperature else None
    assert choose(logits, Decoding(4, temperature), uniforms).tolist() == [0, NOT_FINITE, NOT_FINITE, NOT_FINITE]


@pytest.mark.parametrize(("temperature", "batching"), [(0.0, "static"), (0.0, "continuous"), (1.0, "continuous")])
def test_a_model_with_nan_among_its_weights_is_named(temperature, batching):
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = math.nan
    engine = TransformersEngine(model, word_tokenizer(), 2, batching)
    with pytest.raises(AftError) as error:
        list(engine.generate(engine.plan(requests(3)), Decoding(4, temperature)))
    assert str(error.value) == (
        "sampling: the logits of 'LlamaForCausalLM' are not finite: its tensor model.layers.1.mlp.up_proj.weight"
        " holds nan or inf"
    )
