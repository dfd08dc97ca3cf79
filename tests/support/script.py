"""A test language for the data plane: who says what, and who hears what.

``Script`` puts a whole gateway between fake transports. A test reads as a script::

    with Script() as script:
        client = script.client()
        client.says(request(key=KEY))
        container = script.container()
        assert container.hears().line == "POST /score HTTP/1.1"
        container.answers(b"[1]")
        assert client.hears().text == "[1]"
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from gateway.core.backends import Backend
from gateway.core.cors import Cors
from gateway.core.dialects import V1, Dialect
from gateway.core.faults import Fault
from gateway.core.forwarding import Forwarding
from gateway.core.gates import Gate
from gateway.core.heads import HeadLimits
from gateway.core.keys import KeyRing
from gateway.core.routing import Router
from gateway.core.statistics import Tally
from gateway.core.traffic import Traffic
from gateway.edge.listener import Listener, Plane
from gateway.edge.phases import Patience
from gateway.edge.upstream import UpstreamConnection
from gateway.engine.batching import Batcher, BatchRules
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.keepers import KeyKeeper
from gateway.engine.permits import Sharing
from gateway.engine.pipeline import Pipeline
from gateway.engine.pools import Pool
from gateway.engine.reading import HeadReader
from gateway.engine.slots import Slots
from tests.support.backends import Seen
from tests.support.fakes import (
    CLIENT,
    TCP_CLOSE,
    FakeClock,
    FakeLoop,
    FakeRecorder,
    FakeTransport,
    Record,
)
from tests.support.gateways import KEY, SECOND_KEY
from tests.support.raw import Answer, RawClient

# 2026-01-01 00:00:00 UTC, when the clock shows 0.
WALL = 1767225600.0
PATIENCE = Patience()
LIMITS = HeadLimits()


class _Tape(RawClient):
    """Reads what one end was sent as strictly as a client reads a socket."""

    def __init__(self, transport: FakeTransport) -> None:
        self._transport = transport
        self._buffer = b""
        self._read = 0

    def receive(self) -> bytes:
        data = bytes(self._transport.sent[self._read :])
        self._read += len(data)
        return data

    def rest(self) -> bytes:
        data, self._buffer = self._buffer + self.receive(), b""
        return data

    def request(self, number: int) -> Seen:
        """The next request. A chunked body is decoded."""
        head = self._until(b"\r\n\r\n")
        seen = Seen(head, b"", number)
        length, coding = seen.header("content-length"), seen.header("transfer-encoding")
        assert length is None or coding is None, head
        if length is not None:
            seen.body = self._exactly(int(length))
        elif coding is not None:
            assert coding == "chunked", head
            seen.body = self._chunks()
        return seen


class _Side:
    """One of the parties that the gateway talks with."""

    def __init__(self, loop: FakeLoop, transport: FakeTransport) -> None:
        self._loop = loop
        self.transport = transport
        self._tape = _Tape(transport)

    @property
    def fate(self) -> str:
        """What the gateway has made of the connection: ``open``, ``shut`` (it will say no more but
        still listens), ``closing``, ``closed`` or ``aborted``."""
        transport = self.transport
        if transport.aborted:
            return "aborted"
        if transport.lost:
            return "closed"
        if transport.is_closing():
            return "closing"
        return "shut" if transport.shut else "open"

    def says(self, *pieces: bytes) -> None:
        """Send bytes; each piece arrives on its own."""

        def deliver() -> None:
            for piece in pieces:
                self.transport.deliver(piece)

        self._loop.perform(deliver)

    def says_slowly(self, data: bytes) -> None:
        """Send bytes one by one, with a turn of the loop after each."""
        for at in range(len(data)):
            self.says(data[at : at + 1])

    def ends(self, *last_words: bytes) -> None:
        """Send FIN, in the same breath as the last words."""

        def deliver() -> None:
            for piece in (*last_words, None):
                self.transport.deliver(piece)

        self._loop.perform(deliver)

    def breaks(self) -> None:
        """The connection is reset."""
        self._loop.perform(lambda: self.transport.deliver(ConnectionResetError("reset")))

    def takes(self, count: int | None) -> None:
        """Take so many more bytes; at first everything is taken, after ``takes(0)`` nothing."""
        self._loop.perform(lambda: self.transport.take(count))

    def hears_nothing(self) -> bool:
        return not self.heard()

    def heard(self) -> bytes:
        """Everything that came and was not heard yet, as bytes."""
        return self._tape.rest()


class ClientSide(_Side):
    """A client with its connection to the gateway."""

    def hears(self, *, head_only: bool = False) -> Answer:
        """The next answer, complete.

        :raises Closed: there is none, or only a part.
        """
        return self._tape.answer(head_only)

    def dies(self) -> None:
        """Be gone without a word, after a FIN: only TCP knows."""
        self.transport.socket.state = TCP_CLOSE


class ContainerSide(_Side):
    """A container with one connection from the gateway."""

    def __init__(self, loop: FakeLoop, transport: FakeTransport, number: int) -> None:
        super().__init__(loop, transport)
        self.number = number

    def hears(self) -> Seen:
        """The next request, complete.

        :raises Closed: there is none, or only a part.
        """
        return self._tape.request(self.number)

    def answers(self, body: bytes = b"[1]", head: str = "HTTP/1.1 200 OK\r\n") -> None:
        """Send a whole answer in one piece."""
        self.says(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@dataclass(slots=True)
class Setup:
    """What a script's gateway is like. Everything has a plain default."""

    backends: tuple[Backend, ...] = (Backend("10.0.0.5", 5001),)
    dialect: Dialect = V1
    gate: Gate | None = None
    keeper: KeyKeeper | None = None
    cors: Cors | None = None
    timeout: float = 60.0
    body_limit: int = 1 << 20
    buffer: int = 1 << 18
    forward_credentials: bool = False
    limit: int = 4
    concurrency: int = 1000
    max_wait: float = 0.5
    max_length: int = 1000
    batching: BatchRules | None = None
    #: Shares the places with other workers.
    permits: Sharing | None = None
    idle_timeout: float = 10.0
    connect_timeout: float = 1.0
    patience: Patience = PATIENCE
    limits: HeadLimits = LIMITS
    connections: int = 100
    requests_per_connection: int = 1000
    trusted: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None


