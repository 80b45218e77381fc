"""The tasks by name. A task is built from plain arguments, those of its `data` section."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import ConfigError, nearest
from .arithmetic import Arithmetic
from .base import ANSWER_ONLY, PRETRAIN, SPLITS, TEST, TRAIN, VALIDATION, Task
from .gsm8k import Gsm8k

__all__ = ["ANSWER_ONLY", "PRETRAIN", "SPLITS", "TEST", "TRAIN", "VALIDATION", "Task", "make_task"]

TASKS = {"arithmetic": Arithmetic, "gsm8k": Gsm8k}


def make_task(name: str, *, options: dict[str, Any] | None = None, **arguments: Any) -> Task:
    """The task `name` from the keys of its `data` section; `options` are further arguments of its class."""
    arguments["marker"] = arguments.pop("answer_marker", "[ANS]")
    parameters = inspect.signature(TASKS[name]).parameters
    known = {key: type(parameter.default) for key, parameter in parameters.items() if key not in arguments}
    problems = []
    for key, value in (options or {}).items():
        if key not in known:
            problems.append(f"data.options.{key}: no such option.{nearest(key, known)} Allowed: {', '.join(known)}")
        elif type(value) is not known[key] and (type(value), known[key]) != (int, float):
            problems.append(f"data.options.{key}: expected {known[key].__name__}, got {value!r}")
    if problems:
        raise ConfigError(problems)
    task: Task = TASKS[name](**arguments, **(options or {}))
    return task
