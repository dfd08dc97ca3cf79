"""How rows are read: what could make one request's rows change how another's are understood.

Numpy and pandas find one type for a whole array or column, so one request's ``2.5`` would turn
another's ``3`` into ``3.0``. Only requests of one `Kind` may be merged: same nesting, same widths
and member names in the same order, same types column by column (all in all, for tensors). The types
numpy and pandas find are worked out from just that, so they are the same for the merged rows as for
those of each request. Where they depend on values as well, there is no kind:

- Integers of more than 64 bits make numpy choose objects. orjson reads them as floats, so floats of
  that size are suspects too.
- ``pandas.read_json``, which inference-schema uses, makes dates of columns with certain names: of
  all their values or of none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import chain
from math import hypot
from typing import Any

from gateway.core.memo import Memo

# Kinds remembered, and characters in the description of one: a few MiB, whatever clients send.
_KINDS = 64
_MAX_DESCRIPTION = 16_384
_MAX_DEPTH = 8
# Below 2**63 with a margin for the rounding of hypot().
_LARGE = 9.2e18

_NUMBERS = frozenset((int, float))
NESTING = frozenset((list, dict))
_BITS = {str: 1, int: 2, float: 4, bool: 8, type(None): 16}
_NUMERIC = _BITS[int] | _BITS[float]
# The masks of one type, or of none.
_ALONE = frozenset((0, *_BITS.values()))
_DATES = frozenset(("date", "datetime", "modified"))


class Kind:
    """How rows are read by numpy and pandas. Kinds that merge are the same object.

    ``uniform``: whether every single row is of this kind too, rather than the rows together.
    """

    __slots__ = ("_all_numbers", "_description", "_numbers", "uniform")

    def __init__(self, description: Hashable, mask: int, *, uniform: bool) -> None:
        self._description = description
        self._numbers = bool(mask & _NUMERIC)
        self._all_numbers = self._numbers and not mask & ~_NUMERIC
        self.uniform = uniform

    def __repr__(self) -> str:
        return f"<Kind {self._description!r:.80}>"

    def bears(self, leaves: Iterable[Any]) -> bool:
        """Whether no number among the values is so large that orjson may have rounded it."""
        if self._all_numbers:
            # The length of a vector is no less than any coordinate: one call in C.
            return hypot(*leaves) < _LARGE
        return not self._numbers or _are_small(leaves)


class Kinds:
    """Finds the kinds of rows. Kinds found here that are equal are the same object."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Memo[Hashable, Kind] = Memo(_KINDS)

    def find(self, rows: list[Any], *, exact: bool) -> Kind | None:
        """The kind of rows; None if they are not of one kind.

        :param rows: at least one, as a JSON parser returns them.
        :param exact: no integer was rounded, and none has more than 64 bits.
        """
        try:
            description, mask, uniform, leaves = _describe(rows)
        except _UnlikeError:
            return None
        kind = self._known.get(description)
        if kind is None:
            if len(repr(description)) > _MAX_DESCRIPTION:
                return None
            if rows[0].__class__ is dict and any(map(names_dates, rows[0])):
                return None
            kind = Kind(description, mask, uniform=uniform)
            self._known.put(description, kind)
        return kind if exact or kind.bears(leaves) else None


def names_dates(name: str) -> bool:
    """The rule of pandas.read_json (``keep_default_dates``)."""
    name = name.lower()
    return name.endswith(("_at", "_time")) or name.startswith("timestamp") or name in _DATES


def _are_small(leaves: Iterable[Any]) -> bool:
    return all(-_LARGE < leaf < _LARGE for leaf in leaves if type(leaf) in _NUMBERS)


class _UnlikeError(Exception):
    """The rows are not of one kind."""


def _describe(rows: list[Any]) -> tuple[Hashable, int, bool, list[Any]]:
    """What is the same in rows of a kind, the types of all leaves, whether every row has all of
    that, and the leaves. Types are bits (`_BITS`)."""
    classes = set(map(type, rows))
    if classes == {str}:
        return str, 0, True, []
    if classes == {list}:
        table, names = rows, None
    elif classes == {dict}:
        names = tuple(rows[0])
        if any(tuple(row) != names for row in rows):
            raise _UnlikeError
        table = [list(row.values()) for row in rows]
    else:
        raise _UnlikeError
    leaves = list(chain.from_iterable(table))
    types = set(map(type, leaves))
    if not NESTING.isdisjoint(types):
        return _describe_nested(table, names)
    if len(set(map(len, table))) != 1:
        raise _UnlikeError
    mask = _mask(types)
    if len(types) < 2:
        return (names, mask, len(table[0])), mask, True, leaves
    columns = bytes(_mask(map(type, column)) for column in zip(*table, strict=True))
    return (names, columns), mask, _ALONE.issuperset(columns), leaves


def _describe_nested(
    table: list[list[Any]], names: tuple[str, ...] | None
) -> tuple[Hashable, int, bool, list[Any]]:
    leaves: list[Any] = []
    if names is None:
        shape, mask = _tensor(table, leaves)
        return (shape, mask), mask, mask in _ALONE, leaves
    columns = tuple(
        frozenset(_cell(value, leaves, _MAX_DEPTH) for value in column)
        for column in zip(*table, strict=True)
    )
    uniform = all(len(column) == 1 for column in columns)
    return (names, columns), _mask(map(type, leaves)), uniform, leaves


def _cell(value: Any, leaves: list[Any], depth: int) -> Hashable:
    if value.__class__ is list:
        return _tensor([value], leaves)
    if value.__class__ is dict:
        if not depth:
            raise _UnlikeError
        return tuple(value), *[_cell(item, leaves, depth - 1) for item in value.values()]
    leaves.append(value)
    return _BITS[type(value)]


def _tensor(level: list[Any], leaves: list[Any]) -> tuple[Hashable, int]:
    """Shape and types of nested lists."""
    shape: list[int] = []
    types: set[type] = {list}
    while types == {list}:
        widths = set(map(len, level))
        if len(widths) != 1:
            raise _UnlikeError
        shape.extend(widths)
        level = list(chain.from_iterable(level))
        types = set(map(type, level))
    if not NESTING.isdisjoint(types):
        raise _UnlikeError
    leaves.extend(level)
    return tuple(shape), _mask(types)


def _mask(types: Iterable[type]) -> int:
    mask = 0
    for each in set(types):
        mask |= _BITS[each]
    return mask
