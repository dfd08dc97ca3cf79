"""A container whose every answer has one right value: the keyed hash of each row.

``python -m tests.support.hashing PORT`` is the program, ``HashingBackend`` a process of it. The
key of the hashes has the model's name in it, which is what the path has before ``/score``: who
gives every deployment a path of its own can tell from an answer alone which of them computed it.

A request says how long its answer takes with the header ``X-Delay``, in seconds. SIGTERM is what it
should be: nobody new comes in, whoever is inside is answered with ``Connection: close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import cast

import uvloop

from tests.support.containers import free_port

_FIELD = re.compile(rb"\r\n(content-length|x-delay): *([0-9.]+)", re.IGNORECASE)
# Seconds after SIGTERM in which a connection that is kept may still bring its last request.
_PARTING = 3.0

Row = list[int]


def hash_of(row: Row, model: str) -> str:
    """What the container answers to a row."""
    key = f"the key of {model}".encode()
    return hashlib.blake2b(repr(row).encode(), key=key, digest_size=16).hexdigest()


def answer_to(path: str, body: bytes) -> bytes:
    """A whole answer, without its ``Connection`` line.

    :param path: such as ``/blue/score``.
    """
    model = path.strip("/").rpartition("/")[0]
    said = json.dumps([hash_of(row, model) for row in json.loads(body)["data"]]).encode()
    return b"Content-Type: application/json\r\nX-Model: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        model.encode(),
        len(said),
        said,
    )


class _Server:
    """What all connections share."""

    def __init__(self) -> None:
        self.open: set[_Connection] = set()
        self.stopping = False
        self._empty = asyncio.Event()

    async def run(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=512)
        print("ready", flush=True)  # noqa: T201 - whoever started it waits for this
        await stop.wait()
        self.stopping = True
        server.close()
        self.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._empty.wait()

    def leave(self, connection: _Connection | None = None) -> None:
        """A connection has ended, or none is left that could."""
        self.open -= {connection}
        if self.stopping and not self.open:
            self._empty.set()


class _Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""
        self._is_busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.leave(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        """Begin with the next request, if all of it has come."""
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = {name.lower(): value for name, value in _FIELD.findall(head)}
        length = int(fields.get(b"content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._is_busy = True
        answer = answer_to(head.split(b" ", 2)[1].decode(), rest[:length])
        delay = float(fields.get(b"x-delay", 0))
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._is_busy = False
        closing = self._server.stopping
        line = b"Connection: close\r\n" if closing else b""
        self._transport.write(b"HTTP/1.1 200 OK\r\n" + line + answer)
        if closing:
            self._transport.close()
        else:
            self._next()


class HashingBackend:
    """The program in a process of its own. Use as a context manager."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> HashingBackend:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hashing", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        with self.process.stdout as output:
            assert output.readline() == b"ready\n"

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.process.terminate()
        assert self.process.wait(_PARTING + 5) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self, pause: float = 0.0) -> None:
        """Stop, stay away for so many seconds, and come back at the same port."""
        self.stop()
        time.sleep(pause)
        self.start()


if __name__ == "__main__":
    uvloop.run(_Server().run(int(sys.argv[1])))
