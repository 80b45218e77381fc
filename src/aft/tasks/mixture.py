"""Several tasks as one: the paper's multi-task setting (Table 5). The id of a question begins with its part."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
import re
from collections.abc import Mapping

from ..answers import Extraction
from ..errors import ConfigError
from ..records import Question
from .base import (
    ANSWER_ONLY,
    PRETRAIN,
    TEST,
    TRAIN,
    VALIDATION,
    Task,
    closed_vocabulary,
    has_pretrain_text,
)
from .sources import describe_common, remove_overlaps

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Part:
    """One task of a mixture. `share`: its share of the training questions; None: all questions of the part; 0: none."""

    task: Task
    share: float | None = None


def for_part(name: str, error: ConfigError) -> list[str]:
    """The problems of a part, with `data` replaced by the key of the part in the mixture."""
    where = f"data.parts.{name}.data"
    return [
        problem.replace("data.", f"{where}.") if "data." in problem else f"{where}: {problem}"
        for problem in error.problems
    ]


class Mixture:
    """The questions of all parts, in one seeded order. `category` is the part's name; ids begin with it and a slash.

    A part with share 0 is evaluated and not trained on. If one trained part has a share, all trained parts need one,
    and the shares sum to 1. Each part then gives its first questions, and the first part to run out limits the total.
    All `answer_only` questions of a trained part are used. A training question that any part holds out is removed and
    counted.

    Args:
        parts: by name, in the order of the tables.
        split_seed: seed of the order.
    Raises: `ConfigError` for invalid names or shares.
    """

    def __init__(self, parts: Mapping[str, Part], split_seed: int = 0) -> None:
        self.parts = dict(parts)
        self.split_seed = split_seed
        self._origin: dict[str, Question] = {}
        self._loaded: dict[tuple[str, str, int], list[Question]] = {}
        problems = [
            f"data.parts.{name}: letters, digits, '.', '_' and '-' only" for name in parts if not _NAME.fullmatch(name)
        ]
        if not parts:
            problems.append("data.parts: empty; at least one is needed")
        shares = [part.share for part in parts.values() if part.share]
        if shares and not math.isclose(sum(shares), 1, abs_tol=1e-6):
            problems.append(f"data.parts: the shares must sum to 1, got {sum(shares):g}")
        if problems:
            raise ConfigError(problems)

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """The questions of one split of all parts, mixed. Raises the errors of the parts.

        The pretrain split holds the pretrain questions of each trained part, or its training questions if it has no
        pretrain text. If no part has pretrain text, the pretrain split is the train split.
        """
        if split == PRETRAIN and not any(map(has_pretrain_text, self._trained().values())):
            split = TRAIN
        chosen = self._chosen(split, seed)
        mixed = [question for questions in chosen.values() for question in questions]
        # The shuffle makes sure that the first few questions come from all parts.
        random.Random(f"{self.split_seed}/{split}").shuffle(mixed)
        return mixed

    def vocabulary(self) -> list[str] | None:
        """Every token of all parts, in order of first occurrence; None if a part has no `vocabulary`."""
        vocabularies = [closed_vocabulary(part.task) for part in self.parts.values()]
        known = [vocabulary for vocabulary in vocabularies if vocabulary is not None]
        if len(known) < len(vocabularies):
            return None
        return list(dict.fromkeys(token for vocabulary in known for token in vocabulary))

    def reference_response(self, question: Question) -> str:
        """The reference response that the question's part writes."""
        task, original = self._resolve(question)
        return task.reference_response(original)

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The final answer that the question's part extracts. `ValueError` without the question."""
        if question is None:
            raise ValueError("a mixture reads an answer as the question's part does: it needs the question")
        task, original = self._resolve(question)
        return task.extract_answer(completion, original)

    def is_correct(self, answer: str, question: Question) -> bool:
        """True if the question's part counts the answer as right."""
        task, original = self._resolve(question)
        return task.is_correct(answer, original)

    def fingerprint(self) -> str:
        """SHA-256 of the names and fingerprints of the parts."""
        prints = {name: part.task.fingerprint() for name, part in self.parts.items()}
        return hashlib.sha256(json.dumps(prints).encode()).hexdigest()

    def notes(self) -> list[str]:
        """The notes of the parts, the overlaps between parts, and the number of training questions of each part."""
        chosen, removed = self._training(0)
        notes = [f"{name}: {note}" for name, part in self.parts.items() for note in part.task.notes()]
        between = {name: [q for s in (VALIDATION, TEST) for q in self._part(name, s, 0)] for name in self.parts}
        counts = ", ".join(f"{name} {len(questions):,}" for name, questions in chosen.items())
        return [*notes, *removed, *describe_common(between), f"training questions by part: {counts}"]

    def _resolve(self, question: Question) -> tuple[Task, Question]:
        name, _, rest = question.id.partition("/")
        if name not in self.parts:
            raise ValueError(f"question '{question.id}' is of no part of this mixture ({', '.join(self.parts)})")
        origin = self._origin.get(question.id) or dataclasses.replace(question, id=rest)
        # The caller's gold answer counts: voting puts one answer in its place to compare two answers.
        return self.parts[name].task, dataclasses.replace(origin, answer=question.answer)

    def _part(self, name: str, split: str, seed: int) -> list[Question]:
        """The questions of one part, with the ids of the mixture and the part as category."""
        key = (name, split, seed)
        if key not in self._loaded:
            self._loaded[key] = self._load_part(name, split, seed)
        return list(self._loaded[key])

    def _load_part(self, name: str, split: str, seed: int) -> list[Question]:
        try:
            originals = self.parts[name].task.load(split, seed=seed)
        except ConfigError as error:
            raise ConfigError(for_part(name, error)) from None
        questions = []
        for original in originals:
            question = dataclasses.replace(original, id=f"{name}/{original.id}", category=name)
            self._origin[question.id] = original
            questions.append(question)
        return questions

    def _trained(self) -> dict[str, Task]:
        """The trained parts: those whose share is not 0."""
        return {name: part.task for name, part in self.parts.items() if part.share != 0}

    def _chosen(self, split: str, seed: int) -> dict[str, list[Question]]:
        """The questions of a split by part. Training splits are without questions that any part holds out."""
        if split == TRAIN:
            return self._training(seed)[0]
        if split == PRETRAIN:
            own = [name for name, task in self._trained().items() if has_pretrain_text(task)]
            others = {name: questions for name, questions in self._training(seed)[0].items() if name not in own}
            return {**{name: self._part(name, PRETRAIN, seed) for name in own}, **others}
        if split == ANSWER_ONLY:
            held_out = self._held_out(seed)
            return {name: remove_overlaps(self._part(name, split, seed), held_out)[0] for name in self._trained()}
        return {name: self._part(name, split, seed) for name in self.parts}

    def _held_out(self, seed: int) -> dict[str, list[Question]]:
        splits = (VALIDATION, TEST)
        return {f"{name}'s {split}": self._part(name, split, seed) for name in self.parts for split in splits}

    def _training(self, seed: int) -> tuple[dict[str, list[Question]], list[str]]:
        """(training questions by part, notes on removed questions). Parts without training questions are left out."""
        held_out, chosen, notes = self._held_out(seed), {}, []
        for name, part in self.parts.items():
            questions = self._part(name, TRAIN, seed) if part.share != 0 else []
            kept, removed = remove_overlaps(questions, held_out)
            notes += [f"{name}: {note}" for note in removed]
            if kept:
                chosen[name] = kept
        shares = {name: self.parts[name].share for name in chosen}
        lacking = [name for name, share in shares.items() if share is None]
        if lacking and len(lacking) < len(shares):
            raise ConfigError(
                f"data.parts.{lacking[0]}.share: null, but other parts have a share; give each one or none"
            )
        if lacking or not chosen:
            return chosen, notes
        total = min(len(chosen[name]) / share for name, share in shares.items() if share)
        sizes = {name: math.floor(total * (share or 0) + 1e-9) for name, share in shares.items()}
        return {name: questions[: sizes[name]] for name, questions in chosen.items()}, notes
