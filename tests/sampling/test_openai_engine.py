"""The engine of an OpenAI-compatible server, against a small one on this machine."""

from __future__ import annotations

import random
import threading

import pytest
from completions_server import completions_server
from sampling_cases import ask, requests

from aft.errors import AftError, ConfigError
from aft.records import Prefix
from aft.sampling import Decoding, OpenaiEngine, collect
from aft.sampling.openai_engine import Serving
from aft.sampling.requests import Request
from tiny_models import word_tokenizer

ENDS = (1, 3)
DECODING = Decoding(max_new_tokens=5, temperature=0.8, top_p=0.9)
MORE = ("return_token_ids", "stop_token_ids", "ignore_eos")
TOKENIZER = word_tokenizer()


def made(body) -> list[int]:
    """Ids that depend on the seed alone."""
    generator, tokens = random.Random(body["seed"]), []
    while len(tokens) < body["max_tokens"] and not (tokens and tokens[-1] in ENDS):
        tokens.append(generator.choice([1, 3, 5, 6, 7, 8, 9, 10]))
    return tokens


def reply(body, *, ids=True, usage=True, **changes):
    tokens = made(body)
    ended = tokens[-1] in ENDS
    choice = {
        "text": TOKENIZER.decode(tokens[:-1] if ended else tokens),
        "finish_reason": "stop" if ended else "length",
        **({"token_ids": tokens, "prompt_token_ids": body["prompt"]} if ids else {}),
        **changes,
    }
    return 200, {"choices": [choice], **({"usage": {"completion_tokens": len(tokens)}} if usage else {})}


def engine_of(server, **settings):
    known = {"key": "sample", "model": "tiny", "base_url": server.url, "retries": 0, "concurrency": 4}
    return OpenaiEngine(Serving(**known | settings), TOKENIZER, ENDS)


def sample(server, wanted, path, decoding=DECODING, **settings):
    with engine_of(server, **settings) as engine:
        return collect(engine, wanted, decoding, path=path, description="sample")


def body_of(server, completion):
    return next(b for b in server.bodies if b["seed"] == completion.seed % 2**31 and b["max_tokens"] > 1)


# ---- with token ids ----


def test_token_ids_go_in_and_come_out(tmp_path, capsys):
    wanted = requests(6, (0, 1, 2))
    with completions_server(reply, ["tiny"]) as server:
        completions = sample(server, wanted, tmp_path / "c.jsonl")
    assert [(c.question_id, c.index) for c in completions] == [(r.question_id, i) for r in wanted for i in r.seeds]
    prompts = {request.question_id: list(request.prompt_ids) for request in wanted}
    for completion in completions:
        body = body_of(server, completion)
        assert body["prompt"] == prompts[completion.question_id]
        assert (body["n"], body["max_tokens"], body["temperature"], body["top_p"]) == (1, 5, 0.8, 0.9)
        assert body["return_token_ids"] and body["stop_token_ids"] == [1, 3] and body["ignore_eos"]
        assert list(completion.token_ids) == made(body)
        assert completion.truncated == (completion.token_ids[-1] not in ENDS)
        assert completion.num_tokens == len(completion.token_ids)
    assert {c.truncated for c in completions} == {True, False}
    assert len({c.seed for c in completions}) == len(server.bodies) - 1 == 18, (
        "one more finds out what the server takes"
    )
    assert "warning" not in capsys.readouterr().err


def test_the_key_is_sent_and_written_nowhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OTHER_KEY", "secret-of-sixteen")
    refused = (401, {"error": "no key secret-of-sixteen"})
    with completions_server(lambda body: refused) as server, pytest.raises(AftError) as found:
        sample(server, requests(1), tmp_path / "c.jsonl", key_variable="OTHER_KEY")
    assert server.headers[0]["Authorization"] == "Bearer secret-of-sixteen"
    assert "look at OTHER_KEY, which is set" in str(found.value) and "secret" not in str(found.value)
    assert f"the server at {server.url} answers 401" in str(found.value)
    assert "secret" not in "".join(capsys.readouterr())


