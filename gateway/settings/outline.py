"""The shape of the file at any place of it: which keys are known, and what could stand there.

Read off the JSON Schema, which has it all in one tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from gateway.settings.schema import json_schema

# What a key or a text is called that nobody has written.
STAND_IN = "stand-in"


def known_keys(path: Sequence[str | int]) -> list[str]:
    """Keys that the section at ``path`` accepts. Empty if there is no such section."""
    return list(_section(_at(path)).get("properties", {}))


def stand_in(path: Sequence[str | int]) -> Any:
    """A value of the right shape for ``path``, to find more mistakes with."""
    return _example(_at(path))


@cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _at(path: Sequence[str | int]) -> dict[str, Any]:
    entry = _schema()
    for key in path:
        entry = _section(entry)
        if isinstance(key, int):
            entry = entry.get("items", {})
        else:
            entry = entry.get("properties", {}).get(key) or entry.get("additionalProperties") or {}
    return entry


def _section(entry: dict[str, Any]) -> dict[str, Any]:
    """The mapping or list among the forms that an entry may take."""
    entry = _resolve(entry)
    for branch in map(_section, entry.get("anyOf", ())):
        if branch.get("type") in ("object", "array"):
            return branch
    return entry


def _resolve(entry: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in entry:
        entry = _schema()["$defs"][entry["$ref"].rpartition("/")[2]]
    return entry


def _example(entry: dict[str, Any]) -> Any:
    entry = _resolve(entry)
    for keyword in ("examples", "enum"):
        if keyword in entry:
            return entry[keyword][0]
    if "anyOf" in entry:
        return _example(entry["anyOf"][0])
    match entry.get("type"):
        case "object" if "properties" in entry:
            return {key: _example(entry["properties"][key]) for key in entry.get("required", ())}
        case "object":
            return {STAND_IN: _example(entry["additionalProperties"])}
        case "array":
            return [_example(entry["items"])]
        case "integer" | "number":
            return entry.get("minimum", 0)
        case "boolean":
            return False
        case "string":
            return STAND_IN
    return entry.get("const")
