"""A judge behind an endpoint that misbehaves: what is asked again, what stops, what is kept, and what a score is."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import json
import socket
import traceback
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_server import HANG, HANG_UP, USAGE, Answer, judge_server, says, scores

from aft.endpoint import Endpoint, Failure, Refused, Reply, _retry_after
from aft.errors import AftError, ConfigError, DataError
from aft.labelling.judge.cache import ReplyCache
from aft.labelling.judge.judge import Asking, Judge
from aft.labelling.judge.prompt import BUILT_IN, read_score, read_template, render

KEY = "sk-of-a-test-0123456789abcdef"
PROMPTS = {("q1", 0): "first", ("q1", 1): "second", ("q2", 0): "third"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serve():
    """`serve(behaviour)` starts a server for the rest of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda behave: stack.enter_context(judge_server(behave))


def ask(server, key=KEY, timeout=5.0):
    """One request."""
    return Endpoint(server.url, key, timeout=timeout).complete({"messages": [{"content": "hello"}]})


def judge(server, folder, prompts=PROMPTS, *, key=KEY, timeout=5.0, waits=None, **asking):
    """Ratings and counts of one run of a judge; `waits` takes the seconds it would have slept."""
    asking = Asking("a-judge", **{"num_ratings": 1, "concurrency": 1, "retries": 2, **asking})
    waits = [] if waits is None else waits
    with ReplyCache(folder) as cache:
        judging = Judge(Endpoint(server.url, key, timeout=timeout), cache, asking, sleep=waits.append)
        return judging.rate(prompts), judging.counts


def lines(folder):
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


# ---- one request ----


def test_a_request_is_what_the_endpoint_expects(serve):
    server = serve([says("hello back")])
    assert ask(server) == Reply("hello back", 100, 20)
    ((body, headers),) = server.requests
    assert body == {"messages": [{"content": "hello"}], "path": "/v1/chat/completions"}
    assert headers["Authorization"] == f"Bearer {KEY}" and headers["Content-Type"] == "application/json"


def test_without_a_key_none_is_sent(serve):
    server = serve([says("hello")])
    ask(server, key="  ")
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    ("answer", "reason", "retry"),
    [
        (Answer(500, b"overloaded"), "HTTP 500", True),
        (Answer(503), "HTTP 503", True),
        (Answer(429), "HTTP 429", True),
        (Answer(408), "HTTP 408", True),
        (Answer(409), "HTTP 409", True),
        (Answer(400, b'{"error": "too long"}'), "HTTP 400", False),
        (Answer(422), "HTTP 422", False),
        (Answer(200, b"<html><body>Welcome</body></html>"), "not JSON", True),
        (Answer(200, b""), "not JSON", True),
        (Answer(200, b"\xff\xfe"), "not JSON", True),
        (Answer(200, b'{"choices": [{"mess'), "not JSON", True),
        (Answer(200, scores(7).body[:-9], length=len(scores(7).body)), "not JSON", True),
        (Answer(200, b"[" * 100_000), "not JSON", True),
        (Answer(200, b"[]"), "no choices", True),
        (Answer(200, b'{"choices": []}'), "no choices", True),
        (Answer(200, b'{"choices": {"0": 1}}'), "no choices", True),
        (Answer(200, b'{"error": {"message": "try later"}}'), "no choices", True),
        (HANG_UP, "connection error", True),
        (HANG, "timeout", True),
        (Answer(200, b" " * 200, pause=0.05), "timeout", True),  # alive, but ten seconds for the whole
        (Answer(500, b" " * 200, pause=0.05), "HTTP 500", True),
        (Answer(drip=0.05), "timeout", True),
    ],
)
def test_a_request_that_fails(serve, answer, reason, retry):
    with pytest.raises(Failure) as caught:
        ask(serve([answer]), timeout=0.2 if answer is HANG or answer.pause or answer.drip else 5.0)
    assert (caught.value.reason, caught.value.retry, caught.value.wait) == (reason, retry, 0.0)


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Failure, match=r"^connection error: ConnectionRefusedError"):
        Endpoint(f"http://127.0.0.1:{port}", timeout=1.0).complete({})


@pytest.mark.parametrize("message", [None, {}, {"content": None}, {"content": ["parts"]}, "text"])
def test_a_reply_without_text_still_tells_its_tokens(serve, message):
    body = json.dumps({"choices": [{"message": message}], "usage": USAGE}).encode()
    assert ask(serve([Answer(body=body)])) == Reply("", 100, 20)


