"""When a process that ended is started again."""

from __future__ import annotations

# Whoever lived longer than this many seconds was well: it is replaced at once.
WELL = 5.0
# Seconds before a process that died young is replaced, doubling from the first to the last.
FIRST, LAST = 0.1, 10.0


class Restarts:
    """Delays for one place that processes fill, one after the other.

    What dies at its start will most likely die again: starting it again and again would cost the
    others their processors, and the reader of the log what mattered in it.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST

    def __repr__(self) -> str:
        return f"<Restarts, next after {self._next:g} s>"

    def delay(self, lifetime: float) -> float:
        """Seconds to wait.

        :param lifetime: of the process that ended, in seconds.
        """
        if lifetime >= WELL:
            self._next = FIRST
            return 0.0
        delay = self._next
        self._next = min(delay * 2, LAST)
        return delay
