"""Turns plain mappings into frozen dataclasses and reports all problems at once.

Supported annotations: bool, int, float, str, Any, X | None, list[X], dict[str, X], Literal, dataclasses, and unions of
dataclasses. The `name` key selects the member of a union. Bounds are in the field's metadata (`ge`, `gt`, `le`, `lt`).
A whole number is at most `LARGEST` unless `le` says otherwise. `path` marks the name of a file or folder.
An `Any` value must be JSON, because it is saved with a run's results and compared later.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from ..errors import nearest
from ..yaml_files import Ambiguous

T = TypeVar("T")
_INVALID = object()
_DEEPEST = 20
LARGEST = 2**31 - 1
"""Largest whole number of a key without a bound of its own. Sizes, counts and ranges beyond it fit no machine."""
LARGEST_WHOLE_NUMBER = 2**63 - 1
"""Largest whole number of an `Any` value: it must fit in 64 bits."""
_LONGEST_NAME, _LONGEST_PATH = 255, 3500


def build(cls: type[T], data: Mapping[str, Any], path: str, problems: list[str]) -> T | None:
    """Builds dataclass `cls` from `data`. If anything is wrong, adds each problem with its key and returns None."""
    if not isinstance(data, Mapping):
        problems.append(f"{path or 'config'}: expected a mapping of keys, got {_show(data)}")
        return None
    before = len(problems)
    values = build_values(cls, data, path, problems)
    if len(problems) > before:
        return None
    built = cls(**values)
    # a section can define `problems()` to check its keys against each other
    problems += [_join(path, problem) for problem in getattr(built, "problems", list)()]
    return None if len(problems) > before else built


def build_values(cls: type, data: Mapping[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    """Returns the valid field values of dataclass `cls` in `data`. Each invalid one is left out and reported."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            problems.append(f"{_join(path, key)}: unknown key.{nearest(str(key), fields)} Allowed: {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        where = _join(path, name)
        if name not in data:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                problems.append(f"{where}: missing; it has no default and must be chosen")
            continue
        before = len(problems)
        value = _convert(_named(data[name], field), hints[name], where, problems)
        if value is not _INVALID:
            _check_bounds(value, field.metadata, where, problems)
        if len(problems) == before:
            values[name] = value
    return values


def _named(value: Any, field: dataclasses.Field) -> Any:
    """Adds the default's `name` to a mapping without one, so that `constraint.beta` needs no `constraint.name`."""
    if not isinstance(value, Mapping) or "name" in value or field.default_factory is dataclasses.MISSING:
        return value
    default = field.default_factory()
    return {"name": default.name, **value} if hasattr(default, "name") else value


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _show(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value!r} ({'str' if isinstance(value, str) else type(value).__name__})"


def path_problem(path: str) -> str | None:
    """Returns what is wrong with the text of a path, or None. The disk is not looked at.

    Common file systems take names of 255 bytes and paths of 4,096. The files of a run need a part of these.
    """
    if "\0" in path:
        return f"holds a null character, got {path!r}"
    longest = max(re.split(r"[/\\]" if os.name == "nt" else "/", path), key=lambda name: len(os.fsencode(name)))
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        size = len(os.fsencode(longest))
        return f"the name '{longest[:20]}…' has {size} bytes; a file system takes at most {_LONGEST_NAME}"
    size = len(os.fsencode(os.path.abspath(path)))
    return f"the path has {size} bytes; at most {_LONGEST_PATH} are supported" if size > _LONGEST_PATH else None


def _number(value: float) -> str:
    large = isinstance(value, int) and abs(value) >= 10**40
    return f"a whole number of {len(str(abs(value)))} digits" if large else str(value)


def _check_bounds(value: Any, bounds: Mapping[str, Any], where: str, problems: list[str]) -> None:
    if bounds.get("path") and isinstance(value, str) and (problem := path_problem(value)):
        problems.append(f"{where}: {problem}")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if isinstance(value, int):
        bounds = {"le": LARGEST, **bounds} if value > 0 else {"ge": -LARGEST, **bounds}
    checks = {
        "ge": (lambda a, b: a >= b, "at least"),
        "gt": (lambda a, b: a > b, "above"),
        "le": (lambda a, b: a <= b, "at most"),
        "lt": (lambda a, b: a < b, "below"),
    }
    for name, (holds, words) in checks.items():
        if name in bounds and not holds(value, bounds[name]):
            problems.append(f"{where}: must be {words} {bounds[name]}, got {_number(value)}")


def _convert(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    """Converts `value` to type `hint`. If it does not fit, adds a problem and returns `_INVALID`."""
    origin = typing.get_origin(hint)
    if isinstance(value, Ambiguous):
        members = typing.get_args(hint) if origin in (Union, types.UnionType) else (hint,)
        if bool in members and isinstance(value.old, bool):
            return value.old
        if not (isinstance(value.old, bool) and {int, float} & set(members)):  # a number is not true or false
            may_be_text = bool(set(members) - {int, float, bool, type(None)})
            return _refuse(value, where, problems, may_be_text=may_be_text)
    if hint is Any:
        return _json(value, where, problems)
    if origin in (Union, types.UnionType):
        return _convert_union(value, hint, where, problems)
    if origin is Literal:
        allowed = typing.get_args(hint)
        if value in allowed and not isinstance(value, bool):
            return value
        problems.append(
            f"{where}: got {_show(value)}, allowed: {', '.join(map(str, allowed))}."
            + nearest(str(value), map(str, allowed))
        )
        return _INVALID
    if origin is list:
        return _convert_list(value, typing.get_args(hint)[0], where, problems)
    if origin is dict:
        return _convert_dict(value, typing.get_args(hint)[1], where, problems)
    if dataclasses.is_dataclass(hint):
        built = build(typing.cast(type, hint), value, where, problems)
        return _INVALID if built is None else built
    return _convert_scalar(value, hint, where, problems)


def _convert_union(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    members = typing.get_args(hint)
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    if len(members) == 1:
        return _convert(value, members[0], where, problems)
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    if not classes:  # a union of scalars, such as int | str: the first type that fits is taken
        for member in members:
            attempt: list[str] = []
            converted = _convert(value, member, where, attempt)
            if not attempt:
                return converted
        problems.append(f"{where}: got {_show(value)}, allowed: {' or '.join(m.__name__ for m in members)}")
        return _INVALID
    names = {typing.get_args(typing.get_type_hints(member)["name"])[0]: member for member in classes}
    if not isinstance(value, Mapping):
        problems.append(f"{where}: expected a mapping with a 'name' ({', '.join(names)}), got {_show(value)}")
        return _INVALID
    if not isinstance(value.get("name"), str) or value["name"] not in names:
        got = _show(value["name"]) if "name" in value else "nothing"
        problems.append(
            f"{where}.name: got {got}, allowed: {', '.join(names)}.{nearest(str(value.get('name')), names)}"
        )
        return _INVALID
    return _convert(value, names[value["name"]], where, problems)


def _convert_list(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, (list, tuple)):
        problems.append(f"{where}: expected a list, got {_show(value)}")
        return _INVALID
    items = [_convert(item, hint, f"{where}[{i}]", problems) for i, item in enumerate(value)]
    return _INVALID if any(item is _INVALID for item in items) else items


def _convert_dict(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{where}: expected a mapping of keys, got {_show(value)}")
        return _INVALID
    items = {}
    for key, item in value.items():
        if problem := _key_problem(key):
            problems.append(f"{where}: {problem}")
        items[str(key)] = _convert(item, hint, _join(where, key), problems)
    return _INVALID if any(item is _INVALID for item in items.values()) else items


def _json(value: Any, where: str, problems: list[str], depth: int = 0) -> Any:
    """Returns `value` if it is JSON at every level. JSON: mappings with text keys, lists, text, finite numbers, true,
    false and null. Otherwise adds a problem and returns `_INVALID`.
    """
    if isinstance(value, Ambiguous):
        return _refuse(value, where, problems)
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE_NUMBER:
        problems.append(
            f"{where}: must be from {-LARGEST_WHOLE_NUMBER} to {LARGEST_WHOLE_NUMBER}, got {_number(value)}"
        )
        return _INVALID
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _convert_scalar(value, float, where, problems)
    if depth == _DEEPEST:
        problems.append(f"{where}: nested more than {_DEEPEST} levels deep")
        return _INVALID
    if isinstance(value, Mapping):
        odd = [problem for key in value if (problem := _key_problem(key))]
        problems += [f"{where}: {problem}" for problem in odd]
        items = {str(key): _json(item, _join(where, key), problems, depth + 1) for key, item in value.items()}
        return _INVALID if odd or any(item is _INVALID for item in items.values()) else items
    if isinstance(value, (list, tuple)):
        listed = [_json(item, f"{where}[{i}]", problems, depth + 1) for i, item in enumerate(value)]
        return _INVALID if any(item is _INVALID for item in listed) else listed
    problems.append(f"{where}: expected a number, text, true, false, null, a list or a mapping, got {_show(value)}")
    return _INVALID


def _refuse(value: Ambiguous, where: str, problems: list[str], *, may_be_text: bool = True) -> Any:
    problems.append(f"{where}: {value.describe(may_be_text=may_be_text)}")
    return _INVALID


def _key_problem(key: Any) -> str | None:
    """Returns what is wrong with a key that is chosen freely, or None."""
    if isinstance(key, Ambiguous):
        return f"a key must be text; {key.describe()}"
    return None if isinstance(key, str) else f"a key must be text, got {_show(key)}; put it in quotes"


def _convert_scalar(value: Any, hint: type, where: str, problems: list[str]) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
            problems.append(f"{where}: must be finite, got {value}")
        except OverflowError:
            problems.append(f"{where}: a whole number too large for a float")
        return _INVALID
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    problems.append(f"{where}: expected {names.get(hint, hint.__name__)}, got {_show(value)}")
    return _INVALID