@pytest.mark.parametrize("usage", [None, {}, [], {"prompt_tokens": "9", "completion_tokens": -1}])
def test_tokens_that_are_not_told(serve, usage):
    assert ask(serve([says("x", usage)])) == Reply("x", None, None)


def test_a_server_may_ask_to_wait(serve):
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=100)
    texts = ["7", "2.5", email.utils.format_datetime(later, usegmt=True), "1e9", "-3", "soon", "nan", "inf"]
    server = serve([Answer(429, headers={"Retry-After": text}) for text in texts])
    waits = []
    for _ in texts:
        with pytest.raises(Failure) as caught:
            ask(server)
        waits.append(caught.value.wait)
    assert 90 < waits.pop(2) <= 100
    assert waits == [7.0, 2.5, 300.0, 0.0, 0.0, 0.0, 300.0]  # at most five minutes


@pytest.mark.parametrize(
    "text",
    ["", "1_0", "0x10", "--1", "Wed, 99 Nov 99999 99:99:99 GMT", "Wed, 01 Jan 2031 00:00:00 +9999999999", "1e400", "٧"],
)
def test_any_wish_to_wait_is_a_number_of_seconds(text):
    assert _retry_after(text) >= 0


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(st.text(max_size=40), st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,6} \d+:\d+:\d+ [+-]?\w+", fullmatch=True))
)
def test_any_text_as_a_wish_to_wait(text):
    assert _retry_after(text) >= 0


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += seconds


def wait_for(server, folder, clock, prompts, **asking):
    asking = Asking("a-judge", **{"num_ratings": 1, "concurrency": 1, **asking})
    with ReplyCache(folder) as cache:
        judging = Judge(Endpoint(server.url, KEY), cache, asking, sleep=clock.sleep, clock=lambda: clock.now)
        return judging.rate(prompts)


@pytest.mark.parametrize(
    ("asked", "most"),
    [("1e9", 14), ("20", 61), ("-1", 61), ("nan", 61), (None, 61), ("Fri, 01 Jan 2100 00:00:00 GMT", 14)],
)
def test_a_judge_that_answers_429_for_an_hour(serve, tmp_path, capsys, asked, most):
    """It has an end, it says why nothing happens, what came is kept, and the same command goes on."""
    prompts = dict(list(MANY.items())[:24])
    refusal = Answer(429, b"slow down \x1b[31m", headers={} if asked is None else {"Retry-After": asked})
    server, clock = serve([*[scores(5)] * 4, refusal]), Clock()
    with pytest.raises(AftError) as caught:
        wait_for(server, tmp_path, clock, prompts, retries=10**6)
    assert str(caught.value) == (
        f"the judge at {server.url} has not answered a request for 3,600 s (label.ratings.longest_outage=3600);"
        rf" the last: HTTP 429: slow down \x1b[31m. The replies so far are kept in {tmp_path}, and the same command"
        " goes on from there"
    )
    assert clock.now == pytest.approx(3600)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("the judge: ")]
    assert 1 < len(told) <= most
    if asked == "1e9":
        said, _, waiting = told[0].removesuffix(".").rpartition(" ")
        assert said == (
            r"the judge: HTTP 429: slow down \x1b[31m. It asks to wait 1,000,000,000 s. Next try in 300 s;"
            " ratings that wait:"
        )
        assert 20 <= int(waiting) <= 24  # the four replies may still be on their way
    server = serve([scores(6)])
    assert len(wait_for(server, tmp_path, Clock(), prompts)) == 24 and len(server.requests) == 20


def test_an_outage_ends_with_any_answer(serve, tmp_path):
    """Each of three outages is shorter than the longest; an answer without a score ends one, too."""
    busy = [Answer(503, headers={"Retry-After": "40"})] * 2
    clock = Clock()
    server = serve([*busy, says("no score"), *busy, Answer(400), *busy, scores(5)])
    prompts = dict(list(MANY.items())[:2])
    assert len(wait_for(server, tmp_path, clock, prompts, retries=9, longest_outage=100.0)) == 1
    assert clock.now > 200
    with pytest.raises(AftError, match=r"has not answered a request for 70 s \(label\.ratings\.longest_outage=70\)"):
        wait_for(serve(busy), tmp_path / "b", Clock(), prompts, retries=9, longest_outage=70.0)


