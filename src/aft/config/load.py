"""YAML files and command-line overrides -> one `Config`, with every problem in one report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..yaml_files import parse_yaml, read_yaml, yaml_text
from .build import build, build_values
from .checks import check_config
from .schema import AlignConfig, Config

Check = Callable[[Config, frozenset[str]], list[str]]


def load_config(path: str | Path, overrides: Sequence[str] = (), check: Check | None = None) -> Config:
    """The configuration of a YAML file with `key=value`, `--key value` or `--key=value` overrides, which beat the file.

    A file may name another one under `extends` (relative to itself); its own keys beat the other's.
    Raises `ConfigError` with all problems: file, dotted key, what was got, what is allowed, the nearest name.

    `check(config, broken)` adds problems of its own to the same report. It must not read the `broken` sections: they
    have problems already, and are None where there are any.
    """
    data = _read_with_parents(Path(path), ())
    problems: list[str] = []
    # a `name` first: it decides which other keys its section may have
    pairs = sorted(parse_overrides(overrides, problems), key=lambda pair: not pair[0].endswith(".name"))
    for key, value in pairs:
        set_by_path(data, key, value, problems)
    values = build_values(Config, data, "", problems)
    _check_methods(data, values, problems)
    broken = frozenset(
        field.name
        for field in dataclasses.fields(Config)
        if field.name not in values and (field.name in data or field.name in ("output_dir", "data", "model"))
    )
    config = Config(**{**dict.fromkeys(broken), **values})
    problems += check_config(config, broken)
    if check is not None:
        problems += check(config, broken)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in dict.fromkeys(problems)])
    return config


def idle_overrides(path: str | Path, overrides: Sequence[str], config: Config) -> list[str]:
    """What is to be said of overrides that change `align` or the shared `training`, but nothing that runs."""
    pairs = parse_overrides(overrides, [])
    lines, reached = [], _trained(config)
    for number, (key, value) in enumerate(pairs):
        section = key.partition(".")[0]
        if section not in ("align", "training"):
            continue
        data = _read_with_parents(Path(path), ())
        for other, given in [*pairs[:number], *pairs[number + 1 :]]:
            set_by_path(data, other, given, [])
        problems: list[str] = []
        values = build_values(Config, data, "", problems)
        if problems:  # it takes the others to make sense
            continue
        without = Config(**values)
        if getattr(without, section) != getattr(config, section) and _trained(without) == reached:
            own = [name for name in reached if section == "training" or name.startswith("methods.")]
            named = ", ".join(own[-3:]) + (", …" if len(own) > 3 else "")
            why = f"{named} set their own; set it there" if own else "no stage of this run takes it"
            lines.append(f"{key}={value} changes nothing: {why}")
    return lines


def _trained(config: Config) -> dict[str, Any]:
    """What each training of the run takes from `align` and `training`, by its name in the file."""
    found: dict[str, Any] = {}
    for name in ("pretrain", "vft"):
        if name in config.stages:
            found[name] = merge(config.training, getattr(config, name).training)
    if "align" in config.stages:
        for method in config.methods:
            align = align_config(config, method)
            found[f"methods.{method}"] = (align, merge(config.training, align.training))
    return found


def _check_methods(data: Mapping[str, Any], values: dict[str, Any], problems: list[str]) -> None:
    """Check each method of `methods` by building `align` with the method's changes laid over it.

    A wrong method takes `methods` out of `values`. Where `align` itself is wrong, which is reported under its own key,
    the methods are checked over its defaults.
    """
    before = len(problems)
    align = values.get("align", AlignConfig())
    for name, changes in values.get("methods", {}).items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            problems.append(f"methods.{name}: a method's name becomes a folder: letters, digits, '.', '_' and '-' only")
        if changes is not None and not isinstance(changes, Mapping):
            problems.append(f"methods.{name}: expected a mapping of changes to 'align', got {changes!r}")
            continue
        build(AlignConfig, merge(dataclasses.asdict(align), changes or {}), f"methods.{name}", problems)
    if len(problems) > before:
        del values["methods"]


def align_config(config: Config, method: str) -> AlignConfig:
    """The `align` section as one method sees it."""
    problems: list[str] = []
    merged = merge(dataclasses.asdict(config.align), config.methods.get(method) or {})
    built = build(AlignConfig, merged, f"methods.{method}", problems)
    if built is None:
        raise ConfigError(problems)
    return built


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping. A mapping with another `name` replaces the whole."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and ("name" not in value or value["name"] == old.get("name"))
        ):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends: the files extend each other in a circle")
    data = read_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: expected a file name, got {parent!r}")
    return merge(_read_with_parents(path.parent / parent, (*seen, path.resolve())), data)


def parse_overrides(arguments: Sequence[str], problems: list[str]) -> list[tuple[str, Any]]:
    """(dotted key, value) of `key=value`, `--key value` and `--key=value`; values are read as YAML."""
    pairs: list[tuple[str, Any]] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not equals and argument.startswith("--"):
            if not rest or rest[0].startswith("--"):
                problems.append(f"{argument}: needs a value, as in '{argument} VALUE' or '{key}=VALUE'")
                continue
            text = rest.pop(0)
        elif not equals:
            problems.append(f"'{argument}': expected key=value or --key value")
            continue
        try:
            pairs.append((key, parse_yaml(text)))
        except ConfigError:
            problems.append(f"{key}: '{text}' is not valid YAML")
    return pairs


def set_by_path(data: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    """Set `a.b.c` in nested mappings, making the missing ones. Of the keys that are there, the longest that fits wins:
    a method's name may hold dots. Another `name` is another kind of section: the old kind's keys go with the old name.
    """
    inner, rest = data, key
    while True:
        fitting = [known for known in map(str, inner) if f"{rest}.".startswith(f"{known}.")]
        name = max(fitting, key=len, default=rest.partition(".")[0])
        if name == rest:
            if name == "name" and inner.get(name, value) != value:
                inner.clear()
            inner[name] = value
            return
        rest = rest[len(name) + 1 :]
        if inner.get(name) is None:
            inner[name] = {}
        inner = inner[name]
        if not isinstance(inner, dict):
            section = key.removesuffix(f".{rest}")
            problems.append(f"{key}: '{section}' is not a section, it is {inner!r}")
            return


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal one."""
    return yaml_text(dataclasses.asdict(config))
