"""Sampling against transformers' own generate, against the distribution it should have, and against itself."""

from __future__ import annotations

import math
import random

import pytest
import torch

from aft.errors import ConfigError
from aft.model import build_model
from aft.sampling import Decoding, Request, _choose, derive_seed, plan_batches, sample, sample_batch
from models import CONFIGS, random_ids, tiny_model, word_tokenizer

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)


def seed_of(question_id: str, index: int) -> int:
    return derive_seed("test", 0, question_id, index)


def requests(count: int, indices=(0,), *, low: int = 1, high: int = 9, seed: int = 0) -> list[Request]:
    generator = random.Random(seed)
    return [Request(f"q{n}", tuple(random_ids(generator, low, high)), tuple(indices)) for n in range(count)]


def collected(model, wanted, decoding, batch_size) -> dict[tuple[str, int], tuple]:
    batches = sample(model, word_tokenizer(), wanted, decoding, seed_of=seed_of, batch_size=batch_size)
    return {(c.question_id, c.index): (c.completion, c.truncated, c.num_tokens, c.seed) for b in batches for c in b}


def ending_model(architecture: str, ends: list[int] | int = 1):
    """A model with some likelihood to end, so that the rows of a batch leave it at different steps."""
    model = tiny_model(architecture)
    model.generation_config.eos_token_id = ends
    return model


# ---- greedy ----


@pytest.mark.parametrize("ends", [1, [1, 5, 9, 13, 17, 21, 25, 29]])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_greedy_equals_generate_token_for_token(architecture, ends):
    model, tokenizer, wanted = ending_model(architecture, ends), word_tokenizer(), requests(12)
    stops = {ends} if isinstance(ends, int) else set(ends)
    completions = sample_batch(model, tokenizer, wanted, GREEDY, seed_of)
    lengths = set()
    for request, completion in zip(wanted, completions, strict=True):
        prompt = torch.tensor([request.prompt_ids])
        whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=12)
        expected = whole[0, len(request.prompt_ids) :].tolist()
        assert completion.num_tokens == len(expected)
        assert completion.truncated == (expected[-1] not in stops)
        shown = expected if completion.truncated else expected[:-1]
        assert completion.completion == tokenizer.decode(shown, skip_special_tokens=True)
        lengths.add(len(expected))
    if len(stops) > 1:
        assert len(lengths) > 1, "rows should leave at different steps, or nothing is tested"


def test_any_of_several_end_tokens_ends_and_is_not_shown():
    model, tokenizer = ending_model("llama", [5, 9, 13, 17, 21, 25, 29]), word_tokenizer()
    completions = sample_batch(model, tokenizer, requests(20), GREEDY, seed_of)
    ended = [c for c in completions if not c.truncated]
    assert ended and any(c.truncated for c in completions)
    words = {tokenizer.decode([i]) for i in (5, 9, 13, 17, 21, 25, 29)}
    assert all(not words & set(c.completion.split()) for c in completions)


def test_text_is_decoded_as_it_was_written():
    """A tokenizer may be told to tidy up spaces; then the text would no longer be what was sampled."""
    tokenizer = word_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[0] = 0
        model.lm_head.weight[31] *= 3  # "?"
    completions = sample_batch(model, tokenizer, requests(8), GREEDY, seed_of)
    plain = sample_batch(model, word_tokenizer(), requests(8), GREEDY, seed_of)
    assert any(" ?" in c.completion for c in plain)
    assert completions == plain


def test_a_model_without_a_cache_is_refused():
    config = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
    model = build_model("openai-gpt", config, word_tokenizer(), seed=0)
    with pytest.raises(ConfigError, match=r"^model: OpenAIGPTLMHeadModel does not use transformers' cache"):
        sample_batch(model, word_tokenizer(), requests(2), GREEDY, seed_of)


# ---- one seed, one completion ----


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "qwen3_next"])
def test_a_seed_gives_the_same_completion_whatever_the_batch(architecture):
    model = ending_model(architecture, [1, 5, 9, 13])
    wanted = requests(6, indices=range(4))
    decoding = Decoding(max_new_tokens=15, temperature=1.0)
    expected = collected(model, wanted, decoding, batch_size=1)
    assert len(expected) == 24 and len({value[0] for value in expected.values()}) > 12
    for batch_size in (4, 8, 100):
        assert collected(model, wanted, decoding, batch_size) == expected
    # alone, in another order, and beside other indices
    assert collected(model, wanted[::-1], decoding, 100) == expected
    single = Request("q2", wanted[2].prompt_ids, (3,))
    assert collected(model, [single], decoding, 1) == {("q2", 3): expected["q2", 3]}