@pytest.mark.parametrize(
    ("answer", "key", "message"),
    [
        (Answer(401, b"no such key"), KEY, "401 Unauthorized: no such key; look at OPENAI_API_KEY, which is set"),
        (Answer(401), "", "401 Unauthorized; look at OPENAI_API_KEY, which is not set"),
        (Answer(403), KEY, "403 Forbidden; look at OPENAI_API_KEY, which is set"),
        (
            Answer(404, b'{"error": "no model a-judge"}'),
            KEY,
            '404 Not Found: {"error": "no model a-judge"}; look at OPENAI_BASE_URL and AFT_JUDGE_MODEL (or'
            " label.ratings.model)",
        ),
        (
            Answer(302, headers={"Location": "http://elsewhere/"}),
            KEY,
            "302 Found; it points to http://elsewhere/; put the right address into OPENAI_BASE_URL",
        ),
    ],
)
def test_what_every_request_would_meet_stops_at_once(serve, answer, key, message):
    server = serve([answer])
    with pytest.raises(Refused) as caught:
        ask(server, key)
    assert str(caught.value) == f"the judge at {server.url} answers {message}"
    assert len(server.requests) == 1, "no redirect is followed: the key would go along"


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("localhost:8000", "", "OPENAI_BASE_URL: expected an address such as https://api.openai.com/v1, got 'local"),
        ("ftp://host/v1", "", "OPENAI_BASE_URL: expected an address"),
        ("http://host:port/v1", "", "OPENAI_BASE_URL: expected an address"),
        ("http://[::1/v1", "", "OPENAI_BASE_URL: expected an address"),
        ("http://a b/v1", "", "OPENAI_BASE_URL: expected an address"),
        (f"http://{'a' * 64}.org/v1", "", "OPENAI_BASE_URL: expected an address"),
        ("http://a..org/v1", "", "OPENAI_BASE_URL: expected an address"),
        (
            "me:secret@host/v1",
            "",
            "OPENAI_BASE_URL: expected an address such as https://api.openai.com/v1, got another",
        ),
        ("ftp://host/v1?key=secret", "", "OPENAI_BASE_URL: expected an address"),
        (
            "http://me:secret@host/v1",
            "",
            "OPENAI_BASE_URL: takes no name, password or '?' part; a key belongs in OPENAI",
        ),
        (
            "http://host/v1?key=secret",
            "",
            "OPENAI_BASE_URL: takes no name, password or '?' part; a key belongs in OPENAI",
        ),
        ("http://host/v1", "secret\nX: y", "OPENAI_API_KEY: holds a character that an HTTP header cannot carry"),
        ("http://host/v1", "sécret", "OPENAI_API_KEY: holds a character that an HTTP header cannot carry"),
    ],
)
def test_an_environment_that_cannot_be_used(monkeypatch, url, key, message):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError) as caught:
        Endpoint.from_environment()
    assert str(caught.value).startswith(message) and "secret" not in str(caught.value)


def test_the_environment_names_the_endpoint(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert Endpoint.from_environment().url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1/")
    endpoint = Endpoint.from_environment(7)
    assert (endpoint.url, endpoint.timeout) == ("http://localhost:8000/v1", 7)
    assert KEY not in repr(endpoint)


# ---- the score ----


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Step 1 is right.\nScore: 7", 7.0),
        ("fine\n\n  score : 7.5 \n\n", 7.5),
        ("fine\n**Score: 10**", 10.0),
        ("fine\n**Score:** 9.", 9.0),
        ("fine\n### Score: `6`", 6.0),
        ("fine\nScore: 8/10", 8.0),
        ("fine\nScore: 8 out of 10.", 8.0),
        ("Score: 10\nBut step 2 is wrong.\nScore: 9", 9.0),  # two: the last
        ("fine\nScore: 4\nThat is all.", 4.0),
        ("I would say the score: 3 is too low.\nScore: 5", 5.0),
        ("fine\nScore: 1", 1.0),
    ],
)
def test_the_last_line_that_begins_with_score_decides(reply, score):
    assert read_score(reply, 1.0, 10.0) == score


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no text"),
        (" \n", "no text"),
        ("It is right.", "no score"),
        ("fine\nThe score: 7", "no score"),
        ("fine\nScore: seven", "no score"),
        ("Score: 9\nfine\nScore: N", "no score"),  # the last such line decides, also where it says nothing
        ("fine\nScore: 7 or 8", "no score"),
        ("fine\nScore: 7,5", "no score"),
        ("fine\nScore: 7/100", "no score"),
        ("fine\nScore: ٧", "no score"),
        ("Score: 7", "no evidence before the score"),
        ("\n**\nScore: 7\nStep 1 is right.", "no evidence before the score"),
        ("Score: 5\n**Score: 7**", "no evidence before the score"),  # a score is no evidence for another
        ("fine\nScore: 0", "score out of scale"),
        ("fine\nScore: -3", "score out of scale"),
        ("fine\nScore: 10.5", "score out of scale"),
        ("fine\nScore: 1" + "0" * 400, "score out of scale"),
    ],
)
def test_a_reply_without_a_score_that_counts(reply, reason):
    with pytest.raises(Failure) as caught:
        read_score(reply, 1.0, 10.0)
    assert (caught.value.reason, caught.value.retry) == (reason, True)


