"""Calls to a container that are not one client's request: merged ones, parts, and trials."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from gateway.core.replies import Reply
from gateway.engine.basins import Basin
from gateway.engine.exchange import Connection, Custodian
from gateway.engine.pools import Pool
from gateway.engine.walking import park


class Carrier:
    """Takes a body to a container and brings the whole answer back, as one walk.

    Towards pools and connections it is what an ``Exchange`` is. Whoever makes one sees to the place
    at the container, and drives it with ``start``, ``resume`` and ``interrupt``.
    """

    __slots__ = ("clock", "custody", "upstream_seconds", "walk")

    #: Of the body that is still to come: it is always sent whole.
    length = 0

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.walk: Coroutine[None, Any, None] | None = None
        #: What the walk waits at.
        self.custody: Custodian | None = None
        #: How long the last call took.
        self.upstream_seconds = 0.0

    async def call(self, pool: Pool, head: bytes, body: bytes) -> Reply:
        """Send a request and wait for the whole answer. Its body is None if that was too much.

        :raises Refusal: as a connection or its pool does; nothing is tried again.
        """
        now = self.clock()
        connection: Connection | None = pool.take(now)
        if connection is None:
            pool.wait(self)
            connection = await park()
            now = self.clock()
        self.custody = connection
        self.set_out(pool)
        if connection.reused:
            pool.tally.reused += 1
        connection.send(self, head, body, now)
        reply: Reply = await park()
        if reply.body is None:
            basin = Basin()
            connection.pour(basin)
            await park()
            self.upstream_seconds = self.clock() - now
            reply.body = basin.contents()
        self.custody = None
        return reply

    def set_out(self, pool: Pool) -> None:
        """There is a connection to a container, and a request is about to be sent on it."""

    def break_off(self) -> None:
        """Leave whatever the walk waits at. A call in flight is dropped with its connection."""
        custody, self.custody = self.custody, None
        if custody is not None:
            custody.abandon(self)
