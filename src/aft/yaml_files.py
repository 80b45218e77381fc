"""Reads and writes YAML in one dialect, for configurations, overrides and a run's `config.yaml`.

The dialect is safe YAML in which `2e-5` is a number, as in YAML 1.2, a date is text, and a repeated key is an error.
A scalar that YAML 1.1 and 1.2 read differently, such as `010`, is `Ambiguous`. Files and values are bounded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .shown import UNSEEN, escape
from .text_files import Unreadable, has_half_pair, read_text

LARGEST = 2**20
"""Most bytes of a YAML file."""
DEEPEST = 32
"""Most levels of sections and lists."""
MOST_NODES = 10_000
"""Most keys and values of a YAML file, each alias counted as often as it is used."""
_MOST_DIGITS = 1000


class Ambiguous(str):
    """A scalar without quotes that YAML 1.1 and YAML 1.2 read differently, as it was written.

    `old`: its value in YAML 1.1, which accelerate reads. `meant`: what it may mean, and what to write for a value that
    is no text.
    """

    old: Any
    meant: str

    def describe(self, *, may_be_text: bool = True) -> str:
        """Says what is wrong and what to write. `may_be_text`: whether its key takes text, which needs quotes."""
        return f"'{self}' {self.meant}" + (f", or '{self}' in quotes" if may_be_text else "")


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes, self.depth, self.sizes = 0, 0, dict[str, int]()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        before = self.nodes
        # an anchor that is not closed yet has no size; constructing it is an error
        self.nodes += self.sizes.get(str(event.anchor), 1) if isinstance(event, yaml.AliasEvent) else 1
        self.depth += 1
        problem = None
        if self.nodes > MOST_NODES:
            problem = f"more than {MOST_NODES:,} keys and values, aliases counted as often as they are used"
        elif self.depth > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self.sizes[event.anchor] = self.nodes - before
        return node

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # makes an alias inside its own anchor an error, not an endless value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                hint = "a key must be text (a template such as '{question}' needs quotes)"
                raise yaml.constructor.ConstructorError(None, None, hint, key_node.start_mark)
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if key in lines:
                problem = f"key '{key}' appears twice, first in line {lines[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            lines[key] = mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if has_half_pair(value):
            problem = "half of a surrogate pair, which is no character"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MOST_DIGITS:
            problem = f"a whole number of more than {_MOST_DIGITS} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))

    def construct_ambiguous(self, node: yaml.ScalarNode) -> Ambiguous:
        value = Ambiguous(self.construct_scalar(node))
        value.old, value.meant = _readings(str(value))
        return value


def _readings(text: str) -> tuple[Any, str]:
    """The value of an ambiguous scalar in YAML 1.1, and what it may mean."""
    if text.lower() in yaml.SafeLoader.bool_values:
        truth = yaml.SafeLoader.bool_values[text.lower()]
        meant = str(truth).lower()
        return truth, f"is {meant} in YAML 1.1 and text in YAML 1.2; write {meant}"
    if ":" in text:
        number = 0
        for part in text.lstrip("+-").split(":"):
            number = number * 60 + int(part)
        number = -number if text.startswith("-") else number
        return number, f"is {number} in YAML 1.1, in base 60, and text in YAML 1.2; write {number}"
    if "o" in text:
        number = int(text, 8)
        return text, f"is {number} in YAML 1.2, in base 8, and text in YAML 1.1; write {number}"
    number = int(text)
    if re.fullmatch("[-+]?[0-7]+", text):
        old = int(text, 8)
        return old, f"is {old} in YAML 1.1, in base 8, and {number} in YAML 1.2; write {number} or {old}"
    return text, f"is text in YAML 1.1 and {number} in YAML 1.2; write {number}"


class _Dumper(yaml.SafeDumper):
    """Writes YAML that `_Loader` reads back to equal values: text that looks like a number gets quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True  # writes a shared mapping in full each time, without anchors


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if UNSEEN.search(text) else None)


_Dumper.add_representer(str, _represent_text)

_TAG = "tag:yaml.org,2002:"
_AMBIGUOUS = "!ambiguous"
# The rules for scalars without quotes that are ours. `=` is text.
_OURS = {
    "int": "[-+]?(0+|[1-9][0-9]*(_[0-9]+)*)|0x[0-9a-fA-F]+|0b[01]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "bool": "true|True|TRUE|false|False|FALSE",
    _AMBIGUOUS: "yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"
    "|[-+]?0+[1-9][0-9]*|[-+]?0o[0-7]+|[-+]?[1-9][0-9]*(:[0-5]?[0-9])+",
}
for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (f"{_TAG}null", f"{_TAG}merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _name, _pattern in _OURS.items():
        _tag = _name if _name == _AMBIGUOUS else _TAG + _name
        _side.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list("-+0123456789.tTfFyYnNoO"))
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)
_Loader.add_constructor(_AMBIGUOUS, _Loader.construct_ambiguous)


def parse_yaml(text: str, where: str = "") -> Any:
    """The value of a YAML text. Aliases become separate values.

    Raises a `ConfigError` that names the source `where`, line and column for invalid YAML, and for a text with more
    than `MOST_NODES` keys and values or `DEEPEST` levels.
    """
    try:
        return _separate(yaml.load(text, Loader=_Loader))  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except (LookupError, AttributeError, TypeError):  # of PyYAML, as for `!!bool maybe`
        raise ConfigError(f"{where}: not valid YAML: a tag (!!) on a value of another kind") from None


def _separate(value: Any) -> Any:
    """A copy in which no mapping or list is in two places: an override of one key must not change another."""
    if isinstance(value, dict):
        return {key: _separate(item) for key, item in value.items()}
    return [_separate(item) for item in value] if isinstance(value, list) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `ConfigError` with the file, and the line if known.

    The file must be a regular file of at most `LARGEST` bytes, within the limits of `parse_yaml`.
    """
    try:
        data = parse_yaml(read_text(path, LARGEST), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise ConfigError(f"{path}: {error}") from None
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