@settings(deadline=None)
@given(st.text(max_size=60), st.floats(0, 5).map(lambda value: round(value, 3)))
def test_whatever_the_evidence_the_score_is_read(evidence, score):
    assert read_score(f"Evidence. {evidence}\nScore: {score}", 0.0, 5.0) == score


# ---- the prompt ----


def rendered(template, completion="c", reference="r"):
    values = {"question": "q", "reference": reference, "completion": completion, "answer": "a"}
    return render(template, **values, min_score=1.0, max_score=10.0)


def test_the_built_in_prompt_holds_everything_and_asks_for_evidence_first():
    text = render(
        BUILT_IN,
        question="6 * 6?",
        reference="6 * 6 = 36",
        completion="6 + 6 = 12",
        answer="36",
        min_score=1.0,
        max_score=10.0,
    )
    for part in (
        "[Problem]\n6 * 6?\n",
        "answer]\n36\n",
        "solution]\n6 * 6 = 36\n",
        "[Candidate solution]\n6 + 6 = 12\n",
    ):
        assert part in text
    assert "Start at 10 and take off one point for every wrong step, but do not go below 1." in text
    assert text.index("First write your evidence") < text.index("Then give the score") < text.index("Score: N")
    assert "{" not in text


def test_a_reference_may_be_unknown():
    assert rendered("{reference}", reference=None) == "(none is known)"


def test_braces_of_the_texts_and_of_the_template_stay():
    assert (
        rendered('{completion} {"a": {x}} {}', completion="{question} {answer}") == '{question} {answer} {"a": {x}} {}'
    )


def test_a_prompt_of_ones_own(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("Mark {completion} of {question}, \\frac{1}{2}.\nEnd with Score: N")
    assert read_template(str(path)) == path.read_text()
    assert read_template(None) == BUILT_IN


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            b"{question} {refrence} Score: N",
            ["has no {completion}", "has an unknown field {refrence}. Did you mean 'refer"],
        ),
        (b"{question} {completion}", ["does not ask for a last line 'Score: N', where the score is read"]),
        (b"\xff", ["is not UTF-8 text: invalid start byte at byte 1"]),
    ],
)
def test_a_prompt_that_cannot_do(tmp_path, text, problems):
    path = tmp_path / "prompt.txt"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_template(str(path))
    assert len(caught.value.problems) == len(problems)
    for found, problem in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(f"label.ratings.prompt: {path} {problem}")
    with pytest.raises(ConfigError, match=r"^label\.ratings\.prompt: no file nowhere\.txt \(looked in "):
        read_template("nowhere.txt")


# ---- ratings ----


def test_ratings_are_means_and_everything_is_counted(serve, tmp_path):
    server = serve([scores(7), scores(8), scores(10), scores(1), scores(1), scores(2)])
    prompts = {("q1", 0): "first", ("q1", None): "second"}
    ratings, counts = judge(server, tmp_path, prompts, num_ratings=3, temperature=0.5, max_tokens=77)
    assert ratings == {("q1", 0): 25 / 3, ("q1", None): 4 / 3}
    assert server.prompts == ["first"] * 3 + ["second"] * 3
    message = {"role": "user", "content": "first"}
    sent = {"model": "a-judge", "messages": [message], "temperature": 0.5, "max_tokens": 77}
    assert server.requests[0][0] == {**sent, "path": "/v1/chat/completions"}
    assert (counts.candidates, counts.wanted, counts.requests, counts.cached, counts.retries) == (2, 6, 6, 0, 0)
    assert (counts.failures, counts.given_up, counts.partial, counts.unrated) == ({}, 0, 0, 0)
    assert (counts.prompt_tokens, counts.completion_tokens, counts.replies_without_usage) == (600, 120, 0)
    kept = lines(tmp_path)
    assert [(line["question_id"], line["index"], line["number"], line["score"]) for line in kept] == [
        *[("q1", 0, 1, 7.0), ("q1", 0, 2, 8.0), ("q1", 0, 3, 10.0)],
        *[("q1", None, 1, 1.0), ("q1", None, 2, 1.0), ("q1", None, 3, 2.0)],
    ]
    assert kept[0]["reply"] == "Step 1 is right.\nScore: 7" and kept[0]["prompt_tokens"] == 100


