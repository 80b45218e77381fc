"""Sampling against transformers' own generate, against the distribution it should have, and against itself."""

from __future__ import annotations

import math
import random
import re

import pytest
import torch

from aft.errors import ConfigError
from aft.model import build_model
from aft.records import Completion
from aft.sampling.decoding import Decoding, Wanted, choose, decode
from aft.sampling.requests import CONTINUOUS, STATIC, Request, derive_seed, make_seeds, plan_shards
from aft.sampling.slots import SPARE_COLUMNS
from aft.sampling.transformers_engine import TransformersEngine
from tiny_models import CONFIGS, random_ids, tiny_model, word_tokenizer

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)


def seed_of(question_id: str, index: int) -> int:
    return derive_seed("test", 0, question_id, index)


def ask(question_id: str, prompt_ids, indices=(0,)) -> Request:
    return Request(question_id, tuple(prompt_ids), make_seeds(question_id, indices, "test", 0))


def requests(count: int, indices=(0,), *, low: int = 1, high: int = 9, seed: int = 0) -> list[Request]:
    generator = random.Random(seed)
    return [ask(f"q{n}", random_ids(generator, low, high), indices) for n in range(count)]


def sampled(model, wanted, decoding, batch_size=100, batching=CONTINUOUS, tokenizer=None) -> list[Completion]:
    """All completions in the order of requests and indices."""
    engine = TransformersEngine(model, tokenizer or word_tokenizer(), batch_size, batching)
    by_key = {(c.question_id, c.index): c for c in engine.generate(engine.plan(wanted), decoding)}
    assert len(by_key) == sum(len(request.seeds) for request in wanted)
    return [by_key[request.question_id, index] for request in wanted for index in request.seeds]


def collected(model, wanted, decoding, batch_size, batching=CONTINUOUS) -> dict[tuple[str, int], Completion]:
    return {(c.question_id, c.index): c for c in sampled(model, wanted, decoding, batch_size, batching)}


def ending_model(architecture: str, ends: list[int] | int = 1):
    """A model with some likelihood to end, so that the rows of a batch leave it at different steps."""
    model = tiny_model(architecture)
    model.generation_config.eos_token_id = ends
    return model


# ---- greedy ----


def by_generate(model, prompt_ids, limit) -> list[int]:
    prompt = torch.tensor([prompt_ids])
    whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=limit)
    return whole[0, len(prompt_ids) :].tolist()


@pytest.mark.parametrize("batching", [CONTINUOUS, STATIC])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_greedy_equals_generate_token_for_token(architecture, batching):
    """More questions than places, prompts of 1 to 20 tokens, rows that end at different steps and never."""
    stops = [1, 5, 9, 13, 17, 21, 25, 29]
    model, tokenizer, wanted = ending_model(architecture, stops), word_tokenizer(), requests(16, high=20)
    expected = [by_generate(model, request.prompt_ids, 12) for request in wanted]
    for batch_size in (4, 100):
        completions = sampled(model, wanted, GREEDY, batch_size, batching)
        for tokens, completion in zip(expected, completions, strict=True):
            assert completion.num_tokens == len(tokens)
            assert completion.truncated == (tokens[-1] not in stops)
            shown = tokens if completion.truncated else tokens[:-1]
            assert completion.completion == tokenizer.decode(shown, skip_special_tokens=True)
    assert len(set(map(len, expected))) > 1, "rows should leave at different steps, or nothing is tested"


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


@pytest.mark.parametrize(
    ("architecture", "config", "reason"),
    [
        ("qwen3_next", {}, r"holds more than keys and values \(LinearAttentionLayer\)"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            r"rotary embedding \(dynamic\) depends on the longest row",
        ),
    ],
)
def test_a_model_whose_rows_cannot_join_runs_static_and_says_why(architecture, config, reason, capsys):
    tokenizer, model = word_tokenizer(), tiny_model(architecture, **config)
    assert TransformersEngine(model, tokenizer, 4).batching == STATIC
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and re.search(reason, line)
    assert TransformersEngine(model, tokenizer, 4, STATIC).batching == STATIC
    assert TransformersEngine(tiny_model("mistral"), tokenizer, 4).batching == CONTINUOUS
    assert capsys.readouterr().err == ""


def test_any_of_several_end_tokens_ends_and_is_not_shown():
    model, tokenizer = ending_model("llama", [5, 9, 13, 17, 21, 25, 29]), word_tokenizer()
    completions = sampled(model, requests(20), GREEDY, tokenizer=tokenizer)
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
    completions = sampled(model, requests(8), GREEDY, tokenizer=tokenizer)
    plain = sampled(model, requests(8), GREEDY)
    assert any(" ?" in c.completion for c in plain)
    assert completions == plain


def test_a_model_without_a_cache_is_refused():
    config = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
    model = build_model("openai-gpt", config, word_tokenizer(), seed=0)
    with pytest.raises(ConfigError, match=r"^model: OpenAIGPTLMHeadModel does not use transformers' cache"):
        sampled(model, requests(2), GREEDY)