class Script:
    """A gateway with one endpoint, ``diabetes``, and one deployment, ``blue``.

    At the end everybody hangs up, and what must hold of any story is checked: every request was
    recorded once and counted once, nothing is in flight, no pool has lost count of its connections,
    and no transport was misused.
    """

    def __init__(self, setup: Setup | None = None, clock: FakeClock | None = None) -> None:
        self.setup = setup = setup or Setup()
        self.clock = clock or FakeClock()
        self.loop = FakeLoop(self.clock)
        self.recorder = FakeRecorder()
        self.requests = 0
        self.clients: list[ClientSide] = []
        self.containers: list[ContainerSide] = []
        #: Ports of backends that cannot be reached, and of those that do not answer a SYN.
        self.down: set[int] = set()
        self.silent: set[int] = set()
        #: A test makes the gateway itself fail.
        self.may_fail = False
        self._claimed = 0
        keys = KeyRing({"primary": KEY, "secondary": SECOND_KEY})
        self.pools = [
            Pool(
                backend,
                self._dial,
                limit=setup.limit,
                idle_timeout=setup.idle_timeout,
                connect_timeout=setup.connect_timeout,
            )
            for backend in setup.backends
        ]
        batcher = None
        if setup.batching is not None:
            batcher = Batcher("blue", setup.batching, clock=self.clock, ids=self._batch_ids())
        permit = None
        if setup.permits is not None:
            permit = setup.permits.at("diabetes", "blue", setup.backends, setup.concurrency)
        slots = Slots(
            self.pools,
            concurrency=setup.concurrency,
            max_wait=setup.max_wait,
            max_length=setup.max_length,
            clock=self.clock,
            batcher=batcher,
            permit=permit,
        )
        self.deployment = Deployment("blue", slots)
        self.endpoint = Endpoint(
            "diabetes",
            dialect=setup.dialect,
            gate=setup.gate or Gate(keys, None),
            keeper=setup.keeper,
            cors=setup.cors,
            traffic=Traffic({"blue": self.deployment}, {}, "blue"),
            deployments=[self.deployment],
            timeout=setup.timeout,
            body_limit=setup.body_limit,
            forward_credentials=setup.forward_credentials,
        )
        self.unrouted = Tally()
        self.pipeline = Pipeline(
            recorder=self.recorder,
            tally=self.unrouted,
            buffer=setup.buffer,
            clock=self.clock,
            wall=self.wall,
            draw=lambda: 0.5,
        )
        reader = HeadReader(Router({"diabetes": self.endpoint}, {}), setup.limits, setup.timeout)
        self.listener = Listener(
            Plane(reader, self.pipeline, Forwarding(setup.trusted), setup.timeout),
            ids=self._ids(),
            limits=setup.limits,
            patience=setup.patience,
            connections=setup.connections,
            requests_per_connection=setup.requests_per_connection,
            clock=self.clock,
            wall=self.wall,
            tls=setup.tls,
        )
        self.loop.complete(self.listener.start(cast(socket.socket, None), 128))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for party in (*self.clients, *self.containers):
            party.transport.room = None
            self.loop.perform(party.transport.abort)
        try:
            if error is None:
                self._check()
        finally:
            self.loop.shut()

    def wall(self) -> float:
        return WALL + self.clock.now

    @property
    def pool(self) -> Pool:
        return self.pools[0]

    @property
    def records(self) -> list[Record]:
        return self.recorder.records

    def client(self, address: str = CLIENT, room: int | None = None) -> ClientSide:
        """A new client connects. ``room`` is how many bytes it takes of its own accord."""
        accept = self.loop.accept
        assert accept is not None
        protocol = accept()
        side = ClientSide(self.loop, FakeTransport(self.loop, protocol, address))
        side.transport.room = room
        self.clients.append(side)
        self.loop.perform(lambda: protocol.connection_made(side.transport))
        return side

    def container(self) -> ContainerSide:
        """The next connection that the gateway has opened."""
        assert self._claimed < len(self.containers), "no further connection was opened"
        self._claimed += 1
        return self.containers[self._claimed - 1]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.pass_time(seconds)

    def _ids(self) -> Iterator[bytes]:
        while True:
            self.requests += 1
            yield b"00000000-0000-4000-8000-%012d" % self.requests

    def _batch_ids(self) -> Iterator[bytes]:
        for number in itertools.count(1):
            yield b"batch-%d" % number

    async def _dial(self, pool: Pool) -> UpstreamConnection:
        if pool.backend.port in self.down:
            raise ConnectionRefusedError
        if pool.backend.port in self.silent:
            await asyncio.get_running_loop().create_future()
        connection = UpstreamConnection(pool, self.clock)
        transport = FakeTransport(self.loop, connection, pool.backend.host)
        self.containers.append(ContainerSide(self.loop, transport, len(self.containers) + 1))
        connection.connection_made(transport)
        return connection

    def _check(self) -> None:
        assert self.loop.mishaps == []
        misuse = [m for p in (*self.clients, *self.containers) for m in p.transport.misuse]
        assert misuse == []
        assert len(self.records) == self.requests
        assert self.may_fail or all(r.fault is not Fault.INTERNAL for r in self.records)
        tallies = (self.unrouted, self.endpoint.tally, self.deployment.tally)
        assert [tally.in_flight for tally in tallies] == [0, 0, 0]
        assert sum(sum(tally.codes.values()) for tally in tallies) == self.requests
        assert self.listener.tally.open == 0
        slots = self.deployment.slots
        assert (slots.busy, slots.waiting) == (0, 0), "every place is given back"
        for pool in self.pools:
            dialling = pool.backend.port in self.silent
            assert dialling or repr(pool) == f"<Pool {pool.name}: 0 open, 0 idle, 0 waiting>"