def test_completions_come_in_the_order_of_requests_and_indices():
    wanted = [Request("b", (4, 5), (2, 0)), Request("a", (3,), (1,))]
    completions = sample_batch(tiny_model(), word_tokenizer(), wanted, Decoding(3), seed_of)
    assert [(c.question_id, c.index) for c in completions] == [("b", 2), ("b", 0), ("a", 1)]
    assert [c.seed for c in completions] == [seed_of("b", 2), seed_of("b", 0), seed_of("a", 1)]


def test_what_is_cut_is_marked_and_counted():
    model = ending_model("llama", [1, 5, 9, 13])
    for limit in (1, 2, 7):
        for c in sample_batch(model, word_tokenizer(), requests(8, range(2)), Decoding(limit), seed_of):
            assert c.num_tokens <= limit
            if c.truncated:
                assert c.num_tokens == limit


def test_the_length_limit_is_a_prefix_of_longer_sampling():
    model, wanted = ending_model("llama", [1, 5]), requests(5, range(3))
    long, short = (collected(model, wanted, Decoding(limit), 100) for limit in (20, 6))
    assert any(value[1] for value in short.values())
    for key, (completion, truncated, num_tokens, _) in short.items():
        words = completion.split()
        assert long[key][0].split()[: len(words)] == words
        assert truncated or (long[key][0], long[key][2]) == (completion, num_tokens)


def test_sampling_leaves_the_global_generator_alone():
    model = tiny_model()
    before = torch.get_rng_state()
    sample_batch(model, word_tokenizer(), requests(3), Decoding(5), seed_of)
    assert torch.equal(torch.get_rng_state(), before)


# ---- the distribution ----


def frequencies(decoding: Decoding, count: int, logits: torch.Tensor) -> torch.Tensor:
    rows = logits.expand(count, -1)
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.bincount(_choose(rows, decoding, uniforms), minlength=len(logits)) / count


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


def test_whole_completions_have_the_probability_that_the_model_gives_them():
    """Two tokens deep, through the cache: the joint distribution, not only that of the first token."""
    model = tiny_model(initializer_range=0.25)
    prompt, count = (3, 4, 5), 6000
    with torch.no_grad():
        first = model(input_ids=torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
        second = model(input_ids=torch.tensor([[*prompt, t] for t in range(32)])).logits[:, -1].double().softmax(-1)
    joint = first[:, None] * second
    joint[1] = 0.0
    joint[1, 0] = first[1]  # ended after one token
    observed = torch.zeros(32, 32)
    ids = word_tokenizer().get_vocab()
    for c in sample_batch(model, word_tokenizer(), [Request("q", prompt, tuple(range(count)))], Decoding(2), seed_of):
        tokens = [ids[word] for word in c.completion.split()]
        if len(tokens) == c.num_tokens == 2:
            observed[tokens[0], tokens[1]] += 1
    cells = joint.clone()
    cells[:3] = cells[:, :3] = 0.0  # special tokens are not in the text
    big = cells * count > 5
    assert big.sum() > 50
    statistic = ((observed[big] - cells[big] * count) ** 2 / (cells[big] * count)).sum().item()
    degrees = big.sum().item()
    assert statistic < degrees + 4 * math.sqrt(2 * degrees)


def test_greedy_is_the_limit_of_low_temperature():
    assert _choose(LOGITS[None], Decoding(1, 0.0), None).item() == 0
    assert frequencies(Decoding(1, 0.01), 100, LOGITS)[0] == 1


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform, top_p):
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.1, -math.inf]])
    drawn = _choose(logits, Decoding(1, 1.0, top_p), torch.tensor([uniform], dtype=torch.float64))
    assert drawn.item() in (1, 3)


# ---- seeds and plans ----


def test_seeds_differ_by_every_part_and_never_change():
    parts = [("sample", 0, "q", 1), ("sample", 1, "q", 1), ("sample", 0, "q", 2), ("assess", 0, "q", 1), ("sample", 0)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts) and all(0 <= seed < 2**63 for seed in seeds)
    # recorded: a file of completions is to be reproducible by a later version
    assert derive_seed("sample", 0, "q", 1) == 2607616110689184914


def test_a_plan_keeps_questions_whole_and_lengths_together():
    wanted = [Request(f"q{n}", (3,) * length, (0, 1)) for n, length in enumerate([5, 2, 9, 2, 5, 1])]
    batches = plan_batches(wanted, 5)
    assert [[r.question_id for r in batch] for batch in batches] == [["q5", "q1"], ["q3", "q0"], ["q4", "q2"]]
    # a question with more completions than fit has a batch of its own
    assert [[r.question_id for r in batch] for batch in plan_batches(wanted, 1)] == [
        [name] for name in ("q5", "q1", "q3", "q0", "q4", "q2")
    ]
    assert plan_batches([], 5) == []