def test_only_what_is_missing_is_asked_for_again(tmp_path):
    wanted, path = requests(5, (0, 1)), tmp_path / "c.jsonl"
    with completions_server(reply) as server:
        uncut = sample(server, wanted, tmp_path / "uncut.jsonl")
    lines = (tmp_path / "uncut.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "c.part-00000.jsonl").write_text("".join(lines[:7]), encoding="utf-8")
    with completions_server(reply) as server:
        assert sample(server, wanted, path) == uncut
    assert len(server.bodies) - 1 == 3


def test_requests_are_concurrent_up_to_the_limit(tmp_path):
    together = threading.Barrier(3)

    def wait(body):
        if body["max_tokens"] > 1:
            together.wait(60)
        return reply(body)

    with completions_server(wait) as server:
        sample(server, requests(6), tmp_path / "c.jsonl", concurrency=3)
    assert server.most == 3


# ---- what a server cannot do ----


def test_without_token_ids_the_text_is_kept_and_the_loss_is_told(tmp_path, capsys):
    wanted = requests(6, (0, 1))
    with completions_server(lambda body: reply(body, ids=False)) as server:
        completions = sample(server, wanted, tmp_path / "c.jsonl")
    for completion in completions:
        tokens = made(body_of(server, completion))
        assert completion.token_ids is None and completion.num_tokens == len(tokens)
        assert completion.truncated == (tokens[-1] not in ENDS)
        assert completion.completion == TOKENIZER.decode([token for token in tokens if token not in ENDS])
    told = capsys.readouterr().err
    assert told.count("warning: sample.engine: the server at") == 1
    assert "it gives no token ids, so completions are kept as text and encoded again" in told
    assert "prompts as text" not in told and "own end tokens" not in told


def test_without_usage_tokens_are_counted_from_the_text(tmp_path):
    with completions_server(lambda body: reply(body, ids=False, usage=False)) as server:
        completions = sample(server, requests(4), tmp_path / "c.jsonl")
    assert [c.num_tokens for c in completions] == [len(made(body_of(server, c))) for c in completions]


def test_a_server_that_knows_no_further_fields(tmp_path, capsys):
    def strict(body):
        return (422, {"error": "unknown field"}) if set(MORE) & set(body) else reply(body, ids=False)

    with completions_server(strict) as server:
        sample(server, requests(3), tmp_path / "c.jsonl")
    assert all(isinstance(body["prompt"], list) for body in server.bodies)
    assert sum("ignore_eos" in body for body in server.bodies) == 1
    assert "it stops at its own end tokens" in capsys.readouterr().err


def test_a_server_that_takes_text_alone(tmp_path, capsys):
    def text_only(body):
        return reply(body, ids=False) if isinstance(body["prompt"], str) else (400, {"error": "prompt: expected text"})

    wanted = requests(3)
    with completions_server(text_only) as server:
        sample(server, wanted, tmp_path / "c.jsonl")
    assert {b["prompt"] for b in server.bodies[3:]} == {TOKENIZER.decode(list(r.prompt_ids)) for r in wanted}
    assert "it takes prompts as text alone" in capsys.readouterr().err


def test_ids_without_the_end_that_was_sampled_are_not_kept(tmp_path, capsys):
    def cut(body):
        _, value = reply(body)
        ids = value["choices"][0]["token_ids"]
        return reply(body, token_ids=[token for token in ids if token not in ENDS])

    with completions_server(cut) as server:
        completions = sample(server, requests(8), tmp_path / "c.jsonl")
    assert {c.token_ids is None for c in completions if not c.truncated} == {True}
    assert all(c.token_ids is not None for c in completions if c.truncated)
    assert capsys.readouterr().err.count("ids do not end as finish_reason says") == 1


# ---- faults ----


def test_a_failed_request_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("aft.sampling.openai_engine._LONGEST_DELAY", 0.01)
    failed = set()

    def flaky(body):
        if body["seed"] in failed:
            return reply(body)
        failed.add(body["seed"])
        return 503, {"error": "busy"}

    with completions_server(flaky) as server:
        completions = sample(server, requests(4), tmp_path / "c.jsonl", retries=1)
    assert len(completions) == 4 and len(server.bodies) == 9


def test_after_the_last_try_the_question_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("aft.sampling.openai_engine._LONGEST_DELAY", 0.01)

    def broken(body):
        return (500, {"error": "broken"}) if body["prompt"] == [7, 8] else reply(body)

    with completions_server(broken) as server, pytest.raises(AftError) as found:
        sample(server, [ask("good", [5]), ask("bad", [7, 8], (3,))], tmp_path / "c.jsonl", retries=2)
    assert "no completion of question bad, sample 3 in 3 tries: HTTP 500" in str(found.value)
    assert "What was sampled is kept" in str(found.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda body: reply(body, finish_reason="content_filter"), "finish_reason 'content_filter': expected 'stop'"),
        (lambda body: reply(body, prompt_token_ids=[2, *body["prompt"]]), "another prompt: the server read"),
        (lambda body: (200, b"<html>"), "not JSON"),
        (lambda body: (200, {"choices": []}), "no choices"),
        (lambda body: (404, {"error": "no such path"}), "look at sample.openai.base_url and sample.openai.model"),
        (lambda body: (400, {"error": "too long"}), "takes no prompt, neither as token ids nor as text: HTTP 400"),
    ],
)
def test_replies_that_cannot_be_used(tmp_path, answer, told):
    with completions_server(answer) as server, pytest.raises(AftError) as found:
        sample(server, requests(1), tmp_path / "c.jsonl")
    assert told in str(found.value) and "\n" not in str(found.value)


