"""Your own task as a Python class. Importing its module runs its code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ..answers import Extraction
from ..errors import AftError, ConfigError, DataError, nearest
from ..own_code import OWN_ERRORS, describe_error, load_module
from ..records import Question
from ..text_files import has_half_pair
from .base import ANSWER_ONLY, TEST, TRAIN, VALIDATION, Task
from .sources import digest_questions

_NEEDED = {
    "load": ("split", "seed"),
    "reference_response": ("question",),
    "extract_answer": ("completion", "question"),
    "is_correct": ("answer", "question"),
}


class Python:
    """A task from a class in a user's module. Every method calls the method of that class.

    The class may leave out `fingerprint` and `notes`. The fingerprint covers the class's own fingerprint, or else its
    questions with seed 0. It also covers the module's source, so that a change of the code runs labelling again.

    Args:
        module: a file `my_task.py`, or the dotted name of a module that Python can import.
        class_name: a class of the module, with the methods of `aft.tasks.base.Task`.
        options: keyword arguments of the class.
    Raises: `ConfigError` if the module cannot be imported, the class is missing or lacks a method, or the class does
        not accept the options.
    """

    def __init__(self, module: str, class_name: str, options: Mapping[str, Any] | None = None) -> None:
        loaded = load_module(module, "data.module")
        self._task = _make(loaded, module, class_name, dict(options or {}))
        self._source = Path(loaded.__file__).read_bytes() if loaded.__file__ else b""

    def __getattr__(self, name: str) -> Any:
        # Optional attributes outside the protocol, such as `vocabulary`, come from the user's class.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._task, name)

    def load(self, split: str, *, seed: int = 0) -> list[Question]:
        """The questions of one split, from the user's class.

        Raises `DataError` if the class fails, or a question is not of type `Question`, has an id of another one, or
        holds a text that is none.
        """
        told = f"data.class_name: {type(self._task).__name__}.load('{split}', seed={seed})"
        try:
            questions = list(self._task.load(split, seed=seed))
        except AftError:
            raise
        except OWN_ERRORS as error:
            raise DataError(f"{told}: {describe_error(error)}") from error
        places: dict[str, int] = {}
        for place, question in enumerate(questions):
            if problem := _question_problem(question, place, places):
                raise DataError(f"{told}: question {place}: {problem}")
        return questions

    def reference_response(self, question: Question) -> str:
        """The user's class decides."""
        return self._task.reference_response(question)

    def extract_answer(self, completion: str, question: Question | None = None) -> Extraction:
        """The user's class decides."""
        return self._task.extract_answer(completion, question)

    def is_correct(self, answer: str, question: Question) -> bool:
        """The user's class decides."""
        return self._task.is_correct(answer, question)

    def fingerprint(self) -> str:
        """SHA-256 of the digest of the data and of the module's source."""
        own = getattr(self._task, "fingerprint", None)
        splits = (TRAIN, ANSWER_ONLY, VALIDATION, TEST)
        data = own() if own else digest_questions(self.load(split, seed=0) for split in splits)
        return hashlib.sha256(data.encode() + self._source).hexdigest()

    def notes(self) -> list[str]:
        """The notes of the user's class; none if it has no method `notes`."""
        own = getattr(self._task, "notes", None)
        return list(own()) if own else []


def _question_problem(question: Any, place: int, places: dict[str, int]) -> str | None:
    """What is wrong with the question at `place`, or None. `places`: the place of each id so far."""
    if not isinstance(question, Question):
        return f"expected aft.records.Question, got {type(question).__name__}"
    for name in ("id", "question", "answer", "rationale", "category"):
        value = getattr(question, name)
        if not isinstance(value, str) and (value is not None or name in ("id", "question", "answer")):
            return f"'{name}' must be str, got {type(value).__name__}"
        if value is not None and has_half_pair(value):
            return f"'{name}' holds half of a surrogate pair, which is no character"
    if places.setdefault(question.id, place) != place:
        return f"the id '{question.id}' is that of question {places[question.id]}"
    return None


def _make(loaded: ModuleType, module: str, class_name: str, options: dict[str, Any]) -> Task:
    own = getattr(loaded, class_name, None)
    if not inspect.isclass(own):
        classes = [name for name, value in vars(loaded).items() if inspect.isclass(value)]
        raise ConfigError(f"data.class_name: {module} has no class '{class_name}'.{nearest(class_name, classes)}")
    problems = [problem for name, names in _NEEDED.items() for problem in _check_method(own, name, names)]
    if problems:
        raise ConfigError([f"data.class_name: {class_name} {problem}" for problem in problems])
    try:
        inspect.signature(own).bind(**options)
    except TypeError as error:
        raise ConfigError(f"data.options: {class_name}{inspect.signature(own)}: {error}") from None
    try:
        return cast(Task, own(**options))
    except AftError:
        raise
    except OWN_ERRORS as error:
        raise ConfigError(f"data.options: {class_name} cannot be made: {describe_error(error)}") from error


def _check_method(own: type, name: str, names: tuple[str, ...]) -> list[str]:
    method = getattr(own, name, None)
    if not callable(method):
        return [f"has no method {name}({', '.join(names)})"]
    try:
        parameters = inspect.signature(method)
        first, *rest = names
        if name == "load":
            parameters.bind(None, first, seed=0)
        else:
            parameters.bind(None, first, *rest)
    except TypeError as error:
        return [f".{name} must take ({', '.join(names)}): {error}"]
    return []
