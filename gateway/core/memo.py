"""A bounded memory of answers already worked out."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Remembers at least the ``size`` and at most twice the ``size`` keys used last.

    Two generations instead of a list in order of use: a hit in the young one is a single dictionary
    look-up, which is what makes it worth asking on every request. When the young one is full it
    becomes the old one, and what was not asked for since is forgotten.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a memo of {size} entries remembers nothing")
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __repr__(self) -> str:
        return f"<Memo {len(self)} of at most {2 * self._size}>"

    def get(self, key: K) -> V | None:
        found = self._young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        if len(self._young) >= self._size:
            self._old = self._young
            self._young = {}
        self._young[key] = value

    def values(self) -> list[V]:
        """All that is remembered, the answers put last first."""
        return [*reversed(self._young.values()), *reversed(self._old.values())]

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()
