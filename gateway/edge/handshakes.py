"""TLS handshakes in progress: bounded in number, in time, and in what each turn of the loop spends.

A handshake costs as much as ten to fifty requests. So each takes its turn: one or a few cheap ones
in every turn of the loop, after which the requests that have come are seen to. However many knock,
a request waits for one handshake in each turn that it needs, not for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.statistics import ConnectionTally
from gateway.edge.sides import ServerSide

# Connections above the limit that are told why they are turned away.
COURTESY = 32
# Seconds of one turn of the loop that handshakes may take; the one that goes over it is finished.
SLICE = 0.0005
# Handshakes in progress: a part of the connections that are accepted, and at least so many.
SHARE, LEAST = 4, 16
# Seconds for the news that a handshake has failed to go out.
PARTING = 2.0


class Handshakes:
    """Looks after connections that have not agreed upon keys yet, or could not.

    When there are too many, the one that has kept us waiting longest makes room: an honest client
    needs a few round trips, one that wants to fill all places needs us to wait.
    """

    def __init__(
        self, tally: ConnectionTally, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        """:param changed: called when there is one more or less of them."""
        self._tally = tally
        self._clock = clock
        self._changed = changed
        #: Those who are waited for, who wait for their turn, and who are leaving; each in the order
        #: in which they came to be so.
        self._waiting: dict[ServerSide, None] = {}
        self._knocking: dict[ServerSide, None] = {}
        self._parting: dict[ServerSide, None] = {}
        self._pumping = False

    def __repr__(self) -> str:
        return f"<Handshakes, {len(self)} in progress, {len(self._knocking)} knocking>"

    def __len__(self) -> int:
        return len(self._waiting) + len(self._knocking) + len(self._parting)

    # What connections say.

    def arrived(self, who: ServerSide) -> None:
        self._waiting[who] = None
        self._changed()
        tally = self._tally
        if tally.open > tally.limit + COURTESY:
            tally.refused += 1
            self._drop(who)
        elif len(self) > max(tally.limit // SHARE, LEAST):
            self._end(next(iter(self._waiting)), "displaced")

    def knocked(self, who: ServerSide) -> None:
        if who in self._waiting:
            del self._waiting[who]
            self._knocking[who] = None
            if not self._pumping:
                self._pumping = True
                asyncio.get_running_loop().call_soon(self._pump)

    def ended(self, who: ServerSide, result: str) -> None:
        self._tally.handshakes[result] += 1
        self._forget(who)
        if result == "failed":
            who.due = self._clock() + PARTING
            self._parting[who] = None
        self._changed()

    def gone(self, who: ServerSide) -> None:
        self._tally.handshakes["left"] += who in self._waiting or who in self._knocking
        self._forget(who)
        self._changed()

    # What the listener says.

    def expire(self, now: float) -> None:
        """Let go of those whose time has come."""
        for who in [w for w in (*self._waiting, *self._knocking) if w.due <= now]:
            self._end(who, "timed_out")
        for who in [w for w in self._parting if w.due <= now]:
            self._drop(who)

    def abort(self) -> int:
        """Break all of them off; how many."""
        everybody = (*self._waiting, *self._knocking, *self._parting)
        for who in everybody:
            self._drop(who)
        return len(everybody)

    def _end(self, who: ServerSide, result: str) -> None:
        self._tally.handshakes[result] += 1
        self._drop(who)

    def _drop(self, who: ServerSide) -> None:
        self._forget(who)
        who.abort()
        self._changed()

    def _forget(self, who: ServerSide) -> None:
        for group in (self._waiting, self._knocking, self._parting):
            group.pop(who, None)

    def _pump(self) -> None:
        """Give those who wait for it their turn."""
        end = self._clock() + SLICE
        while self._knocking:
            who = next(iter(self._knocking))
            del self._knocking[who]
            self._waiting[who] = None
            who.step()
            if self._clock() >= end:
                break
        if self._knocking:
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            self._pumping = False
