"""Samples completions from an OpenAI-compatible server: vLLM, SGLang, TGI, llama.cpp and others.

A server need not speak token ids. The first request finds out what it takes: prompts as ids or as text, and whether it
gives the ids that it sampled. What is lost is said once.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import random
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..endpoint import API_KEY, BASE_URL, DEFAULT_URL, MODEL, Endpoint, Failure, Refused
from ..errors import AftError, ConfigError
from ..progress import say
from ..records import Completion
from .decoding import Decoding
from .finished import Unnamed, alone, finished
from .requests import Request

_LONGEST_DELAY = 60.0  # seconds between two tries; the server may ask for more
# Statuses by which a server refuses a field or a kind of prompt that it does not know.
_NOT_TAKEN = ("HTTP 400", "HTTP 422")


@dataclasses.dataclass(frozen=True)
class Serving:
    """How to ask a server. `key`: the section that chose the engine, such as sample, for messages."""

    key: str
    model: str
    base_url: str | None = None
    key_variable: str = API_KEY
    concurrency: int = 64
    retries: int = 5
    timeout: float = 600.0


@dataclasses.dataclass(frozen=True)
class _Way:
    """One way to ask. `ids`: the prompt as token ids; `more`: with the fields that only some servers know."""

    ids: bool
    more: bool


# The best first.
_WAYS = (_Way(True, True), _Way(True, False), _Way(False, False))


class OpenaiEngine:
    """The `Engine` of a server. A context manager.

    Args:
        ends: the ids at which a completion stops. A server that takes no `stop_token_ids` stops at its own.

    Raises `ConfigError` if the address or the key is unusable, or the server has no such model. Raises `AftError` if a
    completion cannot be had.
    """

    def __init__(self, serving: Serving, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int]) -> None:
        self.serving, self.tokenizer, self._ends = serving, tokenizer, frozenset(ends)
        self._server = _Server(serving)
        self._unnamed = Unnamed(tokenizer, self._ends)
        self._way: _Way | None = None
        self._stopped = threading.Event()
        self._said: set[str] = set()

    def __enter__(self) -> OpenaiEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._unnamed.tell()

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """A shard for every completion, so that only missing ones are sampled after a cut."""
        return alone(requests)

    def generate(self, shards: Sequence[Sequence[Request]], decoding: Decoding) -> Iterator[Completion]:
        """The completions of all shards, in the order of finishing."""
        wanted = [(request, index) for shard in shards for request in shard for index in request.seeds]
        if not wanted:
            return
        if self._way is None:
            self._server.check_model()
            self._way = self._find_way(*wanted[0], decoding)
        self._stopped.clear()
        with concurrent.futures.ThreadPoolExecutor(self.serving.concurrency, thread_name_prefix="openai") as pool:
            try:
                futures = [pool.submit(self._ask, request, index, decoding) for request, index in wanted]
                for future in concurrent.futures.as_completed(futures):
                    yield self._completion(*future.result())
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _find_way(self, request: Request, index: int, decoding: Decoding) -> _Way:
        """The best way to ask that the server takes, tried with one completion."""
        refusal: Failure | None = None
        for way in _WAYS:
            try:
                choice = self._persist(request, index, dataclasses.replace(decoding, max_new_tokens=1), way)
            except Failure as failure:
                if failure.reason not in _NOT_TAKEN:
                    raise self._lost(request, index, failure) from None
                refusal = failure
                continue
            self._warn(way, has_ids=_ids(choice) is not None)
            return way
        raise AftError(f"{self._where()} takes no prompt, neither as token ids nor as text: {refusal}")

    def _warn(self, way: _Way, *, has_ids: bool) -> None:
        lost = []
        if not has_ids:
            lost.append(
                "it gives no token ids, so completions are kept as text and encoded again for training and scoring:"
                " other ids than the sampled ones, where the model spells a text otherwise"
            )
        if not way.ids:
            lost.append("it takes prompts as text alone, and may divide them otherwise or put a token before them")
        if not way.more:
            lost.append("it stops at its own end tokens")
        if lost:
            say(f"warning: {self._where()}: {'; '.join(lost)}")

    def _ask(self, request: Request, index: int, decoding: Decoding) -> tuple[Request, int, dict[str, Any]]:
        """A completion's choice of the reply. Raises `AftError` after the last try."""
        assert self._way is not None
        try:
            return request, index, self._persist(request, index, decoding, self._way)
        except Failure as failure:
            raise self._lost(request, index, failure) from None

    def _persist(self, request: Request, index: int, decoding: Decoding, way: _Way) -> dict[str, Any]:
        """Try as often as the settings allow, with growing delays. Raises the last `Failure`."""
        chance = random.Random(request.seeds[index])
        attempt = 0
        while True:
            try:
                return self._try(request, index, decoding, way)
            except Failure as failure:
                if not failure.retry or attempt == self.serving.retries or self._stopped.is_set():
                    raise
                delay = min(2.0 ** min(attempt, 10), _LONGEST_DELAY) * chance.uniform(0.5, 1.0)
                self._stopped.wait(max(delay, failure.wait))
            attempt += 1

    def _try(self, request: Request, index: int, decoding: Decoding, way: _Way) -> dict[str, Any]:
        ids = list(request.prompt_ids)
        body: dict[str, Any] = {
            "model": self.serving.model,
            "prompt": ids if way.ids else self.tokenizer.decode(ids, clean_up_tokenization_spaces=False),
            "max_tokens": request.most_new(decoding.max_new_tokens),
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "n": 1,
            # some servers read it as a signed number of 32 bits
            "seed": request.seeds[index] % 2**31,
        }
        if way.more:
            body |= {"return_token_ids": True, "stop_token_ids": sorted(self._ends), "ignore_eos": True}
        choice = self._server.complete_prompt(body)
        reason = choice.get("finish_reason")
        if reason not in ("stop", "length"):
            raise Failure(f"finish_reason {reason!r}", "expected 'stop' or 'length'", retry=False)
        read = choice.get("prompt_token_ids")
        if way.ids and isinstance(read, list) and read != ids:
            raise Failure("another prompt", f"the server read {len(read)} ids, {len(ids)} were sent", retry=False)
        return choice

    def _completion(self, request: Request, index: int, choice: Mapping[str, Any]) -> Completion:
        ids, cut = _ids(choice), choice["finish_reason"] == "length"
        # An end that the server left out cannot be known where there are several.
        if ids and (ids[-1] in self._ends) != cut:
            self._unnamed.count(ids)
            return finished(request, index, ids, self._ends, self.tokenizer)
        text = choice.get("text")
        if not isinstance(text, str):
            raise AftError(f"{self._where()}: no text for question {request.question_id}, sample {index}")
        if ids is not None and "end" not in self._said:
            self._said.add("end")
            say(f"warning: {self._where()}: ids do not end as finish_reason says; the texts of such replies are kept")
        count = choice["usage_tokens"]
        if count is None:
            count = len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) + (not cut)
        if request.prefix:
            before = self.tokenizer.decode(
                list(request.prefix_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            text = before + text
        return Completion(request.question_id, index, text, cut, count, request.seeds[index], prefix=request.prefix)

    def _lost(self, request: Request, index: int, failure: Failure) -> AftError:
        tried = f" in {self.serving.retries + 1} tries" if failure.retry and self.serving.retries else ""
        return AftError(
            f"{self._where()}: no completion of question {request.question_id}, sample {index}{tried}: {failure}. What"
            " was sampled is kept, and the same command goes on from there"
        )

    def _where(self) -> str:
        return f"{self.serving.key}.engine: the server at {self._server.url}"


class _Server(Endpoint):
    """An endpoint with `/completions`. Its messages name the keys of the configuration."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        url = serving.base_url or os.environ.get(BASE_URL) or DEFAULT_URL
        try:
            super().__init__(url, os.environ.get(serving.key_variable) or "", timeout=serving.timeout)
        except ConfigError as error:
            raise ConfigError([self._renamed(problem) for problem in error.problems]) from None

    def _renamed(self, text: str) -> str:
        section = f"{self.serving.key}.openai"
        url = f"{section}.base_url" if self.serving.base_url else BASE_URL
        names = {
            f"{BASE_URL} and {MODEL} (or label.ratings.model)": f"{url} and {section}.model",
            "the judge at": "the server at",
            BASE_URL: url,
            API_KEY: self.serving.key_variable,
        }
        for old, new in names.items():
            text = text.replace(old, new)
        return text

    def _send(self, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON of a reply. Raises `Failure`, or `Refused` if every request would fail."""
        try:
            text = self._post(self._request(path, body))
        except Refused as error:
            raise Refused(self._renamed(str(error))) from None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Failure("not JSON", down=True) from None

    def check_model(self) -> None:
        """Raises `ConfigError` if the server lists its models and this one is not there."""
        try:
            found = self._send("models", None)
        except (Failure, Refused):
            return  # not every server lists them; the first request tells what is wrong
        data = found.get("data") if isinstance(found, dict) else None
        names = [item.get("id") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        if names and self.serving.model not in names:
            shown = ", ".join(repr(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
            raise ConfigError(
                f"{self.serving.key}.openai.model: the server at {self.url} has no {self.serving.model!r};"
                f" it has {shown}"
            )

    def complete_prompt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The first choice of the reply, with `usage_tokens`: the number of its tokens, or None."""
        value = self._send("completions", body)
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise Failure("no choices", down=True)
        usage = value.get("usage")
        count = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return {**choices[0], "usage_tokens": count if type(count) is int and count >= 0 else None}


def _ids(choice: Mapping[str, Any]) -> list[int] | None:
    """The token ids of a choice, None if it has none."""
    ids = choice.get("token_ids")
    usable = isinstance(ids, list) and all(type(token) is int and token >= 0 for token in ids)
    return ids if usable else None
