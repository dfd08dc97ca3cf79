"""A worker: the data plane in a process of its own, with an event loop of its own.

It does what the supervisor says, and holds nothing that matters to anybody else: when it dies,
another takes its place. Its composition root is ``wiring.py``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import pickle
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import uvloop

from gateway.control.channel import Channel
from gateway.control.messages import (
    Abort,
    Commit,
    Count,
    Counted,
    Describe,
    Described,
    Door,
    Drain,
    Drained,
    Fetch,
    Fetched,
    Prepare,
    Prepared,
    Refused,
    Running,
)
from gateway.control.overview import describe_deployments, endpoint_statistics
from gateway.core.identity import request_ids
from gateway.core.series import Reporter
from gateway.core.statistics import ConnectionTally, Statistics
from gateway.edge.access_log import AccessLog, Writer
from gateway.edge.dialling import dial
from gateway.edge.listener import Listener
from gateway.engine.lag import LoopLag
from gateway.engine.permits import Descriptors, Permits, SharedArea
from gateway.engine.tasks import spawn
from gateway.logs import configure_logging
from gateway.settings.loading import BadConfiguration, Source
from gateway.settings.materials import Materials
from gateway.settings.schema import Settings
from gateway.wired import Wired
from gateway.wiring import Tools, wire_gently
from gateway.wiring_listening import adjust, make_listener, open_writer

_log = logging.getLogger("gateway")
# Seconds between two reports of what has been counted; they are signs of life, too.
REPORT = 0.5
# Objects made and not yet destroyed before the garbage collector looks at the youngest, and how
# often it does before it looks at the older ones.
COLLECT_AFTER = (50_000, 20, 50)
# How long the last lines of the access log may take.
_LAST_LINES = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One configuration as it was judged, with everything that it takes from outside."""

    settings: Settings
    source: Source
    materials: Materials


@dataclass(slots=True)
class _Prepared:
    """What will be served if the supervisor says so."""

    generation: int
    settings: Settings
    #: Folder that relative paths start from.
    base: Path
    wired: Wired
    doors: tuple[Door, ...]
    #: Where lines of the access log go from then on, if that changes.
    writer: Writer | None


