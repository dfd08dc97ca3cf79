"""A judge of JSON Schema, for the keywords that our own schema uses.

It knows draft 2020-12 as far as needed and refuses a keyword that it does not know, so that nothing
in a schema is overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS = {"title", "description", "default", "$schema", "$defs", "$id", "examples"}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[str]:
    """Where ``value`` breaks ``schema``, as ``path: keyword``. Empty if it is valid."""
    return list(_faults(value, schema, root or schema, ""))


def _faults(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            yield from _faults(value, root["$defs"][rule.removeprefix("#/$defs/")], root, path)
        elif keyword == "anyOf":
            branches = [list(_faults(value, branch, root, path)) for branch in rule]
            if all(branches):
                # The branch that was meant is the one that got furthest.
                yield max((branch[0] for branch in branches), key=_depth)
        elif keyword in ("properties", "patternProperties", "additionalProperties", "items"):
            continue  # together, below
        elif not _holds(keyword, rule, value):
            yield f"{path}: {keyword}"
    if isinstance(value, dict):
        yield from _members(value, schema, root, path)
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{path}[{number}]")


def _depth(fault: str) -> int:
    return fault.count(".") + fault.count("[")


def _members(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str
) -> Iterator[str]:
    own, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    rest = schema.get("additionalProperties", True)
    for name, member in value.items():
        place = f"{path}.{name}" if path else name
        rules = [own[name]] if name in own else []
        rules += [rule for pattern, rule in patterns.items() if re.search(pattern, name)]
        if not rules and rest is False:
            yield f"{place}: additionalProperties"
        elif not rules and isinstance(rest, dict):
            rules = [rest]
        for rule in rules:
            yield from _faults(member, rule, root, place)


def _holds(keyword: str, rule: Any, value: Any) -> bool:
    """Whether one keyword that looks at a single value is kept."""
    match keyword:
        case "type":
            if isinstance(value, bool):
                return bool(rule == "boolean")
            return isinstance(value, _TYPES[rule])
        case "const":
            return type(value) is type(rule) and bool(value == rule)
        case "enum":
            return value in rule
        case "required":
            return not isinstance(value, dict) or all(name in value for name in rule)
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "propertyNames":
            return not isinstance(value, dict) or all(
                not list(_faults(name, rule, rule, "")) for name in value
            )
        case "minimum" | "maximum":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return True
            return bool(value >= rule if keyword == "minimum" else value <= rule)
        case "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties":
            kinds: dict[str, tuple[type, ...]] = {
                "Items": (list,), "Length": (str,), "Properties": (dict,)
            }  # fmt: skip
            if not isinstance(value, kinds[keyword[3:]]):
                return True
            size: int = len(value)  # type: ignore[arg-type]
            return bool(size >= rule if keyword.startswith("min") else size <= rule)
        case _:
            raise AssertionError(f"the judge does not know the keyword {keyword!r}")
