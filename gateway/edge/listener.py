"""A listening socket with its connections: bounded, swept, drained."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.core.forwarding import Forwarding
from gateway.core.heads import HeadLimits
from gateway.core.statistics import ConnectionTally
from gateway.edge.handshakes import COURTESY, Handshakes
from gateway.edge.phases import Patience
from gateway.edge.responses import date_line
from gateway.edge.server import Downstream
from gateway.edge.sides import ServerSide
from gateway.engine.pipeline import Pipeline
from gateway.engine.reading import HeadReader

# Times are kept to within an eighth of the shortest, but the sweep never runs more often than this.
_MIN_SWEEP, _MAX_SWEEP = 0.02, 0.25
# Seconds in which whoever is connected, and asks every now and then, has been told to go.
_PARTING = 0.5


@dataclass(frozen=True, slots=True)
class Plane:
    """Everything that one configuration decides about requests; replaced whole."""

    reader: HeadReader
    pipeline: Pipeline
    forwarding: Forwarding
    #: The shortest time limit of any endpoint, in seconds.
    shortest: float


class Listener:
    """Accepts connections and looks after them."""

    def __init__(
        self,
        plane: Plane,
        *,
        ids: Iterator[bytes],
        limits: HeadLimits,
        patience: Patience,
        connections: int,
        requests_per_connection: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.plane = plane
        #: With what connections that come are encrypted; those that are there keep what they have.
        self.tls = tls
        self.ids = ids
        self.limits = limits
        self.patience = patience
        self.requests_per_connection = requests_per_connection
        self.clock = clock
        #: Every answer is the last one on its connection.
        self.draining = False
        #: Who is not being served has to go.
        self.closing = False
        self.tally = ConnectionTally(connections)
        self._handshakes = Handshakes(self.tally, clock, self._recount)
        self._wall = wall
        #: The ``Date`` line of answers; the sweep keeps it within a quarter of a second.
        self.date = date_line(wall())
        self._connections: set[Downstream] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop
        self._empty = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Listener, {len(self._connections)} of {self.tally.limit} connections>"

    async def start(self, bound: socket.socket, backlog: int) -> None:
        """Accept connections on a bound socket."""
        self.loop = asyncio.get_running_loop()
        self._server = await self.loop.create_server(self._greet, sock=bound, backlog=backlog)
        self._sweep()

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"

    def _greet(self) -> asyncio.Protocol:
        """Who speaks with the next client."""
        if self.tls is None:
            return Downstream(self)
        due = self.clock() + self.patience.handshake
        return ServerSide(self.tls, self._handshakes, lambda: Downstream(self), due)

    def opened(self, connection: Downstream) -> bool:
        """Note a new connection; False if there are too many. Far too many are cut off at once."""
        tally = self.tally
        self._connections.add(connection)
        tally.accepted += 1
        self._recount()
        if tally.open > tally.limit:
            tally.refused += 1
            if tally.open > tally.limit + COURTESY:
                connection.abort()
            return False
        return True

    def closed(self, connection: Downstream) -> None:
        self._connections.discard(connection)
        self._recount()

    def _recount(self) -> None:
        self.tally.open = len(self._connections) + len(self._handshakes)
        if not self.tally.open:
            self._empty.set()

    def _sweep(self) -> None:
        """Look at every connection whose time has come.

        A pass over ten thousand connections costs half a millisecond; a timer for each would cost
        more than that with every thousand requests.
        """
        patience = self.patience
        shortest = min(
            patience.head, patience.body, patience.idle, patience.write, patience.linger,
            patience.handshake, self.plane.shortest,
        )  # fmt: skip
        pause = min(max(shortest / 8, _MIN_SWEEP), _MAX_SWEEP)
        # First of all, so that nothing that goes wrong below can end it.
        self._sweeper = self.loop.call_later(pause, self._sweep)
        self.date = date_line(self._wall())
        now = self.clock()
        for connection in [c for c in self._connections if c.due <= now]:
            # A request that ends may let another go on, which changes when that one is due.
            if connection.due <= now:
                connection.expire(now)
        self._handshakes.expire(now)

    async def drain(self, seconds: float) -> int:
        """Stop accepting and let requests in flight finish; how many connections were cut off.

        A request that is sent while its connection is closed gets no answer, and its client cannot
        tell what has become of it. So those who are there may go on asking for a moment, with every
        answer telling them to go elsewhere. Those who come back all the same are let in for half of
        it, which leaves the last of them the other half to ask.
        """
        self.draining = True
        parting = min(_PARTING, seconds / 2) if self.tally.open else 0.0
        if parting:
            await asyncio.sleep(parting / 2)
        if self._server is not None:
            self._server.close()
        if parting:
            await asyncio.sleep(parting / 2)
        self.closing = True
        for connection in list(self._connections):
            connection.shut()
        try:
            async with asyncio.timeout(seconds - parting):
                while self.tally.open:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            pass
        # Those who are being served last, or their places would be taken by those who wait.
        left = sorted(self._connections, key=lambda connection: connection.is_served)
        for connection in left:
            connection.give_up()
        for connection in left:
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        return len(left) + self._handshakes.abort()
