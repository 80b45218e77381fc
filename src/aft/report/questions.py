"""The questions of a run for report.html: what every model answered, and every chain with its scores.

Texts are as `shown`. A score is in nats per token, as a model's mean log-prob of the chain's tokens. Absent files leave
their part out; a file that cannot be used raises `DataError`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..answers import place_of_answer
from ..json_files import iter_json_lines, require
from ..records import NEGATIVE, POSITIVE, REFERENCE, UNPARSED, Completion, Group, iter_groups, read_completions
from ..run.digest import chain_digest
from ..run.folder import ASSESSMENT, OWN_CHAINS, POOL, PREDICTIONS, REFERENCES, TRAINING_SCORES, RunFolder, Unit
from ..shown import shown
from .read import scores_present_pool

MOST = 300  # questions of one part of a sample; a part is a kind of questions for one seed
BYTES = 3_000_000  # of all questions of a sample
_FEWER = (MOST, 200, 150, 100, 70, 50, 35, 25, 15, 10, 5, 2, 1)

TEST, HELD_OUT, TRAINED = "test", "pool", "training"
_WORDS = {POSITIVE: "right", NEGATIVE: "wrong", UNPARSED: "unparsed", REFERENCE: "reference"}
_NOT_FINITE = "not finite"
_SCORE = (int, float, type(None))

Score = float | str | None  # None: not scored
ScoresByModel = Mapping[str, dict[Any, list[Score]]]


@dataclass
class Part:
    """The questions of one kind and seed.

    `entries`: makes the JSON object of a question, by id and in file order. `scored`: the questions with scores; a
    sample is taken of these, if there are any.
    """

    kind: str
    seed: int
    entries: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)
    scored: set[str] = field(default_factory=set)

    def sample(self, most: int) -> list[str]:
        """The ids of at most `most` questions, evenly spaced in file order."""
        return spread([key for key in self.entries if not self.scored or key in self.scored], most)


@dataclass(frozen=True)
class Reader:
    """Reads the questions of a run. `markers`: texts before a final answer. `models`: names in the page's order."""

    run: RunFolder
    models: Sequence[str]
    markers: Sequence[str]
    left_out: Collection[Unit] = ()

    def parts(self, seeds: Iterable[int]) -> Iterator[Part]:
        """Yields the parts of the run that have questions."""
        for seed in seeds:
            labelled = self.run.unit("label", seed) not in self.left_out
            held_out, trained = (
                Path(f"{f}") if labelled else None for f in (self.run.pool(seed), self.run.groups(seed))
            )
            for part in (self._asked(seed), self._held_out(seed, held_out), self._trained(seed, trained)):
                if part.entries:
                    yield part

    def _files(self, seed: int, name: str) -> Iterator[tuple[str, Path]]:
        """Yields the models whose evaluation of this seed has the file, and its path."""
        for model in self.models:
            unit = self.run.unit("evaluate", seed, model)
            if unit not in self.left_out and (unit.folder / name).exists():
                yield model, unit.folder / name

    # ---- questions that every model answered ----

    def _asked(self, seed: int) -> Part:
        part, found = Part(TEST, seed), dict[str, dict[str, dict[str, Any]]]()
        for model, path in self._files(seed, PREDICTIONS):
            for line, value in iter_json_lines(path):
                where = f"{path}:{line}"
                found.setdefault(require(value, "question_id", str, where), {})[model] = _checked(value, where)
        for question_id, by_model in found.items():
            part.entries[question_id] = functools.partial(self._asked_entry, seed, question_id, by_model)
        return part

    def _asked_entry(self, seed: int, question_id: str, by_model: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        first = next(iter(by_model.values()))
        category = next((value["category"] for value in by_model.values() if value["category"]), None)
        return {
            **_question(TEST, seed, question_id, first["question"], first["gold"]),
            **({"category": shown(category)} if category else {}),
            "answers": {
                shown(model): {
                    **self._text(
                        value["completion"],
                        value["answer"],
                        truncated=value["truncated"],
                        is_read=value["answer"] is not None,
                    ),
                    "label": "right" if value["is_correct"] else "unparsed" if value["answer"] is None else "wrong",
                    **({"reason": shown(value["unparsed"])} if value["unparsed"] else {}),
                }
                for model, value in by_model.items()
            },
        }

    def _text(self, text: str, answer: str | None, *, truncated: bool, is_read: bool = True) -> dict[str, Any]:
        """A chain with the place of its answer. Places count characters of the text as it is shown."""
        text, answer = shown(text), None if answer is None else shown(answer)
        place = place_of_answer(text, answer, self.markers) if is_read else None
        return {
            "text": text,
            **({} if answer is None else {"answer": answer}),
            **({"place": _utf16(text, place)} if place else {}),
            **({"truncated": True} if truncated else {}),
        }

    # ---- questions with chains ----

    def _held_out(self, seed: int, path: Path | None) -> Part:
        part = Part(HELD_OUT, seed)
        if path is None or not path.exists():
            return part
        scores = {
            model: _scores(file)
            for model, file in self._files(seed, POOL)
            if scores_present_pool(self.run, seed, model)
        }
        for group in iter_groups(path):
            part.entries[group.question_id] = functools.partial(self._held_out_entry, seed, group, scores)
        return part

    def _held_out_entry(self, seed: int, group: Group, scores: ScoresByModel) -> dict[str, Any]:
        return {
            **_question(HELD_OUT, seed, group.question_id, group.question, group.answer),
            "chains": self._chains(group, scores),
        }

    def _trained(self, seed: int, path: Path | None) -> Part:
        part = Part(TRAINED, seed)
        if path is None or not path.exists():
            return part
        scores = {model: _scores(file) for model, file in self._files(seed, TRAINING_SCORES)}
        references = {model: _scores(file) for model, file in self._files(seed, REFERENCES)}
        own = {model: _own(file) for model, file in self._files(seed, ASSESSMENT)}
        scored = {key[0] for found in scores.values() for key in found}.union(*own.values())
        for group in iter_groups(path):
            part.entries[group.question_id] = functools.partial(
                self._trained_entry, seed, group, scores, references, own
            )
        part.scored = scored & set(part.entries)
        return part

    def _trained_entry(
        self,
        seed: int,
        group: Group,
        scores: ScoresByModel,
        references: ScoresByModel,
        own: Mapping[str, dict[str, list[dict[str, Any]]]],
    ) -> dict[str, Any]:
        chains = self._chains(group, scores)
        if group.reference is not None and all(chain["label"] != "reference" for chain in chains):
            found = [references.get(model, {}).get((group.question_id, None), [None])[0] for model in self.models]
            reference = self._text(group.reference, group.answer, truncated=False)
            chains.insert(0, {**reference, "label": "reference", "scores": found})
        written = {
            shown(model): [
                {
                    # what was read in it is not kept
                    **self._text(chain["text"], None, truncated=chain["truncated"], is_read=False),
                    "label": "right" if chain["is_positive"] else "wrong",
                    "score": chain["score"],
                }
                for chain in found[group.question_id]
            ]
            for model, found in own.items()
            if group.question_id in found
        }
        return {
            **_question(TRAINED, seed, group.question_id, group.question, group.answer),
            "chains": chains,
            **({"own": written} if written else {}),
        }

    def _chains(self, group: Group, scores: ScoresByModel) -> list[dict[str, Any]]:
        """The candidates of a group in file order, with a score for each of the page's models."""
        taken = dict[Any, int]()  # candidates without an index share a key, and their scores stand in file order
        chains = []
        for candidate in group.candidates:
            key = (group.question_id, candidate.index)
            place = taken.get(key, 0)
            taken[key] = place + 1
            chain = chain_digest(candidate.completion)
            found = []
            for model in self.models:
                by_key = scores.get(model, {})
                values = by_key.get((*key, chain), by_key.get(key, []))
                found.append(values[place] if place < len(values) else None)
            chains.append(
                {
                    **self._text(
                        candidate.completion,
                        candidate.answer,
                        truncated=candidate.truncated,
                        is_read=candidate.label != UNPARSED,
                    ),
                    "label": _WORDS[candidate.label],
                    "scores": found,
                }
            )
        return chains


def markers_of(config: Mapping[str, Any] | None) -> list[str]:
    """Every `answer_marker` of a run's configuration; "[ANS]", the default, where there is none."""
    found: list[str] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            marker = value.get("answer_marker")
            found.extend([marker] if isinstance(marker, str) and marker else [])
            for part in value.values():
                visit(part)

    visit((config or {}).get("data"))
    return list(dict.fromkeys(found)) or ["[ANS]"]


def encode_questions(parts: Sequence[Part], *, everything: bool) -> tuple[list[str], list[dict[str, Any]]]:
    """The JSON of the questions, and for each part how many of its questions these are.

    Unless `everything`, a sample: of each part at most `MOST` questions, evenly spaced in file order, and as many as
    make at most `BYTES` in all.
    """
    made: dict[tuple[str, int, str], str] = {}
    chosen: list[tuple[str, int, str]] = []
    counts: list[dict[str, Any]] = []
    for most in (None,) if everything else _FEWER:
        chosen, counts = [], []
        for part in parts:
            keys = list(part.entries) if most is None else part.sample(most)
            counts.append({"kind": part.kind, "seed": part.seed, "shown": len(keys), "of": len(part.entries)})
            for key in keys:
                chosen.append((part.kind, part.seed, key))
                if chosen[-1] not in made:
                    entry = part.entries[key]()
                    made[chosen[-1]] = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if sum(len(made[place].encode()) for place in chosen) <= BYTES:
            break
    return [made[place] for place in chosen], counts


def spread(values: Sequence[str], most: int) -> list[str]:
    """At most `most` of the values, evenly spaced, the first among them."""
    count = min(most, len(values))
    return [values[place * len(values) // count] for place in range(count)]


def _question(kind: str, seed: int, question_id: str, question: str, gold: str) -> dict[str, Any]:
    return {"kind": kind, "seed": seed, "id": shown(question_id), "question": shown(question), "gold": shown(gold)}


def _checked(value: dict[str, Any], where: str) -> dict[str, Any]:
    """The keys of a line of predictions.jsonl that the page shows."""
    text, optional = (str,), (str, type(None))
    kinds: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("question", "gold", "completion"), text),
        **dict.fromkeys(("answer", "unparsed", "category"), optional),
        **dict.fromkeys(("is_correct", "truncated"), (bool,)),
    }
    absent = {
        **dict.fromkeys(("question", "gold", "completion"), ""),
        **dict.fromkeys(("answer", "unparsed", "category")),
    }
    value = {**absent, "truncated": False, **value}
    return {key: require(value, key, kind, where) for key, kind in kinds.items()}


def _scores(path: Path) -> dict[Any, list[Score]]:
    """(question id, index), or with the digest of the chain where it is there -> scores in file order."""
    found: dict[Any, list[Score]] = {}
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        key: tuple[Any, ...] = (require(value, "question_id", str, where), value.get("index"))
        if "chain" in value:
            key = (*key, require(value, "chain", str, where))
        found.setdefault(key, []).append(_score(value, where))
    return found


def _score(value: dict[str, Any], where: str) -> Score:
    score = require(value, "score", _SCORE, where)
    return _NOT_FINITE if score is None else round(float(score), 4)


def _own(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Question id -> the chains of a model's own that were scored."""
    texts: dict[tuple[str, Any], Completion] = {
        (completion.question_id, completion.index): completion
        for file in sorted(path.parent.glob(OWN_CHAINS))
        for completion in read_completions(file)
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for line, value in iter_json_lines(path):
        where = f"{path}:{line}"
        question_id = require(value, "question_id", str, where)
        completion = texts.get((question_id, value.get("index")))
        if completion is not None:
            found.setdefault(question_id, []).append(
                {
                    "text": completion.completion,
                    "truncated": completion.truncated,
                    "is_positive": require(value, "is_positive", bool, where),
                    "score": _score(value, where),
                }
            )
    return found


def _utf16(text: str, place: tuple[int, int]) -> list[int]:
    """The place in the units in which JavaScript counts."""
    begin, end = place
    if text.isascii():
        return [begin, end]
    return [len(text[:at].encode("utf-16-le")) // 2 for at in (begin, end)]
