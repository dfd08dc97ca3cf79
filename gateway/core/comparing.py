"""Whether two answers say the same: the one to a request alone, and its part of a merged one.

The same bytes are the same answer. Where a tolerance is allowed, it is for what arithmetic in
another order does to floating-point numbers, and for nothing else:

- Two floats (numbers with a point or an exponent) may be apart by ``tolerance`` times the larger
  magnitude, or by a thousandth of ``tolerance`` near zero: there, a relative error says nothing.
- Integers must be equal: they are labels and counts. An integer is no float: ``1`` for ``1.0`` says
  that the rows were read as another type.
- NaN is equal to NaN, and an infinity to itself.
- Objects must have the same names in the same order, lists the same length. White space between
  values counts for nothing.
- Two strings that are not equal are compared as JSON if both contain a list or an object.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_NEAR_ZERO = 1e-3
_SHORT = 80
_Members = tuple[tuple[str, Any], ...]


class Difference(NamedTuple):
    """The first difference of two answers.

    ``where`` is a path (``$[0].name[3]``), or ``byte 17`` if no path leads there; ``(...)`` in a
    path is the JSON inside a string. ``alone`` and ``merged`` show what is there, shortened.
    """

    where: str
    alone: str
    merged: str


def compare(alone: bytes, merged: bytes, tolerance: float = 0.0) -> Difference | None:
    """The first difference, or None.

    :param tolerance: by how much floats may differ, relatively; 0: the bytes must be equal.
    """
    if alone == merged:
        return None
    try:
        difference = _compare(_parse(alone), _parse(merged), "$", tolerance)
    except (ValueError, RecursionError):
        return _different_bytes(alone, merged)
    # Without a tolerance, other bytes for the same values are a difference all the same.
    return _different_bytes(alone, merged) if difference is None and not tolerance else difference


def _parse(text: bytes | str) -> Any:
    """Values as JSON has them, with all members of an object, however often a name occurs."""
    decoded = text if isinstance(text, str) else text.decode()
    return json.loads(decoded, object_pairs_hook=tuple)


def _compare(alone: Any, merged: Any, where: str, tolerance: float) -> Difference | None:
    if type(alone) is type(merged):
        match alone:
            case list():
                return _compare_lists(alone, merged, where, tolerance)
            case tuple():
                return _compare_objects(alone, merged, where, tolerance)
            case str():
                return _compare_strings(alone, merged, where, tolerance)
            case float():
                equal = _is_close(alone, merged, tolerance)
            case _:
                equal = alone == merged
        if equal:
            return None
    return Difference(where, _show(alone), _show(merged))


def _compare_lists(
    alone: list[Any], merged: list[Any], where: str, tolerance: float
) -> Difference | None:
    for index, (one, other) in enumerate(zip(alone, merged, strict=False)):
        # No path is written for what is most: equal numbers.
        if one.__class__ is other.__class__ is float and one == other:
            continue
        if difference := _compare(one, other, f"{where}[{index}]", tolerance):
            return difference
    if len(alone) != len(merged):
        return Difference(where, _show(alone), _show(merged))
    return None


def _compare_objects(
    alone: _Members, merged: _Members, where: str, tolerance: float
) -> Difference | None:
    names, others = [name for name, _ in alone], [name for name, _ in merged]
    if names != others:
        return Difference(where, _show_names(names), _show_names(others))
    for (name, one), (_, other) in zip(alone, merged, strict=True):
        plain = name.isidentifier() and name.isascii()
        step = _shorten(f".{name}" if plain else f"[{json.dumps(name)}]")
        if difference := _compare(one, other, where + step, tolerance):
            return difference
    return None


def _compare_strings(alone: str, merged: str, where: str, tolerance: float) -> Difference | None:
    if alone == merged:
        return None
    if alone.startswith(("[", "{")) and merged.startswith(("[", "{")):
        try:
            inside = _parse(alone), _parse(merged)
        except ValueError:
            pass
        else:
            difference = _compare(*inside, f"{where}(...)", tolerance)
            if difference or tolerance:
                return difference
    return Difference(where, _show(alone), _show(merged))


def _is_close(alone: float, merged: float, tolerance: float) -> bool:
    if alone == merged or (alone != alone and merged != merged):
        return True
    apart = abs(alone - merged)
    # An infinity is apart from everything, but no farther than a share of itself.
    largest = max(abs(alone), abs(merged))
    return apart <= max(tolerance * largest, tolerance * _NEAR_ZERO) and largest != float("inf")


def _different_bytes(alone: bytes, merged: bytes) -> Difference:
    place, end = 0, min(len(alone), len(merged))
    while place < end:
        middle = (place + end + 1) // 2
        if alone[place:middle] == merged[place:middle]:
            place = middle
        else:
            end = middle - 1
    return Difference(f"byte {place}", _excerpt(alone, place), _excerpt(merged, place))


def _excerpt(text: bytes, place: int) -> str:
    return _shorten(text[place : place + _SHORT + 1].decode(errors="replace")) or "(the end)"


def _show(value: Any) -> str:
    match value:
        case list():
            return f"list of {len(value)}"
        case tuple():
            return f"object of {len(value)}"
        case _:
            return _shorten(json.dumps(value))


def _show_names(names: list[str]) -> str:
    return _shorten(f"members {json.dumps(names)}")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."