def test_fields_that_a_model_refuses_need_not_be_sent(serve, tmp_path):
    server = serve([scores(7)])
    judge(server, tmp_path, {("q", 0): "x"}, temperature=None, max_tokens=None)
    assert set(server.requests[0][0]) == {"model", "messages", "path"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Answer(500), "HTTP 500"),
        (Answer(200, b"<html>"), "not JSON"),
        (says("It is right."), "no score"),
        (says("Score: 9\nIt is right."), "no evidence before the score"),
        (scores(11), "score out of scale"),
        (says(None), "no text"),
        (HANG_UP, "connection error"),
        (HANG, "timeout"),
    ],
)
def test_what_failed_is_asked_again(serve, tmp_path, bad, reason):
    server, waits = serve([bad, bad, scores(6)]), []
    ratings, counts = judge(server, tmp_path, {("q", 0): "x"}, waits=waits, timeout=0.4 if bad is HANG else 5.0)
    assert ratings == {("q", 0): 6.0}
    assert (counts.failures, counts.requests, counts.retries, counts.given_up) == ({reason: 2}, 3, 2, 0)
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0
    assert len(lines(tmp_path)) == 1, "only what has a score is kept"


def test_tokens_of_useless_replies_are_counted_too(serve, tmp_path):
    server = serve([says("no"), says("no", usage=None), scores(6)])
    _, counts = judge(server, tmp_path, {("q", 0): "x"})
    assert (counts.prompt_tokens, counts.completion_tokens, counts.replies_without_usage) == (200, 40, 1)


def test_the_server_decides_how_long_to_wait_and_chance_is_seeded(serve, tmp_path):
    server, waits = serve([Answer(429, headers={"Retry-After": "30"}), Answer(500), Answer(500), scores(6)]), []
    judge(server, tmp_path / "a", {("q", 0): "x"}, waits=waits, retries=9)
    assert waits[0] == 30.0 and 2.0 <= waits[2] <= 4.0
    again, other = [], []
    judge(serve(server.behave), tmp_path / "b", {("q", 0): "x"}, waits=again, retries=9)
    judge(serve(server.behave), tmp_path / "c", {("q", 0): "y"}, waits=other, retries=9)
    assert again == waits and other != waits


def test_delays_end_at_a_minute(serve, tmp_path):
    waits = []
    judge(serve([Answer(500)]), tmp_path, {("q", 0): "x"}, waits=waits, retries=12)
    assert len(waits) == 12 and 30 <= waits[-1] <= 60 == max([60, *waits])


def test_what_stays_without_a_score_is_given_up_and_the_rest_goes_on(serve, tmp_path):
    def behave(body, number):
        return Answer(400, b"too long") if body["messages"][0]["content"] == "second" else scores(6)

    server = serve(behave)
    ratings, counts = judge(server, tmp_path)
    assert ratings == {("q1", 0): 6.0, ("q2", 0): 6.0}
    assert (counts.failures, counts.requests, counts.given_up, counts.unrated) == ({"HTTP 400": 1}, 3, 1, 1)


def test_fewer_ratings_than_asked_for_are_averaged_and_counted(serve, tmp_path):
    server = serve([scores(6), says("no"), says("no"), scores(9)])
    ratings, counts = judge(server, tmp_path, {("q", 0): "x"}, num_ratings=3, retries=1)
    assert ratings == {("q", 0): 7.5}
    assert (counts.wanted, counts.given_up, counts.partial, counts.unrated) == (3, 1, 1, 0)


MANY = {("q", index): f"candidate {index}" for index in range(1000)}


def test_a_server_that_is_down_is_not_asked_a_thousand_times(serve, tmp_path):
    server = serve([*[scores(5)] * 4, Answer(500, b"down")])
    with pytest.raises(AftError) as caught:
        judge(server, tmp_path, MANY, retries=1)
    assert str(caught.value) == (
        f"the judge at {server.url} failed 10 requests in a row, each tried 2 times; the last: HTTP 500: down."
        f" The replies so far are kept in {tmp_path}, and the same command goes on from there"
    )
    assert len(server.requests) <= 4 + 2 * 11 + 40  # some more may have been on their way
    assert len(lines(tmp_path)) == 4


