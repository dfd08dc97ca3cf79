"""A connection pool with guests that wait in it and a backend that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from gateway.core.backends import Backend
from gateway.core.faults import Fault, Refusal
from gateway.engine.exchange import Exchange
from gateway.engine.pools import Pool, Pooled
from gateway.engine.walking import interrupt, park, start
from tests.support.fakes import FakeClock, FakeLoop

IDLE, CONNECT = 10.0, 1.0


class FakeConnection:
    """A connection to the backend: idle, or in the hands of a guest."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.usable = True
        self.idle_since = 0.0
        self.closed = False

    def __repr__(self) -> str:
        return f"#{self.number}"

    def close(self) -> None:
        self.usable = False
        self.closed = True


class Guest:
    """A walk that wants a connection."""

    def __init__(self, pool: Pool, name: str = "") -> None:
        self.name = name
        self.custody: object = None
        self.walk: Coroutine[None, Any, None] | None = None
        self.got: FakeConnection | Fault | None = None
        self._pool = pool

    def __repr__(self) -> str:
        return f"guest {self.name}"

    async def _wait(self) -> None:
        self._pool.wait(cast(Exchange, self))
        try:
            self.got = await park()
        except Refusal as refusal:
            self.got = refusal.fault

    def enter(self) -> None:
        start(self, self._wait())

    def leave(self) -> None:
        """Give up waiting, as the walk of a client that left does."""
        self._pool.abandon(cast(Exchange, self))
        interrupt(self, Refusal(Fault.CLIENT_GONE))


class Hall:
    """A pool on a fake loop. Connections open when the test says so."""

    def __init__(self, limit: int = 2) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.dials: list[asyncio.Future[Pooled]] = []
        self.connections: list[FakeConnection] = []
        self.pool = Pool(
            Backend("10.0.0.5", 5001),
            self._dial,
            limit=limit,
            idle_timeout=IDLE,
            connect_timeout=CONNECT,
        )

    async def _dial(self, pool: Pool) -> Pooled:
        dial: asyncio.Future[Pooled] = asyncio.get_running_loop().create_future()
        self.dials.append(dial)
        try:
            return await dial
        finally:
            self.dials.remove(dial)

    def guest(self, name: str = "") -> Guest:
        guest = Guest(self.pool, name)
        self.loop.perform(guest.enter)
        return guest

    def connect(self) -> FakeConnection:
        """The oldest dial succeeds."""
        connection = FakeConnection(len(self.connections) + 1)
        connection.idle_since = self.clock()
        self.connections.append(connection)
        self.loop.perform(lambda: self.dials[0].set_result(cast(Pooled, connection)))
        return connection

    def refuse(self) -> None:
        """The oldest dial fails."""
        self.loop.perform(lambda: self.dials[0].set_exception(ConnectionRefusedError()))

    def release(self, connection: FakeConnection) -> None:
        connection.idle_since = self.clock()
        self.loop.perform(lambda: self.pool.release(cast(Pooled, connection)))

    def lose(self, connection: FakeConnection) -> None:
        connection.usable = False
        self.loop.perform(lambda: self.pool.lost(cast(Pooled, connection)))

    def take(self) -> FakeConnection | None:
        return cast("FakeConnection | None", self.pool.take(self.clock()))

    def idle(self, count: int) -> list[FakeConnection]:
        """So many connections that have served and wait to serve again, the oldest first."""
        guests = [self.guest() for _ in range(count)]
        connections = [self.connect() for _ in guests]
        for connection in connections:
            self.clock.advance(1)
            self.release(connection)
        return connections
