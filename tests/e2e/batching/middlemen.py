"""Programs between a client and a server that do not do what they should.

``Middleman`` passes requests on one by one, and commits faults on the way: those a network and a
container can have, and those only a wrong gateway has. ``Careless`` is a batcher as others are
(peers.md 2.2): it merges what comes at the same time without asking what it does to the answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from tests.e2e.batching.calling import Address, Caller, hang_up
from tests.support.raw import Answer, Closed

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REFUSAL = b'{"message": "An unexpected error occurred in scoring script."}'


async def _read_request(reader: StreamReader) -> bytes | None:
    """A whole request, None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _rendered(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [
        f"{name}: {value}"
        for name, value in answer.headers
        if name not in ("content-length", "transfer-encoding", "connection")
    ]
    lines.append(f"content-length: {len(answer.body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def _break_off(writer: StreamWriter) -> None:
    """Close with RST."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


def _failure(status: int, reason: str, failed: bool) -> bytes:
    headers = [("content-type", "application/json"), ("x-ms-run-function-failed", str(failed))]
    return _rendered(Answer(status, reason, headers, _REFUSAL))


@dataclass(slots=True, kw_only=True)
class Server:
    """Listens on loopback in the running loop. Use as an asynchronous context manager."""

    _server: asyncio.Server | None = field(default=None, init=False)
    _serving: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def address(self) -> Address:
        assert self._server is not None
        address: Address = self._server.sockets[0].getsockname()
        return address

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio would say that nobody asked what became of it
        finally:
            self._serving.discard(task)
            await hang_up(writer)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, which is closed afterwards."""
        raise NotImplementedError


#: Faults that a network and a container can have.
HONEST = ("refuse", "forget", "fail", "break", "busy", "cut")
Choose = Callable[[random.Random], str | None]


@dataclass(slots=True)
class Middleman(Server):
    """Passes requests on to ``upstream``, one by one per connection.

    ``choose`` says what happens to a request: None for nothing, ``slow`` for a late answer, one of
    ``HONEST``, or what only a wrong gateway does: ``swap`` the answer with another caller's,
    ``lose`` it, or send it ``double``. ``done`` counts what was done.
    """

    upstream: Address
    choose: Choose
    #: Is shown every request.
    notice: Callable[[bytes], None] | None = None
    done: Counter[str | None] = field(default_factory=Counter)
    _draw: random.Random = field(default_factory=lambda: random.Random(1))
    _other: Answer | None = None

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        caller = Caller(self.upstream)
        try:
            while (request := await _read_request(reader)) is not None:
                if self.notice is not None:
                    self.notice(request)
                fault = self.choose(self._draw)
                self.done[fault] += 1
                data = await self._treat(fault, request, caller)
                if data is None:
                    _break_off(writer)
                    return
                writer.write(data)
                if fault == "cut":
                    writer.close()
                    await writer.wait_closed()
                    return
        except (ConnectionError, Closed):
            pass
        finally:
            await caller.leave()

    async def _treat(self, fault: str | None, request: bytes, caller: Caller) -> bytes | None:
        """What is sent in answer, None for nothing at all and the end of the connection."""
        if fault == "refuse":
            return None
        if fault == "fail":
            return _failure(500, "INTERNAL SERVER ERROR", True)
        if fault == "break":
            return _failure(500, "INTERNAL SERVER ERROR", False)
        if fault == "busy":
            return _failure(503, "SERVICE UNAVAILABLE", False)
        if fault == "lose":
            await asyncio.sleep(3600)
        answer = await caller.ask(request)
        if fault == "forget":
            return None
        if fault == "slow":
            await asyncio.sleep(0.1)
        if fault == "swap":
            answer, self._other = self._other or answer, answer
        elif answer.status == 200:
            self._other = answer
        data = _rendered(answer)
        if fault == "double":
            return data + data
        return data[: len(data) - len(answer.body) // 2 - 1] if fault == "cut" else data


@dataclass(slots=True)
class Careless(Server):
    """Merges what comes within a few milliseconds, and passes it on to the service of the same name
    without batching. Everybody gets a part of the answer, or all of it if it is no list."""

    upstream: Address
    _waiting: list[tuple[bytes, asyncio.Future[Answer]]] = field(default_factory=list)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        while (request := await _read_request(reader)) is not None:
            done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, done))
            if len(self._waiting) == 1:
                await asyncio.sleep(0.02)
                await self._flush()
            writer.write(_rendered(await done))

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request, _ in waiting]
        merged: dict[str, Any] = bodies[0] | {
            "data": [row for sent in bodies for row in sent["data"]]
        }
        body = json.dumps(merged).encode()
        head = waiting[0][0].partition(b"\r\n\r\n")[0].replace(b"-on/", b"-off/", 1)
        length = b"\r\nContent-Length: %d" % len(body)
        caller = Caller(self.upstream)
        answer = await caller.ask(_LENGTH.sub(length, head) + b"\r\n\r\n" + body)
        await caller.leave()
        results = json.loads(answer.body)
        for sent, (_, done) in zip(bodies, waiting, strict=True):
            part = answer.body
            if isinstance(results, list):
                count = len(sent["data"])
                part, results = json.dumps(results[:count]).encode(), results[count:]
            headers = [pair for pair in answer.headers if pair[0] != "content-length"]
            done.set_result(Answer(answer.status, answer.reason, headers, part))
