"""Text to token ids: prompts, responses, and the id that ends a response."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import ConfigError, first_line
from .model import pad_id
from .prompts import CLOCK, chat_messages, render_prompt, with_clock
from .text_files import has_half_pair

# Private-use characters around the stand-ins for control tokens. The nonce keeps data from imitating a stand-in. It has
# digits only, which a chat template that changes the case of a text leaves alone.
_OPEN, _CLOSE = "\ue000", "\ue001"
_NONCE = str(uuid.uuid4().int)
# Two texts that stand for a question and an answer, to find them in what a chat template makes of them.
_QUESTION, _ANSWER = str(uuid.uuid4().int), str(uuid.uuid4().int)


@dataclasses.dataclass(frozen=True)
class _Prompt:
    """A rendered prompt, with stand-ins for control tokens in the question, and its token ids."""

    text: str
    ids: list[int]


class TextEncoder:
    """Turns texts into token ids, for one tokenizer and one way to prompt. Counts what is out of the ordinary.

    `end` is the id that ends a response: with `chat` the id by which the chat template closes an assistant's turn, else
    the tokenizer's end token. `ends` are all ids at which a response ends, `end` first. `lead` is the white space that
    the chat template puts between a prompt and an answer; a text that is encoded begins with it.

    Raises `ConfigError` if the chat template leaves out the question.

    Args:
        date: the day that the chat template's `strftime_now` shows, YYYY-MM-DD; None: today.
        variables: further variables of the chat template.
        allow_special_tokens: control tokens in questions and responses are control tokens; otherwise they are text.
        model_ends: further ids at which the model ends a response, such as `aft.model.generation_ends(checkpoint)`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        *,
        chat: bool = False,
        system: str | None = None,
        date: str | None = None,
        variables: Mapping[str, Any] | None = None,
        allow_special_tokens: bool = False,
        model_ends: Iterable[int] = (),
    ) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.chat, self.system, self.date, self.variables = chat, system, date, dict(variables or {})
        eos: int = tokenizer.eos_token_id
        self.end, self.lead = self._around_an_answer(eos) if chat else (eos, "")
        self.ends = tuple(dict.fromkeys([self.end, *model_ends, eos]))
        self._ends = frozenset(self.ends)
        added = tokenizer.added_tokens_decoder
        self._end_texts = [added[token].content for token in self.ends if token in added]
        self._any_end = _any_of(self._end_texts)
        special = [token.content for token in added.values() if token.special]
        # a tokenizer may have ends and paddings that it does not mark as special
        control = dict.fromkeys([*special, *tokenizer.all_special_tokens, *self._end_texts])
        self._control = _ControlTokens(tokenizer, () if allow_special_tokens else [*filter(str.strip, control)])
        self._last: tuple[str, _Prompt] | None = None
        self._with_control: set[str] = set()
        self._counts = {"undivided": 0, "ended_already": 0, "ran_past_end": 0}

    # ---- prompts ----

    def prompt(self, question: str) -> list[int]:
        """Token ids of a question's prompt."""
        return list(self._prompt(question).ids)

    def _prompt(self, question: str) -> _Prompt:
        if self._last is None or self._last[0] != question:
            self._last = question, self._make_prompt(self._hidden(question))
        return self._last[1]

    def _make_prompt(self, question: str) -> _Prompt:
        if not self.chat:
            return self._filled(render_prompt(question, self.template), question, "prompt.template")
        text = self._rendered(chat_messages(question, self.template, self.system))
        if not self._control.keeps(question, text):
            raise ConfigError(
                "prompt.chat: the tokenizer's chat template changes or leaves out control tokens in a question; remove"
                " them from the data, or set prompt.allow_special_tokens to true"
            )
        return self._filled(text, question, "prompt.chat: the tokenizer's chat template")

    def _filled(self, text: str, question: str, source: str) -> _Prompt:
        """The prompt with its ids. Raises `ConfigError` if it has none: a model needs a token to begin from."""
        if has_half_pair(text):
            raise ConfigError(f"{source}: the prompt of {question[:60]!r} holds half of a surrogate pair")
        prompt = self._encoded(text)
        if not prompt.ids:
            raise ConfigError(f"{source}: the prompt of {question[:60]!r} is empty, it has no token")
        return prompt

    def _encoded(self, text: str) -> _Prompt:
        return _Prompt(text, self._encode(text)[0])

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation, up to where the assistant's answer begins."""
        try:
            return self._render(messages, generate=True)
        except Exception as error:  # whatever the template's own code raises, such as ZeroDivisionError
            reason = first_line(error)
        if messages[0]["role"] == "system":
            try:
                self._render(messages[1:], generate=True)
            except Exception:
                pass  # the template fails for another reason
            else:
                raise ConfigError(
                    f"prompt.system: the tokenizer's chat template takes no system turn: {reason};"
                    " write the text into prompt.template"
                )
        raise ConfigError(f"prompt.chat: the tokenizer's chat template fails: {reason}")

    def _render(self, messages: list[dict[str, str]], *, generate: bool) -> str:
        template: Any = self.tokenizer.get_chat_template()
        text: Any = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=generate,
            chat_template=with_clock(template, self.date) if self.date and CLOCK in template else template,
            **self.variables,
        )
        return str(text)

    def _around_an_answer(self, eos: int) -> tuple[int, str]:
        """(id of the end, white space before an answer), as the chat template writes an assistant's answer.

        The end is the first added token behind the answer; `eos` if text or nothing stands there. There is no white
        space if other text stands between prompt and answer, or if the prompt goes further than a turn with an answer,
        as where it opens the model's thinking.
        """
        messages = chat_messages(_QUESTION, self.template, self.system)
        try:
            prompt = self._render(messages, generate=True)
        except Exception:
            return eos, ""  # the first prompt says so
        if _QUESTION not in prompt:
            raise ConfigError("prompt.chat: the tokenizer's chat template leaves the question out of the prompt")
        try:
            text = self._render([*messages, {"role": "assistant", "content": _ANSWER}], generate=False)
        except Exception:
            return eos, ""  # the template renders no answers
        before, _, behind = text.rpartition(_ANSWER)
        lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
        ids = {token.content: index for index, token in self.tokenizer.added_tokens_decoder.items()}
        found = _any_of(ids).match(behind.lstrip()) if _ANSWER in text else None
        return ids[found[0]] if found else eos, "" if lead.strip() else lead

    # ---- responses ----

    def response(self, question: str, text: str, *, ended: bool = True, is_sampled: bool = False) -> list[int]:
        """Token ids of a response as they follow the question's prompt.

        `ended` adds `end`, unless the text has it already. `is_sampled`: the text comes from a model, and is cut at the
        first end that it holds. The response is divided into tokens as the tokenizer divides it behind the prompt. If
        no division has a boundary at the prompt's end, the response is encoded apart from the prompt and counted. It
        begins with `lead`, unless the text has it already.
        """
        text, ended = self._up_to_end(text, ended, is_sampled)
        if text and not text.startswith(self.lead):
            text = self.lead + text
        ids = self._behind(self._prompt(question), self._hidden(text)) if text else []
        return [*ids, self.end] if ended else ids

    def sampled(self, ids: Sequence[int]) -> list[int]:
        """The ids of a sampled response up to its first end. What follows an end is cut and counted."""
        if self._ends.isdisjoint(ids[:-1]):
            return list(ids)
        self._counts["ran_past_end"] += 1
        return list(ids[: 1 + next(place for place, token in enumerate(ids) if token in self._ends)])

    def _up_to_end(self, text: str, ended: bool, is_sampled: bool) -> tuple[str, bool]:
        """The text without an end that it holds as text, and whether it is ended."""
        body = text
        while last := next((end for end in self._end_texts if body.rstrip().endswith(end)), None):
            body = body.rstrip().removesuffix(last)
        if is_sampled and (first := self._any_end.search(body)):
            self._counts["ran_past_end"] += 1
            return body[: first.start()], True
        if body != text:
            self._counts["ended_already"] += 1
            return body, True
        return text, ended

    def _behind(self, prompt: _Prompt, text: str) -> list[int]:
        """Token ids of a text that follows the prompt."""
        if self._has_words:
            return self._encode(text, special=False)[0]
        ids = self._divided(prompt, text)
        if ids is not None:
            return ids
        self._counts["undivided"] += 1
        for other in self._other_prompts:
            ids = self._divided(other, text)
            if ids is not None:
                return ids
        return self._encode(text, special=False)[0]

    @functools.cached_property
    def _has_words(self) -> bool:
        """Whether tokens are whole words. No word reaches across the end of a prompt, with a space there or without."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return isinstance(getattr(backend, "model", None), WordLevel)

    @functools.cached_property
    def _other_prompts(self) -> list[_Prompt]:
        """What a text stands behind if it does not divide behind its prompt. Some tokenizers add a space to a text that
        stands alone."""
        return [self._encoded(text) for text in ("\n", ":")]

    def _divided(self, prompt: _Prompt, text: str) -> list[int] | None:
        """The ids behind the prompt's in the joint text. None if no token boundary falls at the prompt's end."""
        ids, spans = self._encode(prompt.text + text)
        count = len(prompt.ids)
        size = len(self._control.source(prompt.text, _NONCE in prompt.text + text))

        def ends_there(place: int) -> bool:
            # An unknown token can reach across the prompt's end and have the id of the prompt's last one.
            return not spans or not place or spans[place - 1][1] <= size

        if ids[:count] == prompt.ids and ends_there(count):
            return ids[count:]
        # The prompt may be divided otherwise and still end at a boundary.
        start = next((place for place, (begin, end) in enumerate(spans) if begin >= size and end > begin), len(ids))
        if start < len(ids) and ends_there(start) and self._decode(ids[:start]) == self._decode(prompt.ids):
            return ids[start:]
        return None

    # ---- both ----

    def _hidden(self, text: str) -> str:
        """A text of the data with stand-ins for the control tokens that it holds."""
        hidden = self._control.hide(text)
        if hidden != text:
            self._with_control.add(text)
        return hidden

    def _encode(self, text: str, *, special: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """(token ids, span of each token in characters); no spans if the tokenizer cannot say them.

        `special`: add the tokens that the tokenizer puts around a text, except the end. A rendered chat has them.
        """
        special = special and not self.chat
        if _NONCE in text:
            found = self._control.tokenizer.encode(self._control.source(text, True), add_special_tokens=special)
            ids, spans = list(found.ids), list(found.offsets)
        else:
            is_fast = self.tokenizer.is_fast
            output = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=is_fast)
            ids, spans = list(output["input_ids"]), list(output["offset_mapping"]) if is_fast else []
        # some tokenizers add the end token to every text; neither a prompt nor a response may have it
        while special and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        return ids, spans[: len(ids)]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    # ---- what is out of the ordinary ----

    def counts(self) -> dict[str, int]:
        """How many texts hold control tokens, and how many responses each other rule was applied to."""
        return {"with_control_tokens": len(self._with_control), **self._counts}

    def summary(self) -> str | None:
        """A message for the user about the counts; None if all are 0."""
        lines = {
            "with_control_tokens": "texts hold control tokens, which are read as text (prompt.allow_special_tokens)",
            "undivided": "responses are encoded apart from their prompt: no token boundary falls at the prompt's end",
            "ended_already": "responses hold their end as text; it is not added again",
            "ran_past_end": "responses run past their end and are cut there",
        }
        return "\n".join(f"{count:,} {lines[name]}" for name, count in self.counts().items() if count) or None


class _ControlTokens:
    """Control tokens that must be text in data: a question with the text of an end must not end a turn.

    In data they are replaced by stand-ins before a chat template sees them. The text then goes to a copy of the
    tokenizer, whose control tokens have other names. So the data's are encoded in place like any text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, contents: Sequence[str]) -> None:
        self._original = tokenizer
        self._pattern = _any_of(contents)
        self._stand_ins = {text: f"{_OPEN}{number}:{_NONCE}{_CLOSE}" for number, text in enumerate(contents)}
        self._contents = {stand_in: text for text, stand_in in self._stand_ins.items()}
        self._any_stand_in = _any_of(self._contents)
        self._names = {text: f"{_OPEN}{_NONCE}:{number}{_CLOSE}" for number, text in enumerate(contents)}

    def hide(self, text: str) -> str:
        """A text of the data with a stand-in for each control token."""
        return self._pattern.sub(lambda found: self._stand_ins[found[0]], text)

    def keeps(self, hidden: str, text: str) -> bool:
        """Whether a text made from `hidden` has each of its stand-ins, and no part of another."""
        found = self._any_stand_in.findall(hidden)
        rest = self._any_stand_in.sub("", text)
        return all(stand_in in text for stand_in in found) and _NONCE not in rest

    def source(self, text: str, renamed: bool) -> str:
        """What is encoded for a text with stand-ins. `renamed`: by the copy of the tokenizer."""
        if not renamed:
            return text
        text = self._pattern.sub(lambda found: self._names[found[0]], text)
        return self._any_stand_in.sub(lambda found: self._contents[found[0]], text)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer with other names for its control tokens and the same ids."""
        backend: Any = getattr(self._original, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ConfigError(
                "prompt.allow_special_tokens: the data hold control tokens, which this tokenizer cannot encode as text;"
                " set it to true or remove them from the data"
            )
        parts = json.loads(backend.to_str())
        model, names = parts["model"], self._names
        for added in parts["added_tokens"]:
            added["content"] = names.get(added["content"], added["content"])
        # a model over whole words or pieces would find them in its vocabulary
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(piece, piece): index for piece, index in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        copy: Tokenizer = Tokenizer.from_str(json.dumps(parts))
        copy.no_padding()
        copy.no_truncation()
        assert all(copy.token_to_id(name) == backend.token_to_id(text) for text, name in names.items())
        return copy


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds each of the texts, the longest first. Blank ones are left out."""
    parts = [re.escape(text) for text in sorted(texts, key=len, reverse=True) if text.strip()]
    return re.compile("|".join(parts) or "(?!)")


def set_ends(model: PreTrainedModel, encoder: TextEncoder) -> None:
    """Write how a response begins and ends, and the padding, into the configs that are saved with the model."""
    tokenizer, ends = encoder.tokenizer, list(encoder.ends)
    generation: Any = model.generation_config
    config: Any = model.config.get_text_config()
    config.eos_token_id = encoder.end
    if tokenizer.bos_token_id is not None:
        config.bos_token_id = tokenizer.bos_token_id
    # A model without a padding token must not get its end token there: its embedding would no longer be trained.
    if tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id
    if generation is not None:
        generation.bos_token_id = config.bos_token_id
        generation.eos_token_id, generation.pad_token_id = (ends if len(ends) > 1 else ends[0]), pad_id(tokenizer)
