"""Plays the supervisor to a worker that runs in the loop of the test."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.app import load
from gateway.control.channel import Channel
from gateway.control.doors import listen
from gateway.control.messages import Commit, Counted, Door, Drain, Prepare
from gateway.core.allotting import Allotment
from gateway.engine.permits import Permits, SharedArea
from gateway.engine.tasks import spawn
from gateway.settings.materials import Gatherer
from gateway.worker import Snapshot, Worker


class Overseer:
    """A worker, and the messages to and from it. Use as an asynchronous context manager."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        #: The newest total of what was counted, as reports came.
        self.reports: list[Counted] = []
        self.generation = 0
        self.lost = asyncio.Event()
        self._news = asyncio.Event()
        self.channel = Channel(self._take, self.lost.set)
        self.worker: Worker
        self._ours: socket.socket
        self._running: asyncio.Task[None]
        self._sockets: dict[int, socket.socket] = {}

    async def __aenter__(self) -> Overseer:
        ours, theirs = socket.socketpair()
        self._ours, passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (ours, theirs):
            each.setblocking(False)
        self._area = SharedArea.create()
        self.worker = Worker(passing, Permits(self._area))
        self._passing = passing
        await self.channel.open(ours)
        self._running = spawn(self.worker.run(theirs), "worker")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._running.done():
            self.channel.send(Drain(0.0))
            await self._running
        self.channel.close()
        for sock in (self._ours, self._passing, *self._sockets.values()):
            sock.close()
        for number in self._area.descriptors.all:
            os.close(number)

    def _take(self, message: Any) -> None:
        if isinstance(message, Counted):
            self.reports.append(message)
        else:
            self.heard.append(message)
        self._news.set()

    async def hears(self, kind: type[Any]) -> Any:
        """The next message of a kind; those of other kinds before it are forgotten."""
        async with asyncio.timeout(10):
            while True:
                while self.heard:
                    message = self.heard.pop(0)
                    if isinstance(message, kind):
                        return message
                self._news.clear()
                await self._news.wait()

    def door(self, number: int, name: str = "listen") -> Door:
        """A new listening socket, passed to the worker."""
        sock = self._sockets[number] = listen(("127.0.0.1", 0), 16)
        socket.send_fds(self._ours, [b"%d" % number], [sock.fileno()])
        return Door(number, name, ("127.0.0.1", 0), 16)

    def address(self, number: int) -> tuple[str, int]:
        host, port = self._sockets[number].getsockname()
        return host, port

    def prepare(self, path: Path, environment: Mapping[str, str], doors: Sequence[Door]) -> int:
        """Have it prepare a configuration file; the number of the generation."""
        gatherer = Gatherer(environment)
        settings, source = load(path, gatherer.environment, gatherer.read_bytes)
        snapshot = Snapshot(settings, source.without_text(), gatherer.materials)
        self.generation += 1
        message = Prepare(self.generation, pickle.dumps(snapshot), Allotment(), tuple(doors))
        self.channel.send(message)
        return self.generation

    def commit(self) -> None:
        self.channel.send(Commit(self.generation))
