"""Round robin: every backend in turn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Takes the backends in the order of the configuration, beginning again after the last.

    Requests that move on from a dead backend have a turn of their own. If they took the next one of
    the common turn, the dead one of two backends would be next for every request; and so the load
    of a dead one is spread over all the others.
    """

    __slots__ = ("_backends", "_moving", "_turn")

    def __init__(self, backends: Sequence[T]) -> None:
        if not backends:
            raise ValueError("nothing to balance over")
        self._backends = tuple(backends)
        self._turn = 0
        self._moving = 0

    def choose(self, tried: Collection[T] = ()) -> T | None:
        """The next backend that is not among ``tried``; None when all of them are."""
        backends = self._backends
        if not tried:
            chosen = backends[self._turn]
            self._turn = (self._turn + 1) % len(backends)
            return chosen
        for _ in backends:
            chosen = backends[self._moving]
            self._moving = (self._moving + 1) % len(backends)
            if chosen not in tried:
                return chosen
        return None