def test_a_model_that_hardly_gives_a_score_is_not_paid_a_thousand_times(serve, tmp_path):
    """One success, or any number of earlier ones, is no reason to go on."""
    judge(serve([scores(5)]), tmp_path, dict(list(MANY.items())[:100]))
    server = serve([scores(5), *[Answer(500, b"busy")] * 3, says("It is right.")])
    with pytest.raises(AftError) as caught:
        judge(server, tmp_path, MANY, retries=0)
    # replies that came together are counted in any order
    numbers, _, rest = str(caught.value).partition(" because: ")
    assert numbers.startswith(f"the judge at {server.url} gave no score to 30 of the first 3") and "ratings" in numbers
    assert rest == (
        "no score; read what the model replies to label.ratings.prompt, which must end in a line 'Score: N'; perhaps it"
        " takes another model. The last failure: no score: the reply ends: 'It is right.'. The replies so far are"
        f" kept in {tmp_path}, and the same command goes on from there"
    )
    assert (
        len(server.requests) <= 100
    )  # some more may have been on their way while the counter waited for the processor


def test_less_than_half_of_the_ratings_may_be_without_hope(serve, tmp_path):
    prompts = dict(list(MANY.items())[:150])
    ratings, counts = judge(serve([scores(5), scores(5), Answer(400)] * 50), tmp_path / "a third", prompts)
    assert (len(ratings), counts.given_up) == (100, 50)
    with pytest.raises(AftError, match=r" gave no score to 3\d of the first [45]\d ratings .* because: HTTP 400; see "):
        judge(serve([scores(5), Answer(400), Answer(400)] * 50), tmp_path / "two thirds", prompts)


def test_what_an_earlier_run_gave_up_is_asked_again_and_stops_nothing(serve, tmp_path):
    refused = [number % 3 == 2 for number in range(120)]
    prompts = dict(list(MANY.items())[:120])
    _, counts = judge(serve([Answer(400) if bad else scores(5) for bad in refused]), tmp_path, prompts)
    assert (counts.given_up, counts.unrated) == (40, 40)
    ratings, counts = judge(serve([Answer(400)]), tmp_path, prompts)
    assert (len(ratings), counts.cached, counts.requests, counts.given_up) == (80, 80, 40, 40)
    ratings, counts = judge(serve([scores(7)]), tmp_path, prompts)
    assert (len(ratings), counts.cached, counts.requests, counts.given_up) == (120, 80, 40, 0)
    assert judge(serve([HANG]), tmp_path, prompts)[1].cached == 120


CUT = Answer(body=json.dumps({"choices": [{"message": {"content": "Step"}, "finish_reason": "length"}]}).encode())


def test_a_reply_that_was_cut_says_so_and_is_repeated_once(serve, tmp_path):
    server = serve([CUT, scores(5)])
    _, counts = judge(server, tmp_path / "once", {("q", 0): "x"})
    assert (counts.failures, counts.given_up) == ({"cut by label.ratings.max_tokens": 1}, 0)
    server = serve([CUT, Answer(500), CUT])
    _, counts = judge(server, tmp_path / "always", {("q", 0): "x"}, retries=9)
    assert (counts.failures, counts.given_up) == ({"cut by label.ratings.max_tokens": 2, "HTTP 500": 1}, 1)
    with pytest.raises(
        AftError, match=r"30 times because: cut by label\.ratings\.max_tokens; raise label\.ratings\.max"
    ):
        judge(serve([CUT]), tmp_path / "all", MANY, retries=9)


def test_equal_prompts_are_asked_once(serve, tmp_path):
    server = serve([scores(3), scores(4)])
    ratings, counts = judge(server, tmp_path, {("q", 0): "x", ("q", 1): "x", ("p", 0): "x"}, num_ratings=2)
    assert set(ratings.values()) == {3.5} and len(server.requests) == 2
    assert (counts.candidates, counts.wanted, counts.requests) == (3, 2, 2)


def by_prompt(body, number):
    """Fails now and then by the order of requests; the score depends on the prompt alone."""
    if number % 5 == 2:
        return Answer(503)
    return scores(1 + int(body["messages"][0]["content"].split()[-1]) % 10)


def test_side_by_side_gives_the_same_as_one_after_the_other(serve, tmp_path):
    prompts = {("q", index): f"candidate {index}" for index in range(24)}
    alone, one = judge(serve(by_prompt), tmp_path / "one", prompts, num_ratings=2, retries=9)
    beside, many = judge(serve(by_prompt), tmp_path / "many", prompts, num_ratings=2, retries=9, concurrency=8)
    assert alone == beside == {("q", index): 1.0 + index % 10 for index in range(24)}
    assert one == many, "every count too"
    assert one.requests == 48 + one.retries and one.failures == {"HTTP 503": one.retries}
    assert one.prompt_tokens == 4800
    keys = [{line["key"]: line["score"] for line in lines(tmp_path / name)} for name in ("one", "many")]
    assert keys[0] == keys[1] and len(keys[0]) == 48