def test_the_server_has_other_models(tmp_path):
    with completions_server(reply, ["large", "small"]) as server, pytest.raises(ConfigError) as found:
        sample(server, requests(1), tmp_path / "c.jsonl")
    expected = f"sample.openai.model: the server at {server.url} has no 'tiny'; it has 'large', 'small'"
    assert str(found.value) == expected and not server.bodies


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
    [
        ({"base_url": "localhost:8000"}, {}, "sample.openai.base_url: expected an address such as"),
        ({"base_url": None}, {"OPENAI_BASE_URL": "localhost"}, "OPENAI_BASE_URL: expected an address such as"),
        ({"base_url": "http://a:b@h/v1"}, {}, "sample.openai.base_url: takes no name, password or '?' part; a key"),
        ({"base_url": "http://h/v1", "key_variable": "MINE"}, {"MINE": "ä"}, "MINE: holds a character that an HTTP"),
    ],
)
def test_an_unusable_address_or_key(settings, environment, told, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as found:
        OpenaiEngine(Serving(**{"key": "sample", "model": "tiny"} | settings), TOKENIZER, ENDS)
    assert str(found.value).startswith(told)


@pytest.mark.parametrize("ids", [True, False])
def test_a_completion_that_continues_another_is_whole(tmp_path, ids):
    prefix = Prefix(chain=0, tokens=3)
    wanted = [Request("q", (4, 5, 6, 7, 8), {9: 11}, prefix)]
    with completions_server(lambda body: reply(body, ids=ids), ["tiny"]) as server:
        [found] = sample(server, wanted, tmp_path / "c.jsonl")
        body = body_of(server, found)
    assert body["prompt"] == [4, 5, 6, 7, 8] and body["max_tokens"] == 2
    new = made(body)
    assert found.num_tokens == len(new) and found.prefix == prefix
    assert found.token_ids == ((6, 7, 8, *new) if ids else None)
    assert found.completion.startswith(TOKENIZER.decode([6, 7, 8]))
