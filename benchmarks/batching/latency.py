"""What a front adds to the latency of a lonely request.

One blocking client sends one request at a time. wrk does not count the time in which it connects,
and the container closes every connection after its answer, so that every caller of the container
pays for connecting: here it is counted, and shown without it as well.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.batching.results import Latency, Spread
from benchmarks.batching.world import Target, rows

REQUESTS = 150

_seeds = itertools.count(50_000)


class _Client:
    """Keeps its connection as long as the server does."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: socket.socket | None = None

    def requests(self, count: int) -> list[bytes]:
        """Requests as bytes, all different, made before anything is timed."""
        target = self._target
        head = f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += "Content-Type: application/json\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
        bodies = [target.body(row) for row in rows(count, next(_seeds))]
        return [f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]

    def ask(self, request: bytes) -> tuple[float, float]:
        """Milliseconds to the end of the answer: in all, and of that without connecting.

        :raises SystemExit: the answer is not a 200.
        """
        begun = connected = time.perf_counter()
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._target.port), 30)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = time.perf_counter()
        self._connection.sendall(request)
        data = b""
        while True:
            piece = self._connection.recv(65536)
            data += piece
            head, end, body = data.partition(b"\r\n\r\n")
            if end and len(body) >= _length(head):
                break
            if not piece:
                raise SystemExit(f"{self._target.name}: the answer was cut short: {data!r}")
        done = time.perf_counter()
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{self._target.name}: unexpected answer: {data[:80]!r}")
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return (done - begun) * 1e3, (done - connected) * 1e3

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _length(head: bytes) -> int:
    """
    :raises SystemExit: the answer does not say how long it is.
    """
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise SystemExit(f"an answer without Content-Length: {head!r}")


def added(targets: Sequence[Target], count: int) -> list[Latency]:
    """Latency of each in short interleaved rounds, relative to the first, the container alone."""
    whole: dict[str, list[float]] = {target.name: [] for target in targets}
    bare: dict[str, list[float]] = {target.name: [] for target in targets}
    clients = {target.name: _Client(target) for target in targets}
    for client in clients.values():
        for request in client.requests(REQUESTS):
            client.ask(request)
    for _ in range(count):
        for name, client in clients.items():
            times = [client.ask(request) for request in client.requests(REQUESTS)]
            whole[name].append(median(time[0] for time in times))
            bare[name].append(median(time[1] for time in times))
    for client in clients.values():
        client.close()
    base = targets[0].name
    return [
        Latency(
            name=name,
            p50=Spread.of(whole[name]),
            added=_difference(whole, name, base),
            added_without_connecting=_difference(bare, name, base),
        )
        for name in whole
    ]


def _difference(times: dict[str, list[float]], name: str, base: str) -> Spread | None:
    if name == base:
        return None
    return Spread.of(own - of for own, of in zip(times[name], times[base], strict=True))
