"""Where the steps of a chain end, in tokens, and which of them are continued."""

from __future__ import annotations

import pytest
from sampling_cases import by_generate

from aft.model import build_tokenizer, build_word_tokenizer
from aft.records import Completion, Prefix
from aft.sampling.decoding import Decoding
from aft.sampling.prefixes import Steps, cut_chains
from aft.sampling.requests import Request
from aft.sampling.resumable import collect
from aft.sampling.transformers_engine import TransformersEngine
from tiny_models import tiny_model, word_tokenizer
from tokenizer_kinds import gemma, gpt2, llama, llama3, qwen

CHAIN = 'She has 3.5 eggs left.\n"So 2 more." Then 5 - 2 = 3\nNow it is 7! The answer is 7.'
BEGINNINGS = [
    "She has 3.5 eggs left.\n",
    'She has 3.5 eggs left.\n"So 2 more."',
    'She has 3.5 eggs left.\n"So 2 more." Then 5 - 2 = 3\n',
    # the end behind "7!" is the last: what follows states the answer
]


@pytest.mark.parametrize("kind", [gpt2, llama, llama3, qwen, gemma])
def test_a_prefix_ends_behind_a_sentence_or_a_line(kind):
    tokenizer = kind()
    ids = tokenizer(CHAIN, add_special_tokens=False)["input_ids"]
    found = Steps(tokenizer).ends([*ids, tokenizer.eos_token_id])
    texts = [tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False).lstrip(" ") for end in found]
    assert [text.rstrip(" ") for text in texts] == BEGINNINGS


def test_steps_of_whole_words_and_chains_without_any():
    words = "5 + 3 is 8 . so 8 - 2 gives 6 . [ANS] 6"
    tokenizer = build_word_tokenizer(sorted({*words.split()}))
    steps = Steps(tokenizer)
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    assert steps.ends([*ids, tokenizer.eos_token_id]) == [6]
    for text in ("", "6", "5 + 3 is 8 . [ANS] 6", "5 + 3 is 8 ."):
        assert steps.ends(tokenizer(text, add_special_tokens=False)["input_ids"]) == []


@pytest.mark.parametrize("kind", [gpt2, llama])
def test_the_number_of_a_list_is_no_step(kind):
    tokenizer = kind()

    def cuts(text):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [tokenizer.decode(ids[:end]).strip() for end in Steps(tokenizer).ends(ids)]

    assert cuts("1. Add 2 and 3.\n 2. Take 5.\nIt is 5.") == ["1. Add 2 and 3."]
    # a number that ends a sentence or a line ends a step
    assert cuts("2 and 3 is 5. Take 5.\n10.\nSo 5. It is 5.")[:3] == [
        "2 and 3 is 5.",
        "2 and 3 is 5. Take 5.",
        "2 and 3 is 5. Take 5.\n10.",
    ]


def test_an_end_inside_a_token_is_no_place():
    tokenizer = build_tokenizer(["a.\nb " * 50] * 5, 300)
    ids = tokenizer("a.\nb a.\nb a.\nb", add_special_tokens=False)["input_ids"]
    for end in Steps(tokenizer).ends(ids):
        assert tokenizer.decode(ids[:end]).rstrip(" ").endswith("\n")


def right(index: int, text: str, ids: tuple[int, ...] | None) -> Completion:
    return Completion("q", index, text, False, 3, 0, ids)


def every_second(ids):
    return list(range(2, len(ids), 2))


def test_which_chains_and_places_are_continued():
    longest = tuple(range(10, 20))
    questions = [
        (
            "q",
            (1, 2),
            [right(1, "a", longest), right(3, "a", longest), right(4, "b", (5, 6, 7, 8)), right(5, "c", longest)],
        ),
        ("none", (1,), []),
        ("text", (1,), [right(0, "a", None)]),
        ("short", (1,), [right(0, "a", (5,))]),
    ]
    keys = {"first_index": 6, "chains": 2, "steps": 2, "num_samples": 3, "seed": 0}
    found = cut_chains(questions, every_second, **keys)
    assert found.counts() == {
        "questions": 4, "without_right": 1, "without_ids": 1, "without_step": 1, "chains": 2, "places": 3,
    }  # fmt: skip
    prefixes = [request.prefix for request in found.requests]
    assert [prefix.chain for prefix in prefixes] == [1, 1, 4], "a text once, by its first index"
    assert prefixes[0].tokens < prefixes[1].tokens and prefixes[2].tokens == 2
    for request in found.requests:
        ids = longest if request.prefix.chain == 1 else (5, 6, 7, 8)
        assert request.prompt_ids == (1, 2, *ids[: request.prefix.tokens])
        assert request.prefix_ids == ids[: request.prefix.tokens]
    indices = [index for request in found.requests for index in request.seeds]
    assert indices == list(range(6, 15))
    seeds = [seed for request in found.requests for seed in request.seeds.values()]
    assert len(set(seeds)) == 9
    # the places of a question depend on no other question, and on the seed
    assert cut_chains(questions[:1], every_second, **keys).requests == found.requests
    chosen = {
        tuple(r.prefix for r in cut_chains(questions[:1], every_second, **{**keys, "seed": seed}).requests)
        for seed in range(8)
    }
    assert len(chosen) > 1


@pytest.fixture(scope="module")
def engine():
    model = tiny_model("llama")
    model.generation_config.eos_token_id = 1
    return TransformersEngine(model, word_tokenizer(), 4)


def test_a_continuation_keeps_the_ids_of_its_beginning(engine, tmp_path):
    prompt, whole = (5, 6, 7), (9, 8, 3, 4)
    asked = [
        Request("q", (*prompt, *whole[:2]), {6: 1, 7: 2}, Prefix(0, 2)),
        Request("q", (*prompt, *whole[:3]), {8: 3, 9: 4}, Prefix(0, 3)),
        Request("q", prompt, {0: 5}),
    ]
    path = tmp_path / "from_prefix.jsonl"
    greedy = Decoding(max_new_tokens=6, temperature=0.0)
    for completion in collect(engine, asked, greedy, path=path, description="test"):
        before = completion.prefix.tokens if completion.prefix else 0
        assert completion.token_ids[:before] == whole[:before]
        new = list(completion.token_ids[before:])
        assert completion.num_tokens == len(new) and len(completion.token_ids) <= 6
        assert new == by_generate(engine.model, [*prompt, *whole[:before]], 6 - before)
        assert completion.completion == engine.tokenizer.decode(
            [token for token in completion.token_ids if token != 1], skip_special_tokens=True
        )
    # a file that lacks some is completed to the same bytes
    data = path.read_bytes()
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:2]))
    collect(engine, asked, greedy, path=path, description="test")
    assert path.read_bytes() == data
    # completions of another place are not those asked for: the seeds differ in a run
    moved = [Request("q", (*prompt, *whole[:1]), {6: 11, 7: 12}, Prefix(0, 1))]
    found = collect(engine, moved, greedy, path=path, description="test")
    assert [c.prefix for c in found] == [Prefix(0, 1)] * 2
