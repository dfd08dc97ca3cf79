"""Watches how late the event loop is."""

from __future__ import annotations

import asyncio

from gateway.core.statistics import LagTally

# Between two looks. What holds the loop for longer than this cannot hide between them.
INTERVAL = 0.05


class LoopLag:
    """Sets an alarm again and again, and notes by how much each comes late."""

    __slots__ = ("_handle", "_loop", "tally")

    def __init__(self) -> None:
        self.tally = LagTally()
        self._loop: asyncio.AbstractEventLoop
        self._handle: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<LoopLag, {self.tally.worst * 1000:.1f} ms at worst>"

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._set()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _set(self) -> None:
        self._handle = self._loop.call_later(INTERVAL, self._ring, self._loop.time() + INTERVAL)

    def _ring(self, due: float) -> None:
        # uvloop's clock is that of the turn's beginning: it may be a little early.
        self.tally.observe(max(self._loop.time() - due, 0.0))
        self._set()
