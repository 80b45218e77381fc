"""Ratings by a chat model: the mean of several replies per candidate. Requests are concurrent and retried."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from ...endpoint import Endpoint, Failure, Reply
from ...errors import AftError
from ...progress import Progress, say
from .cache import ReplyCache
from .prompt import read_score

Candidate = tuple[str, int | None]

_LONGEST_DELAY = 60.0  # seconds between two tries; the server may ask for more
_WORTH_TELLING, _BETWEEN_LINES = 5.0, 60.0  # seconds: a wait that is told, and the time between two such lines
# Two rules stop the stage. `_DOWN`: at least this many consecutive ratings failed because the endpoint does not work.
# `_USELESS`: at least this many ratings got no score, and they are more than half of the requested ones: the model
# does not follow the prompt. `_USELESS` does not count cached replies, or ratings that an earlier run gave up.
_DOWN, _USELESS = 10, 30
_CUT = "cut by label.ratings.max_tokens"
_LOOK_AT = {
    _CUT: "raise label.ratings.max_tokens, or set it to null",
    **dict.fromkeys(
        ("no text", "no score", "no evidence before the score", "score out of scale"),
        "read what the model replies to label.ratings.prompt, which must end in a line 'Score: N'; perhaps it takes"
        " another model",
    ),
    **dict.fromkeys(
        ("HTTP 400", "HTTP 422"),
        "see whether the endpoint takes label.ratings.temperature, label.ratings.max_tokens and prompts of this length",
    ),
}
_LOOK_ELSEWHERE = "look at the endpoint, or lower label.ratings.concurrency"


@dataclass(frozen=True)
class Asking:
    """The settings of requests to a judge."""

    model: str
    num_ratings: int = 3
    temperature: float | None = 1.0
    max_tokens: int | None = 1024
    min_score: float = 1.0
    max_score: float = 10.0
    retries: int = 5
    concurrency: int = 8
    longest_outage: float = 3600.0


@dataclass
class JudgeCounts:
    """Counts of a judge. `wanted` ratings = `cached` + ratings from new replies + `given_up`.

    `wanted` counts equal requests once. `failures` counts single requests by reason, so `requests` = usable replies +
    all `failures`. Token counts include unusable replies. `replies_without_usage`: replies without token counts.
    `partial`: candidates with fewer ratings than requested. `unrated`: candidates without ratings.
    """

    model: str
    candidates: int = 0
    wanted: int = 0
    cached: int = 0
    requests: int = 0
    retries: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    given_up: int = 0
    partial: int = 0
    unrated: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies_without_usage: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0


@dataclass(frozen=True)
class _Task:
    """One rating of one candidate. `key` is the hash of its request."""

    key: str
    body: dict[str, Any]
    candidate: Candidate
    number: int


class Judge:
    """Rates candidates by their prompts. Each reply with a score is cached at once, so an interruption loses little.

    The delay before a retry starts at one second and doubles up to a minute. It is multiplied by a random factor from
    0.5 to 1, seeded by the request's hash. It is at least as long as the server asks, up to five minutes. A long wait
    is told, at most once a minute. `sleep` waits for the delay; by default, the wait also ends when rating is stopped.
    `clock` returns seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: ReplyCache,
        asking: Asking,
        *,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint, self.cache, self.asking = endpoint, cache, asking
        self.counts = JudgeCounts(asking.model)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sleep, self._clock = sleep or self._stopped.wait, clock
        self._down_since: float | None = None  # when the endpoint first failed since its last reply
        self._told_at = -math.inf
        self._waiting = 0  # ratings without a score that are not given up

    def rate(self, prompts: Mapping[Candidate, str]) -> dict[Candidate, float]:
        """Returns the mean score of every candidate with at least one score.

        Raises `Refused` if the endpoint would refuse every request. Raises `AftError` if too many requests failed, in a
        row or as a share of all, or if the endpoint was down for `longest_outage` seconds.
        """
        numbers = range(1, self.asking.num_ratings + 1)
        tasks = {candidate: [self._task(candidate, text, n) for n in numbers] for candidate, text in prompts.items()}
        # candidates with the same prompt share their ratings
        different = {task.key: task for rated in tasks.values() for task in rated}
        scores = self._from_cache(different)
        self.counts.candidates, self.counts.wanted = len(tasks), len(different)
        with Progress("asking the judge", len(different), "rating") as progress:
            progress.skip(len(scores))
            scores |= self._ask_all([task for key, task in different.items() if key not in scores], progress)
        means = {}
        for candidate, rated in tasks.items():
            got = [scores[task.key] for task in rated if task.key in scores]
            self.counts.partial += 0 < len(got) < len(rated)
            if got:
                means[candidate] = math.fsum(got) / len(got)
        self.counts.unrated = len(tasks) - len(means)
        return means

    def _task(self, candidate: Candidate, prompt: str, number: int) -> _Task:
        body: dict[str, Any] = {"model": self.asking.model, "messages": [{"role": "user", "content": prompt}]}
        limits = {"temperature": self.asking.temperature, "max_tokens": self.asking.max_tokens}
        body |= {name: value for name, value in limits.items() if value is not None}
        text = json.dumps({"request": body, "rating": number}, sort_keys=True)
        return _Task(hashlib.sha256(text.encode("ascii")).hexdigest(), body, candidate, number)

    def _from_cache(self, keys: Iterable[str]) -> dict[str, float]:
        scores = {}
        for key in keys:
            reply = self.cache.get(key)
            if reply is None:
                continue
            try:
                scores[key] = self._score(reply)
            except Failure:  # cached for another scale, for example
                continue
            self.counts.cached += 1
            self.counts.cached_prompt_tokens += reply.prompt_tokens or 0
            self.counts.cached_completion_tokens += reply.completion_tokens or 0
        return scores

    def _ask_all(self, tasks: Sequence[_Task], progress: Progress) -> dict[str, float]:
        """Runs the tasks and returns the scores by the hash of the request. Tasks without a score are left out."""
        scores: dict[str, float] = {}
        self._waiting = len(tasks)
        fresh = {task.key for task in tasks if not self.cache.was_given_up(task.key)}
        down = asked = 0
        useless: Counter[str] = Counter()
        with ThreadPoolExecutor(self.asking.concurrency, thread_name_prefix="judge") as pool:
            try:
                futures = {pool.submit(self._ask, task): task for task in tasks}
                for future in as_completed(futures):
                    outcome, task = future.result(), futures[future]
                    self._waiting -= 1
                    asked += task.key in fresh
                    if isinstance(outcome, Failure):
                        self._give_up(task, outcome)
                        down = down + 1 if outcome.down else 0
                        useless[outcome.reason] += task.key in fresh
                        self._check_hope(down, useless, asked, outcome)
                    else:
                        scores[task.key] = outcome
                        down = 0
                    progress.update(1, self._note())
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return scores

    def _give_up(self, task: _Task, failure: Failure) -> None:
        self.counts.given_up += 1
        if not failure.down:  # if the endpoint is down, the failure says nothing about this request
            self.cache.give_up(task.key, failure.reason, **self._facts(task))

    def _check_hope(self, down: int, useless: Counter[str], asked: int, last: Failure) -> None:
        """Raises `AftError` if the remaining requests are likely to fail as well.

        `down`: consecutive failures of the endpoint. `useless`: of the `asked` ratings, those given up, by last reason.
        """
        given_up = useless.total()
        if down >= max(_DOWN, 2 * self.asking.concurrency):
            told = f"failed {down} requests in a row, each tried {self.asking.retries + 1} times; the last: {last}"
        elif given_up >= _USELESS and 2 * given_up > asked:
            reason, times = useless.most_common(1)[0]
            told = (
                f"gave no score to {given_up} of the first {asked} ratings asked for, {times} times because:"
                f" {reason}; {_LOOK_AT.get(reason, _LOOK_ELSEWHERE)}. The last failure: {last}"
            )
        else:
            return
        raise self._end(told)

    def _end(self, told: str) -> AftError:
        return AftError(
            f"the judge at {self.endpoint.url} {told}. The replies so far are kept in"
            f" {self.cache.folder}, and the same command goes on from there"
        )

    def _ask(self, task: _Task) -> float | Failure:
        """Returns the score of a task, or the failure of its last try."""
        chance = random.Random(task.key)
        attempt = cuts = 0
        while True:
            try:
                return self._ask_once(task, again=attempt > 0)
            except Failure as failure:
                with self._lock:
                    self.counts.failures[failure.reason] = self.counts.failures.get(failure.reason, 0) + 1
                    self._down_since = self._down_since if failure.down else None
                cuts += failure.reason == _CUT
                # a reply that was cut twice would probably be cut again, and cut replies cost the most tokens
                if not failure.retry or attempt == self.asking.retries or cuts > 1:
                    return failure
                delay = min(2.0 ** min(attempt, 10), _LONGEST_DELAY) * chance.uniform(0.5, 1.0)
                self._wait(failure, max(delay, failure.wait))
                if self._stopped.is_set():
                    return failure
            attempt += 1

    def _wait(self, failure: Failure, delay: float) -> None:
        """Waits before the next try, and says so. Raises `AftError` at the end of the longest outage."""
        now, longest = self._clock(), self.asking.longest_outage
        with self._lock:
            if failure.down:
                self._down_since = now if self._down_since is None else self._down_since
                lasted = now - self._down_since
                delay = min(delay, max(longest - lasted, 0.0))
            tells = delay >= _WORTH_TELLING and now - self._told_at >= _BETWEEN_LINES
            self._told_at = now if tells else self._told_at
        if failure.down and lasted >= longest:
            raise self._end(
                f"has not answered a request for {lasted:,.0f} s (label.ratings.longest_outage={longest:g});"
                f" the last: {failure}"
            )
        if tells:
            asked = f" It asks to wait {failure.asked:,.0f} s." if failure.asked > failure.wait else ""
            say(f"the judge: {failure}.{asked} Next try in {delay:,.0f} s; ratings that wait: {self._waiting:,}.")
        self._sleep(delay)

    def _ask_once(self, task: _Task, *, again: bool) -> float:
        with self._lock:
            self.counts.requests += 1
            self.counts.retries += again
        reply = self.endpoint.complete(task.body)
        with self._lock:
            self._down_since = None
            self.counts.prompt_tokens += reply.prompt_tokens or 0
            self.counts.completion_tokens += reply.completion_tokens or 0
            self.counts.replies_without_usage += reply.prompt_tokens is None or reply.completion_tokens is None
        try:
            score = self._score(reply)
        except Failure as failure:
            raise Failure(_CUT) if reply.cut else failure from None
        self.cache.put(task.key, reply, **self._facts(task), score=score)
        return score

    def _facts(self, task: _Task) -> dict[str, Any]:
        question_id, index = task.candidate
        return {"question_id": question_id, "index": index, "number": task.number, "model": self.asking.model}

    def _score(self, reply: Reply) -> float:
        return read_score(reply.text, self.asking.min_score, self.asking.max_score)

    def _note(self) -> str:
        with self._lock:
            tokens = self.counts.prompt_tokens + self.counts.completion_tokens
            return f"{sum(self.counts.failures.values()):,} failures, {tokens:,} tokens"