# ---- one seed, one completion ----


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2", "qwen3_next"])
def test_a_seed_gives_the_same_completion_whatever_the_batch(architecture):
    model = ending_model(architecture, [1, 5, 9, 13])
    wanted = requests(6, indices=range(4))
    decoding = Decoding(max_new_tokens=15, temperature=1.0)
    expected = collected(model, wanted, decoding, batch_size=1)
    assert len(expected) == 24 and len({c.completion for c in expected.values()}) > 12
    for batch_size in (3, 4, 8, 100):
        for batching in (CONTINUOUS, STATIC):
            assert collected(model, wanted, decoding, batch_size, batching) == expected
    # alone, in another order, and beside other indices
    assert collected(model, wanted[::-1], decoding, 100) == expected
    single = ask("q2", wanted[2].prompt_ids, (3,))
    assert collected(model, [single], decoding, 1) == {("q2", 3): expected["q2", 3]}


def test_completions_come_in_the_order_of_requests_and_indices():
    wanted = [ask("b", (4, 5), (2, 0)), ask("a", (3,), (1,))]
    completions = sampled(tiny_model(), wanted, Decoding(3))
    assert [(c.question_id, c.index) for c in completions] == [("b", 2), ("b", 0), ("a", 1)]
    assert [c.seed for c in completions] == [seed_of("b", 2), seed_of("b", 0), seed_of("a", 1)]


def test_what_is_cut_is_marked_and_counted():
    model = ending_model("llama", [1, 5, 9, 13])
    for limit in (1, 2, 7):
        for c in sampled(model, requests(8, range(2)), Decoding(limit)):
            assert c.num_tokens <= limit
            if c.truncated:
                assert c.num_tokens == limit


def test_the_length_limit_is_a_prefix_of_longer_sampling():
    model, wanted = ending_model("llama", [1, 5]), requests(5, range(3))
    long, short = (collected(model, wanted, Decoding(limit), 100) for limit in (20, 6))
    assert any(cut.truncated for cut in short.values())
    for key, cut in short.items():
        words = cut.completion.split()
        assert long[key].completion.split()[: len(words)] == words
        assert cut.truncated or long[key] == cut


def test_sampling_leaves_the_global_generator_alone():
    model = tiny_model()
    before = torch.get_rng_state()
    sampled(model, requests(3), Decoding(5))
    assert torch.equal(torch.get_rng_state(), before)


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
    for c in sampled(model, [ask("q", prompt, range(count))], Decoding(2), 500):
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
    assert choose(LOGITS[None], Decoding(1, 0.0), None).item() == 0
    assert frequencies(Decoding(1, 0.01), 100, LOGITS)[0] == 1


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform, top_p):
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.1, -math.inf]])
    drawn = choose(logits, Decoding(1, 1.0, top_p), torch.tensor([uniform], dtype=torch.float64))
    assert drawn.item() in (1, 3)


# ---- seeds and plans ----


def test_seeds_differ_by_every_part_and_never_change():
    parts = [("sample", 0, "q", 1), ("sample", 1, "q", 1), ("sample", 0, "q", 2), ("assess", 0, "q", 1), ("sample", 0)]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts) and all(0 <= seed < 2**63 for seed in seeds)
    # recorded: a file of completions is to be reproducible by a later version
    assert derive_seed("sample", 0, "q", 1) == 2607616110689184914


def ids(shards) -> list[list[str]]:
    return [[request.question_id for request in shard] for shard in shards]


def test_a_plan_keeps_questions_whole_and_lengths_together():
    wanted = [ask(f"q{n}", (3,) * length, (0, 1)) for n, length in enumerate([5, 2, 9, 2, 5, 1])]
    assert ids(plan_shards(wanted, 5, STATIC)) == [["q5", "q1"], ["q3", "q0"], ["q4", "q2"]]
    # a question with more completions than fit has a batch of its own
    assert ids(plan_shards(wanted, 1, STATIC)) == [[name] for name in ("q5", "q1", "q3", "q0", "q4", "q2")]
    assert plan_shards([], 5, STATIC) == plan_shards([], 5, CONTINUOUS) == []


def test_a_continuous_plan_has_even_shards_of_several_batches():
    wanted = [ask(f"q{n}", (3,) * length, (0, 1)) for n, length in enumerate([5, 2, 9, 2, 5, 1])]
    assert ids(plan_shards(wanted, 2, CONTINUOUS)) == [["q5", "q1", "q3", "q0", "q4", "q2"]]
    assert ids(plan_shards(wanted, 1, CONTINUOUS)) == [["q5", "q1", "q3"], ["q0", "q4", "q2"]]
    many = [ask(f"q{n}", (3,), range(6)) for n in range(1000)]
    sizes = [6 * len(shard) for shard in plan_shards(many, 64, CONTINUOUS)]
    assert max(sizes) <= 8 * 64 and min(sizes) > 7 * 64 and sum(sizes) == 6000
