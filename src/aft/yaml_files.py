"""Reads and writes YAML in one dialect, for configurations, overrides and a run's `config.yaml`.

The dialect is safe YAML in which `2e-5` is a number, as in YAML 1.2, a date is text, and a repeated key is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .shown import UNSEEN, escape


class _Loader(yaml.SafeLoader):
    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # makes an alias inside its own anchor an error, not an endless value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                hint = "a key must be text (a template such as '{question}' needs quotes)"
                raise yaml.constructor.ConstructorError(None, None, hint, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes YAML that `_Loader` reads back to equal values: text that looks like a number gets quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True  # writes a shared mapping in full each time, without anchors


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if UNSEEN.search(text) else None)


_Dumper.add_representer(str, _represent_text)

_FLOAT, _DATE = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_FLOAT, _DATE)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _side.add_implicit_resolver(
        _FLOAT,
        re.compile(
            r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"
            r"|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
        ),
        list("-+0123456789."),
    )


def parse_yaml(text: str, where: str = "") -> Any:
    """The value of a YAML text. Invalid YAML raises a `ConfigError` that names the source `where`, line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number of thousands of digits, or endless nesting
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Invalid YAML or an unreadable file raises `ConfigError`, with the line if known."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, got {type(data).__name__}")
    return data


def yaml_text(value: Any) -> str:
    """A value as YAML with one key on each line. `read_yaml` reads back an equal value.

    A text with a character in `UNSEEN` is written with escapes, in double quotes.
    """
    return escape(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def yaml_line(value: Any) -> str:
    """A value as YAML on one line, in the form of an override on the command line."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