def test_a_second_run_asks_nothing(serve, tmp_path):
    first, _ = judge(serve([scores(5), scores(6), scores(7)]), tmp_path, concurrency=3)
    server = serve([HANG])
    second, counts = judge(server, tmp_path, key="")
    assert second == first and server.requests == []
    assert (counts.wanted, counts.cached, counts.requests) == (3, 3, 0)
    assert (counts.prompt_tokens, counts.cached_prompt_tokens, counts.cached_completion_tokens) == (0, 300, 60)
    assert len(list(tmp_path.iterdir())) == 1, "nothing was to be written"


@pytest.mark.parametrize(
    "changed", [{"num_ratings": 2}, {"temperature": 0.3}, {"max_tokens": 9}, {"prompts": {("q1", 0): "first!"}}]
)
def test_what_is_asked_otherwise_is_asked(serve, tmp_path, changed):
    judge(serve([scores(5)]), tmp_path, {("q1", 0): "first"})
    server = serve([scores(6)])
    judge(server, tmp_path, **{"prompts": {("q1", 0): "first"}, **changed})
    assert len(server.requests) == 1


def test_how_it_is_asked_does_not_matter(serve, tmp_path):
    judge(serve([scores(5)]), tmp_path, {("q1", 0): "first"})
    ratings, counts = judge(serve([HANG]), tmp_path, {("other", 7): "first"}, concurrency=4, retries=0, timeout=1.0)
    assert ratings == {("other", 7): 5.0} and counts.requests == 0


def test_a_reply_on_another_scale_is_no_rating(serve, tmp_path):
    judge(serve([scores(5)]), tmp_path, {("q1", 0): "first"})
    ratings, counts = judge(serve([scores(2)]), tmp_path, {("q1", 0): "first"}, max_score=3.0)
    assert ratings == {("q1", 0): 2.0} and (counts.cached, counts.requests) == (0, 1)


def test_after_a_stop_only_the_rest_is_asked(serve, tmp_path):
    prompts = {("q", index): f"candidate {index}" for index in range(20)}
    server = serve([*[scores(5)] * 7, Answer(401)])
    with pytest.raises(Refused, match="look at OPENAI_API_KEY"):
        judge(server, tmp_path, prompts)
    assert len(lines(tmp_path)) == 7
    assert len(server.requests) <= 9
    server = serve([scores(5)])
    ratings, counts = judge(server, tmp_path, prompts)
    assert len(ratings) == 20 and (counts.cached, counts.requests) == (7, 13)


def test_an_interrupt_keeps_what_came(serve, tmp_path):
    """The second reply meets a person's Ctrl-C: whoever is waiting stops, and nothing that came is lost."""

    def interrupt(_):
        raise KeyboardInterrupt

    server = serve([scores(5), Answer(500), scores(6)])
    asking = Asking("a-judge", num_ratings=1, concurrency=1)
    with ReplyCache(tmp_path) as cache, pytest.raises(KeyboardInterrupt):
        Judge(Endpoint(server.url), cache, asking, sleep=interrupt).rate(PROMPTS)
    assert [line["score"] for line in lines(tmp_path)][:1] == [5.0]
    ratings, counts = judge(serve([scores(5)]), tmp_path)
    assert len(ratings) == 3 and counts.cached >= 1


# ---- the cache ----


def test_a_line_that_was_cut_is_passed_over(tmp_path):
    with ReplyCache(tmp_path) as cache:
        cache.put("a", Reply("one", 1, 2))
        cache.put("b", Reply("two \ud800 \u2028"))
    path = tmp_path / "replies-0001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "c", "reply": "thr')
    with ReplyCache(tmp_path) as cache:
        assert cache.cut_lines == 1
        assert (cache.get("a"), cache.get("b"), cache.get("c")) == (
            Reply("one", 1, 2),
            Reply("two \ud800 \u2028"),
            None,
        )
        cache.put("c", Reply("three"))
    assert (tmp_path / "replies-0002.jsonl").exists(), "no file that another process may write to is touched"


