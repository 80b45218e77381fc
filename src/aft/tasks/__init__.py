"""The tasks by name. Each task is built from the keys of its `data` section."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, nearest
from .aqua import Aqua
from .arithmetic import Arithmetic
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION, Task, closed_vocabulary
from .creatures import Creatures
from .ecqa import Ecqa
from .generated import GeneratedTask
from .gsm8k import Gsm8k
from .jsonl import Jsonl
from .math import Math
from .mixture import Mixture, Part, for_part
from .mmlu import Mmlu
from .own import Python
from .svamp import Svamp

__all__ = [
    "ANSWER_ONLY",
    "PRETRAIN",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Task",
    "closed_vocabulary",
    "hub_names",
    "make_task",
]

TASKS: dict[str, Any] = {
    "gsm8k": Gsm8k,
    "aqua": Aqua,
    "ecqa": Ecqa,
    "mmlu": Mmlu,
    "svamp": Svamp,
    "math": Math,
    "arithmetic": Arithmetic,
    "creatures": Creatures,
    "jsonl": Jsonl,
    "python": Python,
    "mixture": Mixture,
}


def make_task(name: str, **arguments: Any) -> Task:
    """The task `name`, built from the keys of its `data` section. Raises a `ConfigError` that names the key."""
    if "answer_marker" in arguments:
        arguments["marker"] = arguments.pop("answer_marker")
    if issubclass(TASKS[name], GeneratedTask):
        arguments = _with_options(TASKS[name], arguments)
    if name == "mixture":
        arguments["parts"] = _make_parts(arguments["parts"])
    task: Task = TASKS[name](**arguments)
    return task


def hub_names(section: Any) -> list[str]:
    """The hub names of the data sets of a `data` section and of its parts. Local paths are not considered."""
    parts = getattr(section, "parts", None)
    if parts is not None:
        return [name for part in parts.values() for name in hub_names(part.data)]
    name = getattr(TASKS[section.name], "HUB_NAME", None)
    return [name] if name else []


def _with_options(task: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with `options`, checked, as further arguments of the task's class."""
    options = arguments.pop("options", None) or {}
    parameters = inspect.signature(task).parameters
    known = {key: type(parameter.default) for key, parameter in parameters.items() if key not in arguments}
    problems = []
    for key, value in options.items():
        if key not in known:
            problems.append(f"data.options.{key}: no such option.{nearest(key, known)} Allowed: {', '.join(known)}")
        elif type(value) is not known[key] and (type(value), known[key]) != (int, float):
            problems.append(f"data.options.{key}: expected {known[key].__name__}, got {value!r}")
    if problems:
        raise ConfigError(problems)
    return {**arguments, **options}


def _as_mapping(section: Any) -> dict[str, Any]:
    return dict(section) if isinstance(section, Mapping) else dict(vars(section))


def _make_parts(sections: Mapping[str, Any]) -> dict[str, Part]:
    """The parts of a mixture. One `ConfigError` lists the problems of all parts with their full keys."""
    parts: dict[str, Part] = {}
    problems: list[str] = []
    for name, section in sections.items():
        section = _as_mapping(section)
        try:
            parts[name] = Part(make_task(**_as_mapping(section["data"])), section.get("share"))
        except ConfigError as error:
            problems += for_part(name, error)
    if problems:
        raise ConfigError(problems)
    return parts
