"""A gateway between fake transports whose configuration is a text that can be replaced.

Like ``Script``, but everything is built by ``wire``, as in a worker::

    with Plant(text) as plant:
        client = plant.ask()
        plant.reload(other_text)
        plant.container().answers(b"[1]")
        assert client.hears().text == "[1]"
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from gateway.control.overview import endpoint_statistics
from gateway.core.heads import HeadLimits
from gateway.core.series import Reporter
from gateway.core.statistics import LagTally, Statistics
from gateway.edge.listener import Listener
from gateway.edge.upstream import UpstreamConnection
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.pools import Pool
from gateway.settings.loading import Source, parse_source, validate
from gateway.settings.mistakes import Mistake
from gateway.settings.schema import Settings
from gateway.wired import Wired
from gateway.wiring import Tools, wire
from tests.support.fakes import FakeClock, FakeLoop, FakeRecorder, FakeTransport, Record
from tests.support.raw import request
from tests.support.script import PATIENCE, WALL, ClientSide, ContainerSide

KEY = "a-key-of-these-tests"
OTHER_KEY = "another-key-of-these-tests"
KEYS = {"KEY": KEY, "OTHER_KEY": OTHER_KEY}


def settled(text: str) -> tuple[Settings, Source]:
    """A text whose shape is good."""
    source = parse_source(text, Source("gateway.yaml", Path("/")))
    settings, mistakes = validate(source)
    assert settings is not None, mistakes
    assert mistakes == []
    return settings, source


def blue(settings: str, more: str = "", name: str = "blue", endpoint: str = "diabetes") -> str:
    """A configuration of one endpoint with one deployment.

    :param settings: of the deployment, in braces' notation without the braces.
    :param more: lines of the endpoint, indented by four spaces; ``auth`` must be among them if any.
    """
    more = more or "    auth: none"
    return (
        f"listen: 127.0.0.1:0\nendpoints:\n  {endpoint}:\n{more}\n"
        f"    deployments: {{{name}: {{{settings}}}}}\n"
    )


class Plant:
    """A gateway under a configuration. Use as a context manager: in the end everybody hangs up, and
    nothing must be left of anything that is no longer configured."""

    def __init__(self, text: str, environment: Mapping[str, str] = KEYS) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.recorder = FakeRecorder()
        self.environment = dict(environment)
        self.files: dict[Path, bytes] = {}
        #: What fetching keys brings, by URL.
        self.published: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.clients: list[ClientSide] = []
        self.containers: list[ContainerSide] = []
        #: Backends that cannot be reached.
        self.down: set[str] = set()
        #: Backends that let connections wait until it is set whether they are up.
        self.slow: dict[str, asyncio.Future[bool]] = {}
        #: Deployments that ever were.
        self.known: list[Deployment] = []
        #: The name of the backend that each connection was opened to.
        self.dialled: list[str] = []
        self.draws: Iterator[float] = itertools.repeat(0.5)
        self._claimed = 0
        self._reporter = Reporter()
        self._keys: list[tuple[str, ...]] = []
        self._told: dict[int, int] = {}
        self._numbers = itertools.count(1)
        self.wired = self._wire(text, None)
        self.listener = Listener(
            self.wired.plane,
            ids=(b"00000000-0000-4000-8000-%012d" % number for number in itertools.count(1)),
            limits=HeadLimits(),
            patience=PATIENCE,
            connections=1000,
            requests_per_connection=1000,
            clock=self.clock,
            wall=self.wall,
        )
        self.loop.complete(self.listener.start(cast(socket.socket, None), 128))
        self.loop.perform(self.wired.adopt)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for client in self.clients:
                    self.loop.perform(client.transport.abort)
                # One to close what nobody needs, and one to see that it is closed.
                self.sweep()
                self.sweep()
                self._check()
        finally:
            self.loop.perform(self.wired.close)
            self.loop.shut()

    def wall(self) -> float:
        return WALL + self.clock.now

    def tools(self) -> Tools:
        return Tools(
            dial=self._dial,
            fetch=self._fetch,
            recorder=self.recorder,
            clock=self.clock,
            wall=self.wall,
            draw=lambda: next(self.draws),
            ids=(b"batch-%d" % number for number in self._numbers),
            environment=self.environment,
            read_bytes=self.files.__getitem__,
        )

    def judge(self, text: str) -> list[Mistake]:
        """What is wrong with a configuration, as a successor of the running one."""
        return wire(*settled(text), self.tools(), self.wired)[1]

    def reload(self, text: str) -> None:
        """Another configuration takes over."""
        successor = self._wire(text, self.wired)

        def swap() -> None:
            successor.adopt()
            self.listener.plane = successor.plane

        self.wired = successor
        self.loop.perform(swap)

    def sweep(self) -> None:
        """What a worker does a few times a second."""
        self.loop.perform(lambda: self.wired.expire(self.clock.now))

    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)
        self.sweep()

    # Who is there.

    def client(self) -> ClientSide:
        accept = self.loop.accept
        assert accept is not None
        protocol = accept()
        side = ClientSide(self.loop, FakeTransport(self.loop, protocol))
        self.clients.append(side)
        self.loop.perform(lambda: protocol.connection_made(side.transport))
        return side

    def ask(
        self, body: bytes = b"[0]", *, endpoint: str = "diabetes", key: str | None = None
    ) -> ClientSide:
        """A new client asks."""
        client = self.client()
        client.says(request(f"/api/v1/service/{endpoint}/score", body, key=key))
        return client

    def container(self) -> ContainerSide:
        """The next connection that the gateway has opened."""
        assert self._claimed < len(self.containers), "no further connection was opened"
        self._claimed += 1
        return self.containers[self._claimed - 1]

    def endpoint(self, name: str = "diabetes") -> Endpoint:
        return self.wired.endpoints[name]

    def deployment(self, name: str = "blue", endpoint: str = "diabetes") -> Deployment:
        return next(d for d in self.wired.endpoints[endpoint].deployments if d.name == name)

    @property
    def records(self) -> list[Record]:
        return self.recorder.records

    def counted(self, kind: str) -> Counter[str]:
        """What a worker has told of its counters so far, by their labels: the first number of each
        block of a kind (see core/blocks.py)."""
        statistics = Statistics(
            self.listener.tally,
            self.wired.tally,
            endpoint_statistics(self.wired.endpoints.values()),
            0,
            LagTally(),
            0.0,
        )
        report = self._reporter.report(statistics)
        self._keys += report.new
        for number, block in report.changes.items():
            self._told[number] = block % 2**64 if block else 0
        return Counter(
            {
                " ".join(self._keys[number][1:]): count
                for number, count in self._told.items()
                if self._keys[number][0] == kind
            }
        )

    @property
    def open(self) -> list[str]:
        """Backends that connections are open to, one for each."""
        pairs = zip(self.dialled, self.containers, strict=True)
        return sorted(name for name, side in pairs if side.fate == "open")

    def _wire(self, text: str, previous: Wired | None) -> Wired:
        wired, mistakes = wire(*settled(text), self.tools(), previous)
        assert mistakes == []
        self.known += [d for d in wired.deployments if d not in self.known]
        return wired

    async def _dial(self, pool: Pool) -> UpstreamConnection:
        if pool.name in self.slow and not await self.slow[pool.name]:
            raise ConnectionRefusedError
        if pool.name in self.down:
            raise ConnectionRefusedError
        connection = UpstreamConnection(pool, self.clock)
        transport = FakeTransport(self.loop, connection, pool.backend.host)
        self.dialled.append(pool.name)
        self.containers.append(ContainerSide(self.loop, transport, len(self.containers) + 1))
        connection.connection_made(transport)
        return connection

    async def _fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if url not in self.published:
            raise OSError("nothing is published there")
        return self.published[url]

    def _check(self) -> None:
        assert self.loop.mishaps == []
        parties = [*self.clients, *self.containers]
        assert [misuse for party in parties for misuse in party.transport.misuse] == []
        assert self.wired.departed == []
        configured = {pool for d in self.wired.deployments for pool in d.pools}
        for deployment in self.known:
            assert deployment.tally.in_flight == 0
            assert (deployment.slots.busy, deployment.slots.waiting) == (0, 0)
            for pool in deployment.pools:
                assert pool.busy == 0
                assert pool in configured or pool.open == 0, "a connection is left"
