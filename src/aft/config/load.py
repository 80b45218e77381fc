"""Builds one `Config` from YAML files and command-line overrides and reports all problems at once."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..run.folder import RunFolder, method_round
from ..yaml_files import parse_yaml, read_yaml, yaml_text
from .build import build, build_values
from .checks import check_config, is_day
from .packaged import find_config
from .rounds import RoundsConfig
from .schema import AlignConfig, Config

# Sections that a plain value can stand for, and the key that it sets.
_SHORT = {"rounds": RoundsConfig.SHORT}

Check = Callable[[Config, frozenset[str]], list[str]]


def load_config(path: str | Path, overrides: Sequence[str] = (), check: Check | None = None) -> Config:
    """Reads the configuration in a YAML file. Overrides are `key=value`, `--key value` or `--key=value`.

    `path` is a file, or the name of a configuration that comes with aft, such as `quickstart`.
    An override replaces the file's value. A file may extend others with `extends`, one or a list of them: a path
    relative to the file, or such a name. Later files win over earlier ones, and the extending file's keys over all.
    Raises `ConfigError` with all problems: file, dotted key, given value, allowed values, nearest name.

    `check(config, broken)` returns further problems for the same report. It must not read the `broken` sections: they
    are invalid, and None in `config`.
    """
    data = _read_with_parents(find_config(path), ())
    problems: list[str] = []
    # `name` is set first: it decides which other keys its section may have
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
    """Returns a note for each override of `align` or `training` that changes no training of this run."""
    pairs = parse_overrides(overrides, [])
    lines, reached = [], _trained(config)
    for number, (key, value) in enumerate(pairs):
        section = key.partition(".")[0]
        if section not in ("align", "training"):
            continue
        data = _read_with_parents(find_config(path), ())
        for other, given in [*pairs[:number], *pairs[number + 1 :]]:
            set_by_path(data, other, given, [])
        problems: list[str] = []
        values = build_values(Config, data, "", problems)
        if problems:  # without this override the configuration is invalid, so it has an effect
            continue
        without = Config(**values)
        if getattr(without, section) != getattr(config, section) and _trained(without) == reached:
            own = [name for name in reached if section == "training" or name.startswith("methods.")]
            named = ", ".join(own[-3:]) + (", …" if len(own) > 3 else "")
            why = f"{named} set their own; set it there" if own else "no stage of this run takes it"
            lines.append(f"{key}={value} changes nothing: {why}")
    return lines


def _trained(config: Config) -> dict[str, Any]:
    """Returns the resolved settings of each training of the run, by its name in the file."""
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
    """Checks each method by building `align` with the method's changes.

    If a method is wrong, removes `methods` from `values`. If `align` itself is wrong, the methods are checked with the
    defaults of `align`.
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
    """Returns the `align` section with the changes of one method. A round's name stands for its method."""
    problems: list[str] = []
    method, _ = method_round(method)
    merged = merge(dataclasses.asdict(config.align), config.methods.get(method) or {})
    built = build(AlignConfig, merged, f"methods.{method}", problems)
    if built is None:
        raise ConfigError(problems)
    return built


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` updated with `changes`, recursively. A mapping with another `name` replaces the old mapping."""
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


_LONGEST_CHAIN = 20  # files that extend each other


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends: the files extend each other in a circle")
    if len(seen) == _LONGEST_CHAIN:
        raise ConfigError(f"{path}: extends: a chain of more than {_LONGEST_CHAIN} files")
    data = dict(_spell_out(key, value, nested=True) for key, value in read_yaml(path).items())
    parents = data.pop("extends", None)
    if parents is None:
        return data
    names = [parents] if isinstance(parents, str) else parents
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends: expected a file name or a list of file names, got {parents!r}")
    extended: dict[str, Any] = {}
    for name in names:
        extended = merge(extended, _read_with_parents(_find_parent(path, name), (*seen, path.resolve())))
    return merge(extended, data)


def _find_parent(path: Path, parent: str) -> Path:
    try:
        return find_config(parent, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: extends: {error}") from None


def parse_overrides(arguments: Sequence[str], problems: list[str]) -> list[tuple[str, Any]]:
    """Parses `key=value`, `--key value` and `--key=value` into (dotted key, value) pairs. Values are read as YAML."""
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
            pairs.append(_spell_out(key, parse_yaml(text)))
        except ConfigError:
            shown = text if len(text) <= 100 else f"{text[:100]}…"
            problems.append(f"{key}: '{shown}' is not valid YAML")
    return pairs


def _spell_out(key: str, value: Any, *, nested: bool = False) -> tuple[str, Any]:
    """Returns a key and its value, or the key that a short form such as `rounds: 3` stands for, with the value.

    Files and overrides are merged by these keys, so that a short form leaves the other keys of its section as they are.
    `nested`: as a section with that key.
    """
    short = _SHORT.get(key)
    if short is None or value is None or isinstance(value, Mapping):
        return key, value
    return (key, {short: value}) if nested else (f"{key}.{short}", value)


def set_by_path(data: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    """Sets `a.b.c` in nested mappings and creates missing mappings.

    A method's name may contain dots, so the longest existing key that fits is taken. A new `name` selects another kind
    of section, so it removes the section's other keys.
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
    """Returns the resolved configuration as YAML. `load_config` reads it back to an equal configuration."""
    return yaml_text(dataclasses.asdict(config))


def with_date(config: Config) -> Config:
    """Returns the configuration with the day that chat templates show: `prompt.date`, else the day the run began.

    The run's folder records that day in its `config.yaml`. A run that begins now has today.
    """
    if not config.prompt.chat or config.prompt.date is not None:
        return config
    try:
        recorded = read_yaml(RunFolder(config.output_dir).config).get("prompt")
    except ConfigError:  # there is no such file, or it will be written again
        recorded = None
    date = recorded.get("date") if isinstance(recorded, dict) else None
    day = date if isinstance(date, str) and is_day(date) else datetime.date.today().isoformat()
    return dataclasses.replace(config, prompt=dataclasses.replace(config.prompt, date=day))