def test_processes_can_share_a_folder(tmp_path):
    with ReplyCache(tmp_path) as one, ReplyCache(tmp_path) as two:
        one.put("a", Reply("one"))
        two.put("b", Reply("two"))
        one.put("c", Reply("three"))
    with ReplyCache(tmp_path) as cache:
        assert [cache.get(key).text for key in "abc"] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "no reply of a judge; without this line it would be asked for again"),
        ("[]", "no reply of a judge"),
        ('{"key": "a"}', "missing 'reply' "),
        ('{"key": "a", "reply": 3}', "'reply' must be str, got int"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    with ReplyCache(tmp_path) as cache:
        cache.put("a", Reply("one"))
    path = tmp_path / "replies-0001.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError) as caught:
        ReplyCache(tmp_path)
    assert str(caught.value).startswith(f"{path}:2: {message}")


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^label\.ratings\.cache: .*file/cache cannot be used: Not a directory$"):
        ReplyCache(tmp_path / "file" / "cache")


# ---- the key ----


def test_the_key_is_nowhere_but_in_the_request(serve, tmp_path):
    """A server that repeats the key in its errors, and lets its model repeat it."""
    echo = f"you sent {KEY}"
    server = serve([Answer(500, echo.encode()), says(f"{echo}\nScore: 7")])
    ratings, counts = judge(server, tmp_path, {("q", 0): "x"})
    assert ratings == {("q", 0): 7.0} and counts.failures == {"HTTP 500": 1}
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers in server.requests)
    assert lines(tmp_path)[0]["reply"] == "you sent ***\nScore: 7"
    for answer in (Answer(500, echo.encode()), Answer(401, echo.encode()), Answer(302, headers={"Location": KEY})):
        with pytest.raises((Failure, Refused)) as caught:
            ask(serve([answer]))
        assert KEY not in str(caught.value) and "***" in str(caught.value)
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def as_escapes(text):
    return "".join(f"\\u{ord(character):04x}" for character in text)


def body(content):
    """A completion whose content is written as JSON by hand."""
    return b'{"choices": [{"message": {"content": "' + content.encode() + b'"}}]}'


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        as_escapes(KEY),
        KEY.replace("-", "\\u002d"),
        as_escapes(as_escapes(KEY)),
        KEY.replace("-", "%2D"),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        f"{KEY[:15]} … {KEY[15:]}",
    ],
)
@pytest.mark.parametrize("place", ["reply", "body", "reason", "location", "nested", "half"])
def test_the_key_is_in_no_message_and_no_file_in_any_form(serve, tmp_path, monkeypatch, capsys, written, place):
    monkeypatch.setenv("AFT_PROGRESS", "")
    answers = {
        "reply": [Answer(body=body(f"{written} is right.\\nScore: 7"))],
        "body": [Answer(401, b'{"error": "' + written.encode() + b'"}')],
        "reason": [Answer(401, reason=written.replace("…", "..."))],
        "location": [Answer(307, headers={"Location": f"http://[{written.replace('…', '...')}"})],
        "nested": [Answer(200, json.dumps({"error": json.dumps({written: [written]})}).encode())],
        "half": [Answer(200, b'{"choices": "' + written.encode())],
    }[place]
    try:
        judge(serve(answers), tmp_path, {("q", 0): "x"}, retries=0)
        told = ""
    except (AftError, Failure) as error:
        told = str(error)
        print("".join(traceback.format_exception(error)))
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    shown = urllib.parse.unquote("".join([told, *capsys.readouterr(), *files]))
    assert not any(KEY[i : i + 8] in shown for i in range(len(KEY) - 7))
    assert base64.b64encode(KEY.encode()).decode()[:12] not in shown and as_escapes(KEY)[:40] not in shown
    if place == "reply":
        assert lines(tmp_path)[0]["reply"].count("***") and lines(tmp_path)[0]["score"] == 7
    if place in ("body", "reason", "location"):
        assert ("***" in told and "look at" in told) or "it points to" in told


def test_what_acts_on_a_terminal_is_escaped_in_messages_and_kept_in_replies(serve, tmp_path):
    acts = "\x1b]0;title\x07 \u202e \x9b2J \ud800"
    judge(serve([says(f"{acts} is right.\nScore: 7")]), tmp_path, {("q", 0): "x"})
    assert lines(tmp_path)[0]["reply"] == f"{acts} is right.\nScore: 7", "a file keeps the text as it is"
    raw = acts.encode("utf-8", "ignore")
    for answer in (
        Answer(500, raw),
        Answer(401, raw, reason="\x1b[31m"),
        Answer(302, headers={"Location": "http://x/\x1b[31m"}),
        Answer(200, raw),
    ):
        with pytest.raises((Failure, Refused)) as caught:
            ask(serve([answer]))
        assert r"\x1b" in str(caught.value) and str(caught.value).isprintable()


def test_a_placeholder_for_a_key_changes_no_reply(serve):
    assert ask(serve([says("there are none")]), key="none").text == "there are none"
