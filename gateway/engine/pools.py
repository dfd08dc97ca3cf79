"""Connections to one backend: kept, handed out, bounded."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

from gateway.core.backends import Backend
from gateway.core.faults import Fault, Refusal
from gateway.core.shapes import ReplyShapes
from gateway.core.statistics import BackendTally
from gateway.engine.exchange import Caller, Connection
from gateway.engine.tasks import spawn
from gateway.engine.walking import interrupt, resume

_log = logging.getLogger("gateway")


class Untrusted(OSError):
    """What answers at a backend's address is not what it should be; the message says why."""


class Encryption(NamedTuple):
    """How connections to a backend are encrypted: with which settings, and for which name its
    certificate must be."""

    context: ssl.SSLContext
    server_name: str


class Pooled(Connection, Protocol):
    """A connection, as its pool sees it."""

    #: Monotonic seconds when it last finished a request, or was opened.
    idle_since: float

    @property
    def usable(self) -> bool:
        """Neither side has closed it."""

    def close(self) -> None: ...


class Pool:
    """Keep-alive connections to one backend.

    The connection used last is used next, so that under little load the others grow old and are
    closed. ``idle_timeout`` must be shorter than the backend's own keep-alive, or requests are
    sent into connections that are just being closed (RFC 9112 section 9.3.1, reliability.md T26).
    """

    __slots__ = (
        "_dial",
        "_dialling",
        "_idle",
        "_open",
        "_waiting",
        "_spare",
        "backend",
        "busy",
        "closes",
        "connect_timeout",
        "distrust",
        "encryption",
        "host_line",
        "idle_timeout",
        "limit",
        "name",
        "prefix",
        "retired",
        "shapes",
        "tally",
    )

    def __init__(
        self,
        backend: Backend,
        dial: Callable[[Pool], Awaitable[Pooled]],
        *,
        limit: int,
        idle_timeout: float,
        connect_timeout: float,
        encryption: Encryption | None = None,
    ) -> None:
        """
        :param dial: opens a connection; raises ``OSError`` when it cannot.
        :param limit: connections at most; further requests wait for one.
        :param idle_timeout: seconds that an unused connection is kept.
        :param connect_timeout: seconds to open one.
        :param encryption: for a backend that is ``secure``; whoever replaces it changes connections
            that are opened from then on.
        """
        self.backend = backend
        self.name = backend.name
        self.host_line = backend.host_line
        self.prefix = backend.prefix
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.connect_timeout = connect_timeout
        self.encryption = encryption
        #: Why what answers at the backend's address is not believed to be the backend.
        self.distrust = ""
        self.tally = BackendTally()
        #: Places at the backend that are taken.
        self.busy = 0
        #: No connection is kept any more.
        self.retired = False
        #: How this backend's answers look.
        self.shapes = ReplyShapes()
        self._dial = dial
        self._idle: deque[Pooled] = deque()
        self._open = 0
        self._dialling = 0
        #: The backend closes a connection after each answer.
        self.closes = False
        #: A connection for whoever is next, which has not served yet.
        self._spare: Pooled | None = None
        self._waiting: deque[Caller] = deque()

    def __repr__(self) -> str:
        idle, waiting = len(self._idle), len(self._waiting)
        return f"<Pool {self.name}: {self._open} open, {idle} idle, {waiting} waiting>"

    @property
    def open(self) -> int:
        """Connections that exist or are being opened."""
        return self._open

    def take(self, now: float) -> Pooled | None:
        """An idle connection, None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < self.idle_timeout:
                return connection
            connection.close()
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.usable else None

    def prepare(self) -> None:
        """Open a connection for whoever is next, while the backend is still busy.

        With a backend that closes each connection, the next request would have to wait for a new
        one, and in a busy loop that is behind everything else that there is to do. Somebody must be
        waiting: a backend with one thread that finds a silent connection serves nobody else.
        """
        # Those who wait for a connection already will have what is being opened.
        spoken_for = len(self._waiting)
        if (
            self.closes
            and self._spare is None
            and self._dialling <= spoken_for
            and self._open < self.limit
        ):
            self._dial_one()

    def dismiss(self) -> None:
        """Nobody is next."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    def wait(self, caller: Caller) -> None:
        """Queue for a connection: the walk parks and is resumed with one, first come first served.

        It is interrupted with ``NO_BACKEND`` when the backend cannot be reached.
        """
        caller.custody = self
        self._waiting.append(caller)
        self._grow()

    def abandon(self, caller: Caller) -> None:
        self._waiting.remove(caller)

    def release(self, connection: Pooled) -> None:
        """Take back a connection that can serve another request."""
        if self._waiting and connection.usable:
            resume(self._waiting.popleft(), connection)
        elif self.retired:
            connection.close()
        else:
            self._idle.append(connection)

    def lost(self, connection: Pooled) -> None:
        """A connection is gone, whatever it was doing."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection is self._spare:
            self._spare = None
        self._grow()

    def expire(self, now: float) -> None:
        """Close what has been idle for too long."""
        while self._idle and now - self._idle[0].idle_since >= self.idle_timeout:
            self._idle.popleft().close()
        if self._spare is not None and now - self._spare.idle_since >= self.idle_timeout:
            self.dismiss()

    def close(self) -> None:
        """Close every idle connection; those in use are closed by whoever uses them."""
        self.dismiss()
        while self._idle:
            self._idle.pop().close()

    def retire(self) -> None:
        """Keep no connection any more. Whoever still comes gets one, which is closed afterwards."""
        self.retired = True
        self.close()

    def refit(self, limit: int, idle_timeout: float, connect_timeout: float) -> None:
        """Other bounds hold from now on. Connections above the limit are not missed: they grow old
        like any other."""
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.connect_timeout = connect_timeout
        for _ in range(len(self._waiting)):
            self._grow()

    def _grow(self) -> None:
        """Open a connection if somebody waits for one and there may be more."""
        if len(self._waiting) > self._dialling and self._open < self.limit:
            self._dial_one()

    def _dial_one(self) -> None:
        self._open += 1
        self._dialling += 1
        spawn(self._connect(), f"connect {self.name}")

    async def _connect(self) -> None:
        self.tally.connects += 1
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection = await self._dial(self)
        except Exception as error:  # noqa: BLE001  a name that cannot be encoded is a UnicodeError
            if not isinstance(error, OSError):  # TimeoutError is one
                _log.warning("cannot connect to %s: %s", self.name, error)
            self._dialling -= 1
            self._open -= 1
            self.tally.connect_failures += 1
            self._note_distrust(str(error) if isinstance(error, Untrusted) else "")
            # It is this backend that cannot be reached, so nobody gains by waiting for it. The
            # walk decides whether another backend is tried.
            if self._waiting:
                interrupt(self._waiting.popleft(), Refusal(Fault.NO_BACKEND, "cannot connect"))
            self._grow()
        else:
            self._dialling -= 1
            self._note_distrust("")
            if connection.usable and (self._waiting or not self.closes):
                self.release(connection)
            elif connection.usable and self.busy and self._spare is None:
                self._spare = connection
            elif connection.usable:
                # Whoever wanted it has left. A container with one thread would wait for a request
                # on it, and for nothing else.
                connection.close()
            elif self._waiting:
                why = Refusal(Fault.NO_BACKEND, "the backend closed the connection at once")
                interrupt(self._waiting.popleft(), why)

    def _note_distrust(self, why: str) -> None:
        """Once, not with every request that finds out."""
        if why and why != self.distrust:
            _log.warning("%s is not trusted: %s", self.name, why)
        self.distrust = why


def out_of_reach(pools: Iterable[Pool]) -> Refusal:
    """What to say when no backend of a deployment can be reached."""
    for pool in pools:
        if pool.distrust:
            return Refusal(Fault.UPSTREAM_UNTRUSTED, f"{pool.name}: {pool.distrust}")
    return Refusal(Fault.NO_BACKEND, "no backend of the deployment can be reached")
