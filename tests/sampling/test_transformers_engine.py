"""Completions of the transformers engine: against transformers' own generate, and the same in other batches."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from sampling_cases import ask, by_generate, ending_model, requests
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from aft.errors import ConfigError
from aft.model import build_model
from aft.records import Completion
from aft.sampling.decoding import Decoding, Wanted, decode
from aft.sampling.requests import CONTINUOUS, STATIC, derive_seed
from aft.sampling.transformers_engine import TransformersEngine
from tiny_models import CONFIGS, tiny_model, word_tokenizer

GREEDY = Decoding(max_new_tokens=12, temperature=0.0)


def seed_of(question_id: str, index: int) -> int:
    return derive_seed("test", 0, question_id, index)


def sampled(model, wanted, decoding, batch_size=100, batching=CONTINUOUS, tokenizer=None) -> list[Completion]:
    """All completions in the order of requests and indices."""
    engine = TransformersEngine(model, tokenizer or word_tokenizer(), batch_size, batching)
    by_key = {(c.question_id, c.index): c for c in engine.generate(engine.plan(wanted), decoding)}
    assert len(by_key) == sum(len(request.seeds) for request in wanted)
    return [by_key[request.question_id, index] for request in wanted for index in request.seeds]


def collected(model, wanted, decoding, batch_size, batching=CONTINUOUS) -> dict[tuple[str, int], Completion]:
    return {(c.question_id, c.index): c for c in sampled(model, wanted, decoding, batch_size, batching)}


# ---- greedy ----


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


# ---- sizes ----


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_an_id_without_a_token_is_never_sampled(temperature, top_p):
    """The embeddings are padded beyond the vocabulary, which has a hole as well."""
    model, tokenizer = tiny_model(), word_tokenizer()
    model.resize_token_embeddings(200, mean_resizing=False)
    vocabulary = tokenizer.get_vocab()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    del backend["model"]["vocab"]["b"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="<eos>", pad_token="<pad>"
    )
    known = set(vocabulary.values()) - {vocabulary["b"]}
    model.generation_config.eos_token_id = 150  # it has no token, but it ends
    engine = TransformersEngine(model, tokenizer, 64)
    asked = requests(40, indices=range(2))
    wanted = [Wanted(r.prompt_ids, seed) for r in asked for seed in r.seeds.values()]
    decoding = Decoding(12, temperature, top_p)
    settings = {"ends": frozenset({1, 150}), "pad": 0, "slots": 16}
    free = {i for _, ids in decode(model, wanted, decoding, **settings) for i in ids}
    assert not free <= known | {150}
    found = {i for _, ids in decode(model, wanted, decoding, **settings, vocabulary=engine._vocabulary) for i in ids}
    assert found <= known | {150}
    assert sum(c.num_tokens for c in engine.generate(engine.plan(asked), decoding)) > 0


def test_a_whole_vocabulary_costs_nothing():
    assert TransformersEngine(tiny_model(), word_tokenizer(), 4)._vocabulary is None


def test_lengths_and_ids_that_a_model_cannot_take_are_errors_before_the_first_completion():
    model, tokenizer = tiny_model("gpt2"), word_tokenizer()
    engine = TransformersEngine(model, tokenizer, 4)
    fits = engine.generate([[ask("q", [3] * 28)]], Decoding(101))
    assert next(fits).num_tokens > 0
    told = r"^max_new_tokens: a prompt with its completion can have 129 tokens, but the model has 128 positions"
    with pytest.raises(ConfigError, match=told):
        next(engine.generate([[ask("q", [3] * 28)]], Decoding(102)))
    with pytest.raises(ConfigError, match=r"ids without an embedding: 32 in the data; the model has 32 rows"):
        next(engine.generate([[ask("q", [32])]], Decoding(4)))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(ConfigError, match=r"ids without an embedding: padding 32; the model has 32 rows"):
        TransformersEngine(model, tokenizer, 4)
