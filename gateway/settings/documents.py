"""YAML text as plain data, and on which line each value stands.

The tree that PyYAML composes is turned into data here, and not by its constructors: those know
octal numbers, dates and Python objects, raise whatever they like, and forget where a value stood.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from gateway.settings.mistakes import Keys, Mistake, twice

# A few lines with anchors can stand for billions of values.
MOST_VALUES = 100_000
MOST_DIGITS = 30

# PyYAML's sentences that go on with a word of the text, which may be a misplaced secret.
_REPEATING = re.compile(r"(found undefined alias|found undefined tag handle) .*", re.DOTALL)


class NotYaml(Exception):
    """The text is not YAML as we read it; ``line`` is None if nobody knows where."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


class Document:
    """One text: its data, the line of each value, and keys that are there twice.

    Data are dictionaries with text as keys, lists, str, int, float, bool and None.

    :raises NotYaml: whatever the text is.
    """

    def __init__(self, text: str) -> None:
        self.data: Any = None
        self.lines: dict[Keys, int] = {}
        self.repeated: list[Mistake] = []
        self._around: set[int] = set()
        try:
            root = yaml.compose(text, Loader=_Loader)
            if root is not None:
                self.data = self._read(root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            problem = _REPEATING.sub(r"\1", error.problem or "not YAML")
            raise NotYaml(problem, mark.line + 1 if mark else None) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise NotYaml(f"the character U+{error.character:04X} is not allowed", line) from None
        except RecursionError:
            raise NotYaml("nested too deeply", None) from None

    def _read(self, node: yaml.Node, path: Keys) -> Any:
        if len(self.lines) > MOST_VALUES:
            raise _problem(node, f"more than {MOST_VALUES} values")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            _refuse_halves(node)
            return _scalar(node)
        if id(node) in self._around:
            raise _problem(node, "a value that contains itself")
        self._around.add(id(node))
        if isinstance(node, yaml.MappingNode):
            data: Any = self._mapping(_tagged(node, "map"), path)
        else:
            items = _tagged(node, "seq").value
            data = [self._read(item, (*path, number)) for number, item in enumerate(items)]
        self._around.discard(id(node))
        return data

    def _mapping(self, node: yaml.Node, path: Keys) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem(key_node, "found unhashable key")
            _refuse_halves(key_node)
            key = str(key_node.value)
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            if key in data:
                self.repeated.append(twice((*path, key)))
            data[key] = self._read(value_node, (*path, key))
        return data


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: ``off`` is a word, ``12:30`` is not a number, dates are text."""


_PATTERNS = {
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"^[-+]?[0-9]+$"),
    "float": re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
}
_Loader.yaml_implicit_resolvers = {}
for _kind, _first in (
    ("bool", [*"tTfF"]),
    ("int", [*"-+0123456789"]),
    ("float", [*"-+0123456789."]),
    ("null", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _PATTERNS[_kind], _first)


def _refuse_halves(node: yaml.ScalarNode) -> None:
    """YAML can escape half a character, which no name, path or header can contain."""
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise _problem(node, "half a character")


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "str":
        return text
    if kind not in _PATTERNS:
        raise _unknown_tag(node)
    if not _PATTERNS[kind].match(text):
        raise _problem(node, f"a value that its tag says is of type {kind}, and is not")
    match kind:
        case "bool":
            return text.lower() == "true"
        case "null":
            return None
        case "float":
            return float(text)
    if len(text) > MOST_DIGITS:
        raise _problem(node, f"a number of more than {MOST_DIGITS} digits")
    return int(text)


def _tagged(node: yaml.Node, kind: str) -> yaml.Node:
    if node.tag != f"tag:yaml.org,2002:{kind}":
        raise _unknown_tag(node)
    return node


def _unknown_tag(node: yaml.Node) -> yaml.MarkedYAMLError:
    # The tag is not repeated: a secret that begins with an exclamation mark reads as one.
    return _problem(node, "could not determine a constructor for the tag")


def _problem(node: yaml.Node, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)
