"""A rush of scoring requests for the demo: as many as some connections can make in some seconds,
each with numbers of its own and each answer checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

CONNECTIONS = 64
# Seconds: of a rush, between two looks at it, and for the last answers to come.
SECONDS = 5.0
LOOK = 0.25
GRACE = 5.0
# After a connection that failed, before the next try.
_PAUSE = 0.1
# A prediction may be off by as much: rows that are scored together are added up in another order.
_CLOSE = 1e-6
_TAILS = 256
_NUMBERS = 10_000_000
_COLUMNS = 10

Predict = Callable[[list[list[float]]], Sequence[float]]
Watch = Callable[["Results"], None]


class Questions:
    """Bodies of requests, no two alike, and the prediction that belongs to each.

    The model is linear, so the predictions are known without asking it for each.
    """

    def __init__(self, predict: Predict) -> None:
        chance = random.Random(1)  # noqa: S311  no secret
        tails = [
            [round(chance.uniform(-0.1, 0.1), 6) for _ in range(_COLUMNS - 1)]
            for _ in range(_TAILS)
        ]
        at_zero = predict([[0.0, *tail] for tail in tails])
        at_one = predict([[1.0, *tail] for tail in tails])
        self._tails = [", ".join(map(repr, tail)).encode() for tail in tails]
        self._base = [float(value) for value in at_zero]
        self._slope = [float(b - a) for a, b in zip(at_zero, at_one, strict=True)]
        self._next = 0

    def __call__(self) -> tuple[bytes, float]:
        number = self._next = (self._next + 1) % _NUMBERS
        which = number % _TAILS
        body = b'{"data": [[0.%07d, %b]]}' % (number, self._tails[which])
        return body, self._base[which] + self._slope[which] * number / _NUMBERS


@dataclass(slots=True)
class Results:
    """Of a rush, so far. ``times`` are the seconds that each good answer took; ``failures`` are the
    other requests, by what became of them."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return len(self.times) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the good answers came; 0 without any."""
        if not self.times:
            return 0.0
        return sorted(self.times)[min(len(self.times) - 1, int(share * len(self.times)))]


class Rush:
    """One rush. ``head`` are request line and fields, but for the length of the body."""

    def __init__(
        self, address: tuple[str, int], head: bytes, ask: Callable[[], tuple[bytes, float]]
    ) -> None:
        self.head = head
        self.ask = ask
        self.results = Results()
        self.over = False
        self._address = address
        self._clients: set[_Client] = set()

    async def run(self, connections: int, seconds: float, watch: Watch) -> Results:
        """
        :param watch: is shown every now and then what came since it was shown the last time.
        """
        clients = [self._keep_going() for _ in range(connections)]
        await asyncio.gather(self._time(seconds, watch), *clients)
        return self.results

    def note(self, took: float, failure: str | None) -> None:
        """A request has ended. Good answers that come when the time is over do not count."""
        if failure is not None:
            self.results.failures[failure] += 1
        elif not self.over:
            self.results.times.append(took)

    async def _time(self, seconds: float, watch: Watch) -> None:
        start = looked = time.perf_counter()
        seen = 0
        # The loop's clock ticks in milliseconds: the last fraction of one would be many sleeps.
        while (left := start + seconds - looked) > 0.002:
            await asyncio.sleep(min(LOOK, left))
            now = time.perf_counter()
            watch(Results(now - looked, self.results.times[seen:], self.results.failures))
            looked, seen = now, len(self.results.times)
        self.results.seconds = looked - start
        self.over = True
        asyncio.get_running_loop().call_later(GRACE, self._give_up)

    def _give_up(self) -> None:
        for client in self._clients:
            client.give_up()

    async def _keep_going(self) -> None:
        """One connection, and another when it is closed, until the time is over."""
        loop = asyncio.get_running_loop()
        while not self.over:
            try:
                _, client = await loop.create_connection(lambda: _Client(self), *self._address)
            except OSError as error:
                self.note(0.0, f"cannot connect: {error.strerror or error}")
                await asyncio.sleep(_PAUSE)
            else:
                self._clients.add(client)
                await client.closed
                self._clients.discard(client)


class _Client(asyncio.Protocol):
    """Asks, and asks again as soon as there is the answer, on one connection."""

    def __init__(self, rush: Rush) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._rush = rush
        self._transport: asyncio.Transport
        self._parser: Any = httptools.HttpResponseParser(self)
        self._body = b""
        self._expected = 0.0
        self._since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._note("an answer that is not HTTP")
            self._transport.abort()

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._note(f"status {status}" if status != 200 else self._judge())
        if self._rush.over or not self._parser.should_keep_alive():
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._note("no answer")
        if not self.closed.done():
            self.closed.set_result(None)

    def give_up(self) -> None:
        """Wait no longer for an answer."""
        self._transport.abort()

    def _ask(self) -> None:
        body, self._expected = self._rush.ask()
        self._body = b""
        self._since = time.perf_counter()
        self._transport.write(
            b"%bContent-Length: %d\r\n\r\n%b" % (self._rush.head, len(body), body)
        )

    def _judge(self) -> str | None:
        """What is wrong with an answer, None if nothing is."""
        try:
            found = float(self._body[1:-1])
        except ValueError:
            return "an answer that is no prediction"
        return None if abs(found - self._expected) < _CLOSE else "a wrong prediction"

    def _note(self, failure: str | None) -> None:
        if self._since is not None:
            self._rush.note(time.perf_counter() - self._since, failure)
            self._since = None