class Worker:
    """The data plane, run by the supervisor's messages."""

    def __init__(self, passing: socket.socket, permits: Permits) -> None:
        """
        :param passing: where listening sockets come from.
        :param permits: shares places with the other workers.
        """
        self._passing = passing
        self._permits = permits
        self._channel = Channel(self._take, self._on_loss)
        # Until the first Commit. The snapshot itself is not kept: it holds secrets.
        self._settings = cast(Settings, None)
        self._base = Path()
        self._wired = cast(Wired, None)  # until the first Commit
        self._prepared: _Prepared | None = None
        #: The configuration that is being built, 0 if none is or if it is not wanted any more.
        self._building = 0
        #: The configuration that is served, 0 before the first one is.
        self._generation = 0
        self._sockets: dict[int, socket.socket] = {}
        self._listeners: dict[int, Listener] = {}
        #: Listeners whose address is not wanted any more; they finish what they have.
        self._leaving: set[Listener] = set()
        #: What was counted at those that have finished.
        self._departed = ConnectionTally(0)
        self._together = ConnectionTally(0)
        self._log = AccessLog(None, time.monotonic, time.time)
        self._reporter = Reporter()
        self._lag = LoopLag()
        self._fetches: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = count(1)
        self._stopping = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Worker, {len(self._listeners)} listeners>"

    async def run(self, channel: socket.socket) -> None:
        """Serve until the supervisor says that it is enough, or is gone."""
        await self._channel.open(channel)
        self._lag.start()
        self._report_regularly()
        self._expire_connections()
        await self._ended

    # What the supervisor says.

    def _take(self, message: Any) -> None:
        match message:
            case Prepare():
                self._abort()
                self._building = message.generation
                spawn(self._prepare(message), "prepare")
            case Commit():
                spawn(self._commit(message.generation), "commit")
            case Abort():
                self._abort()
            case Count():
                self._report()
            case Describe():
                state = self._describe() if self._generation else {}
                self._channel.send(Described(message.number, state))
            case Drain():
                spawn(self._drain(message.seconds), "drain")
            case Fetched():
                self._settle_fetch(message)

    def _on_loss(self) -> None:
        """The supervisor is gone: nobody will say when to end."""
        if not self._stopping:
            _log.error("the supervisor is gone: finishing what is in flight")
            grace = self._settings.listen.timeouts.drain if self._generation else 0.0
            spawn(self._drain(grace), "drain")

    async def _prepare(self, message: Prepare) -> None:
        self._receive(message.doors)
        snapshot: Snapshot = pickle.loads(message.payload)  # noqa: S301  the supervisor's
        try:
            prepared = await self._build(message, snapshot)
        except (BadConfiguration, OSError) as why:
            self._channel.send(Refused(message.generation, str(why)))
            return
        if self._building == message.generation:
            self._prepared = prepared
            self._channel.send(Prepared(message.generation))
        elif prepared.writer is not None:
            prepared.writer.finish()

    async def _build(self, message: Prepare, snapshot: Snapshot) -> _Prepared:
        """
        :raises BadConfiguration: it was good when it was judged, and is not any more.
        :raises OSError: the access log cannot be written.
        """
        settings, source = snapshot.settings, snapshot.source
        self._permits.adopt(message.allotment)
        tools = Tools(
            dial=lambda pool: dial(pool, time.monotonic),
            fetch=self._fetch,
            recorder=self._log,
            clock=time.monotonic,
            wall=time.time,
            draw=random.random,
            ids=request_ids(os.urandom),
            environment=snapshot.materials.environment,
            read_bytes=snapshot.materials.read_bytes,
            permits=self._permits,
            judges_dates=False,
        )
        # In slices: requests are served meanwhile.
        wired, mistakes = await wire_gently(settings, source, tools, self._wired)
        if mistakes:
            raise BadConfiguration(source, mistakes)
        moved = self._moves_log(settings, source.base)
        writer = open_writer(settings.access_log, source.base) if moved else None
        return _Prepared(message.generation, settings, source.base, wired, message.doors, writer)

    def _moves_log(self, settings: Settings, base: Path) -> bool:
        """Whether lines of the access log go elsewhere than before."""
        return not self._generation or (settings.access_log, base) != (
            self._settings.access_log,
            self._base,
        )

    async def _commit(self, generation: int) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared.generation != generation:
            raise AssertionError(f"generation {generation} was not prepared")
        if self._moves_log(prepared.settings, prepared.base):
            self._log.redirect(prepared.writer)
        prepared.wired.adopt()
        self._wired = prepared.wired
        self._settings, self._base = prepared.settings, prepared.base
        # Wherever somebody is connected, at an address that is left as well: a key that is taken
        # back opens nothing any more.
        for listener in (*self._listeners.values(), *self._leaving):
            listener.plane = self._wired.plane
        for door in prepared.doors:
            if door.number in self._listeners:
                adjust(self._listeners[door.number], door.name, self._settings, self._wired)
        for door in prepared.doors:
            if door.number not in self._listeners:
                await self._open(door)
        for number in self._listeners.keys() - {door.number for door in prepared.doors}:
            self._leave(number)
        first = not self._generation
        self._generation = generation
        if first:
            # What was built at start lives long: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            # Requests leave no cycles behind. By its own measure the collector would look for some
            # with every few of them, and always find those that are waiting.
            gc.set_threshold(*COLLECT_AFTER)
        # What is in use has been in a report, be it for less than the time between two of them.
        self._report()
        self._channel.send(Running(generation))

    def _abort(self) -> None:
        self._building = 0
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.writer is not None:
            prepared.writer.finish()

    async def _drain(self, seconds: float) -> None:
        """Finish the requests in flight, then close everything and end."""
        self._stopping = True
        listeners = [*self._listeners.values(), *self._leaving]
        cut_off = sum(await asyncio.gather(*(each.drain(seconds) for each in listeners)))
        if self._generation:
            self._wired.close()
        self._log.stop(_LAST_LINES)
        self._report()
        self._channel.send(Drained(cut_off))
        self._channel.close()
        if not self._ended.done():
            self._ended.set_result(None)

    # Listening sockets.

    def _receive(self, doors: tuple[Door, ...]) -> None:
        """Take the sockets of doors that are new; they come before the message."""
        for _ in [door for door in doors if door.number not in self._sockets]:
            number, (descriptor, *_), _, _ = socket.recv_fds(self._passing, 32, 1)
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            self._sockets[int(number)] = sock

    async def _open(self, door: Door) -> None:
        listener = make_listener(door.name, self._settings, self._wired)
        self._listeners[door.number] = listener
        await listener.start(self._sockets[door.number], door.backlog)

    def _leave(self, number: int) -> None:
        """Accept nothing more at an address, and let its connections finish."""
        listener = self._listeners.pop(number)
        self._sockets.pop(number)
        self._leaving.add(listener)
        grace = self._settings.listen.timeouts.drain
        spawn(self._see_off(listener, grace), "leaving an address")

    async def _see_off(self, listener: Listener, grace: float) -> None:
        await listener.drain(grace)
        self._leaving.discard(listener)
        self._departed.become_sum((self._departed, listener.tally))
        self._departed.limit = self._departed.open = 0

    # What the supervisor hears.

    def _report_regularly(self) -> None:
        asyncio.get_running_loop().call_later(REPORT, self._report_regularly)
        self._report()

    def _report(self) -> None:
        changes = self._reporter.report(self._statistics()) if self._generation else None
        self._channel.send(Counted(changes))

    def _statistics(self) -> Statistics:
        """What has been counted so far."""
        return Statistics(
            self._connections(),
            self._wired.tally,
            endpoint_statistics(self._wired.endpoints.values()),
            self._log.dropped,
            self._lag.tally,
            time.process_time(),
        )

    def _describe(self) -> Any:
        return describe_deployments(self._wired.endpoints.values(), time.monotonic())

    # What the live objects need.

    async def _fetch(self, url: str) -> bytes:
        """:raises OSError: it cannot be had; the message says why."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._fetches[number] = answer
        self._channel.send(Fetch(number, url))
        try:
            return await answer
        finally:
            del self._fetches[number]

    def _settle_fetch(self, message: Fetched) -> None:
        answer = self._fetches.get(message.number)
        if answer is None or answer.done():
            return
        if message.problem is not None:
            answer.set_exception(OSError(message.problem))
        else:
            answer.set_result(message.content)

    def _expire_connections(self) -> None:
        asyncio.get_running_loop().call_later(0.25, self._expire_connections)
        if self._generation:
            self._wired.expire(time.monotonic())

    def _connections(self) -> ConnectionTally:
        """What has happened to the connections of all listeners there ever were."""
        listeners = (*self._listeners.values(), *self._leaving)
        tallies = [self._departed, *(listener.tally for listener in listeners)]
        self._together.become_sum(tallies)
        return self._together


def main(arguments: Sequence[str]) -> None:
    """Run a worker.

    :param arguments: its number, the descriptors of its channel and of the socket that listening
        sockets come through, and those of what all workers share (``Descriptors.words``).
    """
    # Who stops the gateway stops the supervisor, and the supervisor stops the workers. A signal to
    # all processes of a terminal or service must not cut off what is in flight.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # A picture of the memory would show secrets; where a stuck worker is stuck is told in words.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    index, channel, passing = map(int, arguments[:3])
    configure_logging(worker=index)
    area = SharedArea.join(index, Descriptors.from_words(*arguments[3:]))
    uvloop.run(_run(socket.socket(fileno=channel), socket.socket(fileno=passing), Permits(area)))


async def _run(channel: socket.socket, passing: socket.socket, permits: Permits) -> None:
    channel.setblocking(False)
    await Worker(passing, permits).run(channel)


if __name__ == "__main__":
    main(sys.argv[1:])
