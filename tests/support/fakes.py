"""The world under the gateway's objects, played by the test: time, event loop, transports.

Nothing here sleeps and nothing opens a socket: time passes when the test says so.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple

from gateway.core.faults import Fault
from gateway.engine.exchange import Exchange

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CLIENT = "192.0.2.7"
# Enough turns of the loop for whatever one event sets in motion.
TURNS = 6
TCP_ESTABLISHED, TCP_CLOSE = 1, 7


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeServer:
    """What ``create_server`` returns."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a ``FakeClock`` and whose servers are doors for fake clients."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._fake_clock = clock
        self._timers: list[float] = []
        self.mishaps: list[dict[str, Any]] = []
        self.accept: Callable[[], asyncio.Protocol] | None = None
        self.server = FakeServer()
        self.set_exception_handler(lambda _, context: self.mishaps.append(context))

    def time(self) -> float:
        return self._fake_clock.now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._timers.append(when)
        return super().call_at(when, callback, *args, context=context)

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        self.accept = protocol_factory
        return self.server

    def perform(self, action: Callable[[], T]) -> T:
        """Do something inside the loop, and everything that follows from it."""

        async def do() -> T:
            result = action()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return result

        return self.run_until_complete(do())

    def complete(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(coroutine)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; every timer on the way fires at its own moment."""
        clock = self._fake_clock
        end = clock.now + seconds
        while True:
            self._timers = [when for when in self._timers if when > clock.now]
            due = min(self._timers, default=end)
            if due >= end:
                break
            clock.now = due
            self.perform(lambda: None)
        clock.now = end
        self.perform(lambda: None)

    def shut(self) -> None:
        """Cancel what still runs, and close."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks))
        self.close()


class FakeSocket:
    """What may be asked and told of a socket behind its transport's back."""

    def __init__(self) -> None:
        #: State of the TCP connection.
        self.state = TCP_ESTABLISHED
        #: Closing sends RST instead of FIN.
        self.resets = False

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.resets = value == struct.pack("ii", 1, 0)

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        assert (level, option, length) == (socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bytes((self.state,))


class FakeTransport(asyncio.Transport):
    """One end of a TCP connection whose other end and whose wire are the test's.

    It keeps the promises of asyncio's own: what is written waits while the other side does not
    take it, ``pause_writing`` and ``resume_writing`` are called at the marks, ``close`` and
    ``write_eof`` act when all has left, ``connection_lost`` comes once and later, and what arrives
    while reading is paused waits. What uvloop would raise for is noted as ``misuse``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, peer: str = CLIENT
    ) -> None:
        self.socket = FakeSocket()
        super().__init__({"peername": (peer, 40000), "socket": self.socket})
        self.protocol = protocol
        self.misuse: list[str] = []
        #: What has left for the other side, and in how many calls it was written.
        self.sent = bytearray()
        self.writes: list[bytes] = []
        self.gathered = 0
        #: Bytes that the other side still takes; None for any number.
        self.room: int | None = None
        self.reading = True
        self.aborted = False
        self.shut = False
        self.lost = False
        self._loop = loop
        self._high, self._low = 65536, 16384
        self._waiting = bytearray()
        self._inbox: deque[bytes | Exception | None] = deque()
        self._protocol_paused = False
        self._closing = False
        self._eof = False

    # What the protocol asks.

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self.reading and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high
        self._low = self._high // 4 if low is None else low
        self._push()

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def write(self, data: Any) -> None:
        if self.lost or self._eof:
            self.misuse.append(f"write({bytes(data)[:40]!r}) after the end")
            raise RuntimeError("cannot write any more")
        if not data or self._closing:
            return
        self.writes.append(bytes(data))
        self._waiting += data
        self._push()

    def writelines(self, list_of_data: Any) -> None:
        self.gathered += 1
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._eof = True
        self._push()

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading and not self._closing:
            self.reading = True
            self._loop.call_soon(self._pump)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._push()

    def abort(self) -> None:
        self.aborted |= not self.lost
        self._closing = True
        self._waiting.clear()
        self._loop.call_soon(self._lose, None)

    # What the other end does.

    def deliver(self, data: bytes | Exception | None) -> None:
        """Bytes arrive, None for FIN, an exception for RST."""
        self._inbox.append(data)
        self._pump()

    def take(self, count: int | None) -> None:
        """The other side takes so many more bytes; None for all there will ever be."""
        self.room = count if count is None else (self.room or 0) + count
        self._push()

    def _pump(self) -> None:
        while self._inbox and self.is_reading():
            data = self._inbox.popleft()
            if data is None:
                if not self.protocol.eof_received():
                    self.close()
            elif isinstance(data, Exception):
                self._closing = True
                self._lose(data)
            else:
                self.protocol.data_received(data)

    def _push(self) -> None:
        count = len(self._waiting) if self.room is None else min(self.room, len(self._waiting))
        self.sent += self._waiting[:count]
        del self._waiting[:count]
        if self.room is not None:
            self.room -= count
        size = len(self._waiting)
        if size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self.protocol.pause_writing()
        elif size <= self._low and self._protocol_paused:
            self._protocol_paused = False
            self.protocol.resume_writing()
        if not self._waiting:
            self.shut |= self._eof
            if self._closing:
                self._loop.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._waiting.clear()
            self.protocol.connection_lost(error)


@dataclass(slots=True)
class Record:
    """What the recorder was told of one request."""

    status: int
    fault: Fault | None
    detail: str
    client: str
    principal: str
    attempts: int
    received: int
    sent: int
    seconds: float
    upstream: str


@dataclass(slots=True)
class FakeRecorder:
    """Takes notes as the access log does: at once, because an exchange does not last."""

    records: list[Record] = field(default_factory=list)
    #: Who else wants to know.
    then: Callable[[Exchange], None] | None = None

    def record(self, exchange: Exchange) -> None:
        x = exchange
        self.records.append(
            Record(
                status=x.status,
                fault=x.fault,
                detail=x.detail,
                client=x.client.address,
                principal=x.principal,
                attempts=x.attempts,
                received=x.received,
                sent=x.sent,
                seconds=x.ended - x.started,
                upstream=x.upstream_name,
            )
        )
        if self.then is not None:
            self.then(exchange)
