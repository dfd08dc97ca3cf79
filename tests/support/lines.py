"""One connection of a client that wants to know exactly how it ends, plain or with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from typing import cast

from tests.support.raw import Answer, Closed

Address = tuple[str, int]
GOODBYE = 0.3


class Line(asyncio.Protocol):
    """Made by ``open_line``."""

    def __init__(self) -> None:
        self.port = 0
        self._buffer = b""
        self._ended = False
        self._reset = False
        self._waiting: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport
        self._secure = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.port = transport.get_extra_info("sockname")[1]
        self._secure = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._reset = isinstance(error, ConnectionError)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def is_open(self) -> bool:
        """Whether a request can be sent: the other side has neither ended the connection nor said
        anything unasked. What the kernel has and the loop has not seen yet counts.

        :raises AssertionError: something came that nobody asked for.
        """
        socket = self._transport.get_extra_info("socket")
        poll = select.poll()
        if not self._ended:
            poll.register(socket.fileno(), select.POLLIN | select.POLLRDHUP)
            if poll.poll(0):
                # The end, or with TLS a record that is not for us: the loop reads it.
                await asyncio.sleep(0.002)
        assert not self._buffer, f"nobody asked for {self._buffer[:200]!r}"
        return not self._ended

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    async def answer(self) -> Answer:
        """The answer to what was sent.

        :raises Closed: the connection ended before it was complete.
        :raises AssertionError: it is not strict HTTP/1.1.
        """
        while (found := _parse(self._buffer)) is None:
            if self._ended:
                raise Closed(self._buffer, self._reset)
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        answer, used = found
        self._buffer = self._buffer[used:]
        return answer

    def close(self) -> None:
        """Say that nothing more is asked. With TLS the other side has ``GOODBYE`` seconds to say
        so, too."""
        if self._secure:
            self._transport.close()
            asyncio.get_running_loop().call_later(GOODBYE, self._transport.abort)
        else:
            self._transport.abort()


async def open_line(
    address: Address, tls: ssl.SSLContext | None = None, name: str | None = None
) -> Line:
    """Connect.

    :param name: what the client calls the server, with TLS.
    :raises OSError: that was not possible; `ssl.SSLError` is one.
    """
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(
        Line, *address, ssl=tls, server_hostname=name if tls else None
    )
    return line


def _parse(data: bytes) -> tuple[Answer, int] | None:
    """The answer at the beginning, and its length; None if it is not there as a whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    assert version == "HTTP/1.1", first
    assert len(code) == 3, first
    headers = [
        (name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)
    ]
    fields = dict(headers)
    assert len([name for name in fields if name in ("content-length", "transfer-encoding")]) <= 1
    begin = end + 4
    if "transfer-encoding" in fields:
        assert fields["transfer-encoding"] == "chunked", headers
        with contextlib.suppress(ValueError):
            return _chunked(data, begin, Answer(int(code), reason, headers, b""))
        return None
    length = int(fields.get("content-length", "0"))
    if len(data) - begin < length:
        return None
    body = data[begin : begin + length]
    return Answer(int(code), reason, headers, body), begin + length


def _chunked(data: bytes, at: int, head: Answer) -> tuple[Answer, int]:
    """
    :raises ValueError: something is missing.
    """
    body = b""
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        at = end + 2 + size
        if data[at : at + 2] != b"\r\n":
            raise ValueError
        body += data[end + 2 : at]
        at += 2
        if not size:
            return Answer(head.status, head.reason, head.headers, body), at
